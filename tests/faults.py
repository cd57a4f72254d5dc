"""Fails at a chosen call that writes, in the manner of SQLite's tests (https://sqlite.org/testing.html, Sec. 3).

    for outcome in every_call(action, prepare, "power"):
        check(outcome.root)

An action runs in a forked child, whose n-th call that writes under a folder fails, for n = 1, 2, ... until it ends
before its n-th call. Counted are Python's calls: files opened for writing, write, fsync, rename, link, unlink, mkdir,
rmdir, truncate. Writers in C++ or Rust are seen when what they wrote is synced: they open no file that is counted.
"""

import builtins
import errno
import io
import itertools
import json
import os
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FAULTS = {
    "error": "the call fails, and no other",
    "full": "the disk is full from this call on: what needs room fails, removing does not",
    "kill": "the process is killed before the call",
    "power": "the power is cut before the call: a name or content that was not synced is lost",
    "power, names kept": "the same on a file system that keeps names: files are there, and empty if not synced",
}
KILLED = 137
NEEDS_ROOM = ("open", "write", "rename", "replace", "link", "symlink", "mkdir", "sendfile", "copy_file_range")
FREES = ("unlink", "remove", "rmdir", "truncate", "ftruncate")
ON_DESCRIPTORS = ("write", "fsync", "fdatasync", "ftruncate", "sendfile", "copy_file_range")
REAL = {name: getattr(os, name) for name in {*NEEDS_ROOM, *FREES, *ON_DESCRIPTORS, "close"} if hasattr(os, name)}
REAL_OPEN = builtins.open
Key = tuple[int, int]  # device and inode


@dataclass
class Outcome:
    """How a child ended.

    Attributes:
        code: its exit code; `KILLED` after a kill or a power cut.
        calls: the calls that it made, as "name path"; the last one is that which failed, if it was `reached`.
        error: the traceback or message of an action that raised.
        root: the folder that it left.
    """

    code: int
    root: Path
    calls: list[str] = field(default_factory=list)
    reached: bool = True
    error: str = ""

    @property
    def call(self) -> str:
        return self.calls[-1] if self.calls else ""


def every_call(
    action: Callable[[Path], Any],
    prepare: Callable[[], Path],
    fault: str = "error",
    numbers: Iterable[int] | None = None,
) -> Iterator[Outcome]:
    """Yields the outcome of `action(root)` with a fault at its n-th call, for all n in which it makes as many.

    Args:
        prepare: makes a new root, before each action.
        numbers: the n to try, in ascending order; all if None.
    """
    for number in itertools.count(1) if numbers is None else numbers:
        outcome = inject(action, prepare(), number, fault)
        if not outcome.reached:
            return
        yield outcome


def calls_of(action: Callable[[Path], Any], root: Path) -> list[str]:
    """Returns the calls that `action(root)` makes when none fails.

    Raises:
        AssertionError: it raises.
    """
    outcome = inject(action, root, 10**9)
    assert outcome.code == 0, outcome.error
    return outcome.calls


def inject(action: Callable[[Path], Any], root: Path, number: int, fault: str = "error") -> Outcome:
    """Runs `action(root)` in a forked child with a fault at its n-th call that writes under `root`."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        _run(action, root, number, fault, write)
    os.close(write)
    with open(read, "rb") as pipe:
        told = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Outcome(code, root, **json.loads(told or "{}"))


def _run(action, root: Path, number: int, fault: str, pipe: int):
    """The child: runs the action, tells how it went through `pipe`, and ends."""
    told, code = {}, 0
    disk = Disk(root, number, fault, lambda: os.write(pipe, json.dumps({"calls": disk.calls}).encode()))
    try:
        disk.mount()
        action(root)
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 1
    except BaseException as error:
        code, told = 1, {"error": "".join(traceback.format_exception(error))}
    finally:
        disk.unmount()
        told |= {"calls": disk.calls[:number], "reached": len(disk.calls) >= number}
        os.write(pipe, json.dumps(told).encode())
        os._exit(code)


class Disk:
    """Counts the calls of this process that write under `root`, lets one fail, and knows what is durable.

    What is durable: of a file the content at its last fsync, of a folder the names at its last fsync. Each has a
    descriptor that stays open, so that no other file gets its number.
    """

    def __init__(self, root: Path, number: int, fault: str, tell: Callable[[], Any]):
        assert fault in FAULTS, fault
        self.root, self.number, self.fault, self.tell = Path(os.path.realpath(root)), number, fault, tell
        self.calls: list[str] = []
        self.contents: dict[Key, bytes] = {}
        self.names: dict[Key, dict[str, Key]] = {}
        self.pins: dict[Key, int] = {}
        if fault.startswith("power"):
            for path in [self.root, *self.root.rglob("*")]:
                if not path.is_symlink():
                    self._sync(path)

    def mount(self):
        """Takes the place of Python's calls."""
        for name in REAL.keys() - {"open", "close"}:
            setattr(os, name, self._counted(name))
        os.open, builtins.open, io.open = self._os_open, self._open, self._open

    def unmount(self):
        for name, call in REAL.items():
            setattr(os, name, call)
        builtins.open = io.open = REAL_OPEN

    def before(self, name: str, path: str):
        """Counts a call, and lets it fail if it is its turn."""
        self.calls.append(f"{name} {os.path.relpath(path, self.root)}")
        is_full = self.fault == "full" and len(self.calls) > self.number and name in NEEDS_ROOM
        if len(self.calls) != self.number and not is_full:
            return
        if self.fault in ("error", "full"):
            if self.fault == "full" and name not in NEEDS_ROOM:
                self.number += 1  # the disk is full at the next call that needs room
                return
            number = errno.ENOSPC if name in NEEDS_ROOM else errno.EIO
            raise OSError(number, os.strerror(number), path)
        self.unmount()
        if self.fault.startswith("power"):
            self._cut_power()
        self.tell()
        os._exit(KILLED)

    def _counted(self, name: str) -> Callable:
        def call(*args, **kwargs):
            path = self._path_of(name, args, kwargs)
            if path is None:
                return REAL[name](*args, **kwargs)
            self.before(name, path)
            result = REAL[name](*args, **kwargs)
            if name in ("fsync", "fdatasync") and self.fault.startswith("power"):
                self._sync(Path(path), args[0])
            return result

        return call

    def _path_of(self, name: str, args: tuple, kwargs: dict) -> str | None:
        """The path under the root that a call is about, None for another one; the target of two paths."""
        if name in ON_DESCRIPTORS:
            place = args[1] if name == "copy_file_range" else args[0]
            return self._inside(os.readlink(f"/proc/self/fd/{place}"))
        two = name in ("rename", "replace", "link", "symlink")
        place, folder = (args[1], kwargs.get("dst_dir_fd")) if two else (args[0], kwargs.get("dir_fd"))
        if isinstance(place, int):  # os.truncate(descriptor)
            return self._inside(os.readlink(f"/proc/self/fd/{place}"))
        return self._inside(place, folder)

    def _inside(self, path, folder: int | None = None) -> str | None:
        path = os.fsdecode(path)
        base = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
        path = os.path.join(base, path)
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        return path if Path(path).is_relative_to(self.root) else None

    def _os_open(self, path, flags, mode=0o777, *, dir_fd=None):
        is_written = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if is_written and (place := self._inside(path, dir_fd)) is not None:
            self.before("open", place)
        return REAL["open"](path, flags, mode, dir_fd=dir_fd)

    def _open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        is_path, is_written = not isinstance(file, int), set(mode) & set("wxa+")
        place = None
        if is_written and opener is None:
            place = self._inside(file if is_path else os.readlink(f"/proc/self/fd/{file}"))
        if place is None:
            return REAL_OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if is_path:
            self.before("open", place)
        raw = _Raw(self, place, file, mode.replace("b", "").replace("t", ""), closefd)
        if buffering == 0:
            return raw
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding, errors, newline)

    def _sync(self, path: Path, descriptor: int | None = None):
        """Makes durable what a file or folder holds now."""
        if not path.exists():  # the descriptor of a file that was removed
            return
        pin = REAL["open"](path, os.O_RDONLY)
        key = _key(os.fstat(pin))
        if key in self.pins:
            REAL["close"](pin)
        else:
            self.pins[key] = pin
        if path.is_dir():
            self.names[key] = {entry.name: _key(entry.stat(follow_symlinks=False)) for entry in os.scandir(path)}
            for entry in os.scandir(path):  # so that its number is not given to another file
                if (known := _key(entry.stat(follow_symlinks=False))) not in self.pins and not entry.is_symlink():
                    self.pins[known] = REAL["open"](entry.path, os.O_RDONLY)
        else:
            self.contents[key] = path.read_bytes()

    def _cut_power(self):
        """Puts the root into the state that a power cut leaves."""
        if self.fault == "power":
            kept = self._durable(_key(os.stat(self.root)), Path())
        else:
            kept = {path.relative_to(self.root): self._left_of(path) for path in self.root.rglob("*")}
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path, content in sorted(kept.items()):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                (self.root / path).mkdir(exist_ok=True)
            else:
                (self.root / path).write_bytes(content)

    def _durable(self, folder: Key, path: Path) -> dict[Path, bytes | None]:
        """What is durable of a folder: path -> content, None for a folder."""
        kept: dict[Path, bytes | None] = {}
        for name, key in self.names.get(folder, {}).items():
            is_folder = key in self.names or (key in self.pins and os.path.isdir(f"/proc/self/fd/{self.pins[key]}"))
            kept[path / name] = None if is_folder else self.contents.get(key, b"")
            if is_folder:
                kept |= self._durable(key, path / name)
        return kept

    def _left_of(self, path: Path) -> bytes | None:
        if path.is_dir():
            return None
        durable, content = self.contents.get(_key(path.stat()), b""), path.read_bytes()
        return durable if content.startswith(durable) else b""


class _Raw(io.FileIO):
    """A file whose writes are counted."""

    def __init__(self, disk: Disk, path: str, *args):
        super().__init__(*args)
        self.disk, self.path = disk, path

    def write(self, data, /):
        self.disk.before("write", self.path)
        return super().write(data)

    def truncate(self, size=None, /):
        self.disk.before("truncate", self.path)
        return super().truncate(size)


def _key(status: os.stat_result) -> Key:
    return status.st_dev, status.st_ino
