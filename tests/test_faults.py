"""The tests of crashes are no better than the crashes that they make: these are known by their outcome."""

import os

import pytest
from faults import FAULTS, KILLED, calls_of, every_call


def write(root):
    """Writes a file that replaces another, with every sync that this takes."""
    with open(root / "part", "wb") as file:
        file.write(b"new")
        file.flush()
        os.fsync(file.fileno())
    os.replace(root / "part", root / "file")
    folder = os.open(root, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def write_carelessly(root):
    (root / "part").write_text("new")
    (root / "part").rename(root / "file")
    (root / "folder").mkdir()
    (root / "folder/file").write_text("new")


@pytest.fixture
def prepare(tmp_path):
    made = []

    def make():
        made.append(root := tmp_path / f"root-{len(made)}")
        root.mkdir()
        (root / "file").write_text("old")
        return root

    return make


def test_every_call_that_writes_is_counted_once_and_in_order(prepare):
    calls = ["open part", "write part", "fsync part", "replace file", "fsync ."]

    assert calls_of(write, prepare()) == calls
    assert [outcome.call for outcome in every_call(write, prepare)] == calls


@pytest.mark.parametrize("fault", FAULTS)
def test_a_careful_writer_leaves_the_old_content_or_the_new_and_a_careless_one_may_leave_none(prepare, fault):
    careful = [(outcome.root / "file").read_text() for outcome in every_call(write, prepare, fault)]
    careless = [(outcome.root / "file").read_text() for outcome in every_call(write_carelessly, prepare, fault)]

    assert set(careful) <= {"old", "new"}
    assert careful[0] == "old"
    assert ("" in careless) == (fault == "power, names kept")
    if fault == "power":
        assert set(careless) == {"old"}  # no name was synced


@pytest.mark.parametrize("fault", FAULTS)
def test_a_child_tells_how_it_ended(prepare, fault):
    for outcome in every_call(write, prepare, fault):
        if fault in ("error", "full"):
            assert outcome.code == 1 or (fault == "full" and "fsync" in outcome.call)
            assert "No space left" in outcome.error or "Input/output" in outcome.error or outcome.code == 0
        else:
            assert outcome.code == KILLED
        assert (outcome.root / "file").exists()


def test_a_power_cut_loses_names_that_were_not_synced_or_keeps_them_without_content(prepare):
    lost = list(every_call(write_carelessly, prepare, "power"))[-1].root
    kept = list(every_call(write_carelessly, prepare, "power, names kept"))[-1].root

    assert sorted(path.name for path in lost.rglob("*")) == ["file"]
    assert sorted(path.name for path in kept.rglob("*")) == ["file", "file", "folder"]
    assert (kept / "folder/file").read_bytes() == b""
