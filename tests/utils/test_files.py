"""A file that is written is whole, and on the disk; nobody can tell beforehand by what name."""

import hashlib
import os
import re
import time
from pathlib import Path

import pytest
from faults import FAULTS, calls_of, every_call

import genhub
from genhub.utils.files import (
    STALE,
    append,
    atomic_write,
    is_leftover,
    make_folder,
    new_folder,
    remove_leftovers,
    scratch_name,
    sha256,
    sync_tree,
)


def write_folder(path):
    with new_folder(path) as part:
        (part / "a").write_text("new")
        (part / "b").mkdir()
        (part / "b/c").write_text("new")


def state_of(path):
    """Content of a file, or of a folder by names; None if there is nothing."""
    if path.is_dir():
        return {p.relative_to(path).as_posix(): p.read_text() for p in path.rglob("*") if p.is_file()}
    return path.read_text() if path.exists() else None


WRITERS = {  # action, the state before and after it
    "replace": (lambda root: atomic_write(root / "file", "new"), "file", "old", "new"),
    "create": (lambda root: atomic_write(root / "other", b"new"), "other", None, "new"),
    "new folder": (lambda root: write_folder(root / "x/y"), "x/y", None, {"a": "new", "b/c": "new"}),
    "append": (lambda root: append(root / "file", "er\n"), "file", "old", "older\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WRITERS)
def test_wherever_a_writer_fails_it_leaves_the_old_or_the_new_and_no_other_file(name, fault, tmp_path):
    action, target, old, new = WRITERS[name]
    made = []

    def prepare():
        made.append(root := tmp_path / f"{len(made)}")
        root.mkdir()
        (root / "file").write_text("old")
        return root

    states = []
    for outcome in every_call(action, prepare, fault):
        states.append(state_of(outcome.root / target))
        others = {path for path in outcome.root.iterdir() if path.name not in ("file", "other", "x")}
        assert all(map(is_leftover, others))
        assert not others or fault not in ("error", "full")
        remove_leftovers(outcome.root, age=0)
        if name in ("replace", "create") or states[-1] != new:
            action(outcome.root)  # and the next one succeeds
        assert name == "append" or state_of(outcome.root / target) == new

    assert {repr(state) for state in states} <= {repr(old), repr(new)}
    assert states[0] == old
    whole = prepare()
    calls_of(action, whole)
    assert state_of(whole / target) == new


def test_when_a_writer_has_ended_its_file_survives_a_power_cut(tmp_path):
    def write_then_lose_power(root):
        make_folder(root / "a/b")
        atomic_write(root / "a/b/file", "new")
        append(root / "a/b/log", "line\n")
        append(root / "a/b/log", "line\n")
        write_folder(root / "a/c")
        (root / "last").touch()

    calls = calls_of(write_then_lose_power, tmp_path)
    assert calls[-1] == "open last"
    for fault in ("power", "power, names kept"):
        (root := tmp_path / fault).mkdir()
        (outcome,) = every_call(write_then_lose_power, lambda root=root: root, fault, [len(calls)])

        content = {"a/b/file": "new", "a/b/log": "line\nline\n", "a/c/a": "new", "a/c/b/c": "new"}
        assert state_of(outcome.root) == content


def test_a_link_in_the_place_of_a_half_written_file_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("mine")
    for name in ("file.part", ".file.part", "file.tmp"):
        (tmp_path / name).symlink_to(tmp_path / "secret")
    (tmp_path / "file").symlink_to(tmp_path / "secret")

    atomic_write(tmp_path / "file", "new")

    assert (tmp_path / "secret").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()
    assert len({scratch_name(tmp_path) for _ in range(100)}) == 100


def test_a_name_that_is_taken_is_not_written_to(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)  # as if it could be guessed
    scratch_name(tmp_path).symlink_to(tmp_path / "secret")

    with pytest.raises(FileExistsError):
        atomic_write(tmp_path / "file", "new")

    assert (tmp_path / "secret").read_text() == "mine"


def test_what_killed_writers_left_is_removed_but_not_what_is_being_written(tmp_path):
    old, new, other = scratch_name(tmp_path), scratch_name(tmp_path), tmp_path / "notes.part"
    old.mkdir()
    (old / "file").touch()
    new.touch()
    other.touch()
    past = time.time() - STALE - 1
    os.utime(old, (past, past))
    os.utime(other, (past, past))

    remove_leftovers(tmp_path)
    assert {*tmp_path.iterdir()} == {new, other}
    remove_leftovers(tmp_path, age=0)
    assert {*tmp_path.iterdir()} == {other}


def test_files_have_the_rights_that_the_process_gives(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", "new")
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """What is flushed from now on, in order."""
    calls, fsync = [], os.fsync

    def recorded_fsync(descriptor):
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    return calls


WRITES = re.compile(
    r"\.write_(text|bytes)\(|\bopen\([^)]*[\"'][wax]b?\+?[\"']|\bos\.(replace|rename|link|write)\(|\.rename\(|\.touch\("
    r"|\bsave_file\(|\bshutil\.(copy|move)|\b(np|torch)\.save\(|\.to_parquet\(|\.savefig\(|\.save\([a-z]*(path|folder)"
)
KNOWN = {  # file -> what it writes by itself, and where
    "browser/write.py": "a page, in a new folder",
    "commands/console.py": "nothing: what a quiet command says goes to the null device",
    "commands/demo.py": "a Space, in a new folder",
    "commands/page.py": "a page, in a new folder",
    "plotting/charts.py": "a picture, into memory",
    "repository/replace.py": "hard links in place of files",
    "repository/save.py": "a new version, in `.saving`",
    "training/callbacks.py": "an array, into memory",
    "training/checkpoint.py": "a checkpoint, in a new folder; the name of a damaged one",
    "training/feature_classifier.py": "a data set, in a new folder",
    "training/run_folder.py": "an array, into memory",
    "utils/cache.py": "an entry, into a replacement",
    "utils/files.py": "everything",
    "utils/locks.py": "the owner, into the lock",
}


def test_nothing_is_written_but_by_the_functions_that_leave_the_old_or_the_new():
    root = Path(genhub.__file__).parent
    found = {path.relative_to(root).as_posix() for path in root.rglob("*.py") if WRITES.search(path.read_text())}

    assert found == KNOWN.keys()


def test_a_tree_is_flushed_with_every_file_and_folder_in_it(calls, tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("x", "a/y", "a/b/z"):
        (tmp_path / name).write_text(name)

    sync_tree(tmp_path)

    expected = {tmp_path, *tmp_path.rglob("*")}
    assert set(calls) == set(map(str, expected))


def test_sha256_is_that_of_the_content(tmp_path):
    content = bytes(range(256)) * 9999
    (tmp_path / "file").write_bytes(content)

    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
