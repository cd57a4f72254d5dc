"""Files that a crash or a power cut leaves whole: the old content or the new.

What is written has a name of its own until it is on the disk: `.<16 digits>.part`, made new, so that nobody can have
put a link there before. A writer that was killed leaves it behind; `remove_leftovers` removes it later.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFTOVER = re.compile(r"\.[0-9a-f]{16}\.part")
WINDOWS = os.name == "nt"
STALE = 3600  # seconds after which a writer has ended, however large its file


def expanded(path: str | os.PathLike) -> Path:
    """Returns a path without its `~`; of a user who is not known, or has no home, as it is."""
    return Path(os.path.expanduser(path))


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write(path: Path, content: str | bytes):
    """Replaces the content of a file in one durable step."""
    with replacement(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Yields a new, empty file that replaces `path` in one durable step when the block ends; if it fails, `path` stays
    what it was."""
    part = scratch_name(path.parent)
    open(part, "xb").close()
    try:
        yield part
        sync_file(part)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a new, empty folder that becomes `path` in one durable step when the block ends; if it fails, nothing is
    left.

    Raises:
        OSError: `path` is a folder that holds something.
    """
    make_folder(path.parent)
    if WINDOWS and path.is_dir():
        path.rmdir()  # a rename replaces an empty folder elsewhere only
    part = scratch_name(path.parent)
    part.mkdir()
    try:
        yield part
        sync_tree(part)
        part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(path.parent)


def check_new(folder: str | os.PathLike) -> Path:
    """Returns the path of a folder that is to be written.

    Raises:
        ValueError: it is a file, or a folder that holds something.
    """
    folder = expanded(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"`output` must be an empty folder, or a new one, got {folder}.")
    return folder


def append(path: Path, text: str):
    """Adds `text` to the end of a file, durably."""
    is_new = not path.exists()
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)


def make_folder(folder: Path):
    """Makes a folder, and those above it that are missing, durably."""
    missing = [path for path in [folder, *folder.parents] if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def scratch_name(folder: Path) -> Path:
    """Returns a path in `folder` that nobody can guess, and that `remove_leftovers` knows."""
    return folder / f".{secrets.token_hex(8)}.part"


def is_leftover(path: Path) -> bool:
    """Returns whether a file or folder is one that is being written, or that a killed writer left behind."""
    return bool(LEFTOVER.fullmatch(path.name))


def remove_leftovers(folder: Path, age: float = STALE):
    """Removes what killed writers left in a folder.

    Args:
        age: seconds that it must be unchanged; 0 in a folder that nobody else writes to.
    """
    for path in filter(is_leftover, folder.iterdir() if folder.is_dir() else ()):
        with suppress(OSError):  # its writer, or another process that removes it
            if age and time.time() - path.lstat().st_mtime < age:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def sync_file(path: Path):
    """Waits until the content of a file is on the disk."""
    with open(path, "r+b" if WINDOWS else "rb") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())


def sync_folder(folder: Path):
    """Waits until the names in a folder are on the disk, so that a rename in it survives a power cut; some network
    file systems cannot say that of a folder. Windows opens no folders; NTFS has a journal of its names."""
    if WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path):
    """Waits until a folder is on the disk with all that it holds."""
    for path in folder.rglob("*"):
        if path.is_file():
            sync_file(path)
        else:
            sync_folder(path)
    sync_folder(folder)
