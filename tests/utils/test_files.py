"""A file that is written is whole, and on the disk."""

import hashlib
import os

import pytest

from genhub.utils.files import atomic_write, sha256, sync_tree


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, str]]:
    """What is flushed and what is renamed from now on, in order."""
    calls, fsync, replace = [], os.fsync, os.replace

    def recorded_fsync(descriptor):
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def recorded_replace(source, target):
        calls.append(("replace", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return calls


@pytest.mark.parametrize("content", ["text, é", b"\x00bytes", ""])
def test_a_file_is_flushed_then_renamed_then_its_folder_flushed(content, calls, tmp_path):
    path = tmp_path / "file.json"

    atomic_write(path, content)

    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert calls == [("fsync", f"{path}.part"), ("replace", str(path)), ("fsync", str(tmp_path))]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    atomic_write(path, "old")

    def fail(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, "new")

    assert path.read_text() == "old"


def test_a_tree_is_flushed_with_every_file_and_folder_in_it(calls, tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("x", "a/y", "a/b/z"):
        (tmp_path / name).write_text(name)

    sync_tree(tmp_path)

    expected = {tmp_path, *tmp_path.rglob("*")}
    assert {path for _, path in calls} == set(map(str, expected))


def test_sha256_is_that_of_the_content(tmp_path):
    content = bytes(range(256)) * 9999
    (tmp_path / "file").write_bytes(content)

    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
