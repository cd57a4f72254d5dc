"""Two real processes and one folder: the second is refused and told who the first is, until that ends in any way."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from genhub.utils.locks import LOCK, FolderInUse, check_unlocked, locked

HOLD = """
import sys, time, os
from pathlib import Path
from genhub.utils.locks import locked
with locked(Path(sys.argv[1])):
    if sys.argv[2] == "fork" and not os.fork():
        time.sleep(60)  # a worker, which has inherited all descriptors
        os._exit(0)
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def hold(tmp_path):
    """Starts a process that locks the folder until it reads a line."""
    started = []

    def start(kind: str = "plain"):
        command = [sys.executable, "-c", HOLD, str(tmp_path / "run"), kind]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(process := subprocess.Popen(command, **pipes, start_new_session=True))
        assert process.stdout.readline() == "locked\n"
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_second_is_refused_with_the_number_of_the_first_and_gets_the_folder_when_that_ends(hold, tmp_path):
    first = hold()

    for attempt in (check_unlocked, lambda folder: locked(folder).__enter__()):
        with pytest.raises(FolderInUse, match=f"The folder .*/run is in use by process {first.pid} of this machine"):
            attempt(tmp_path / "run")
    first.communicate("\n")

    check_unlocked(tmp_path / "run")
    assert [*(tmp_path / "run").iterdir()] == []  # nothing stays of a lock


def test_a_lock_ends_with_its_process_though_a_worker_of_it_lives_on(hold, tmp_path):
    first = hold("fork")
    with pytest.raises(FolderInUse):
        check_unlocked(tmp_path / "run")

    first.kill()
    first.wait()

    began = time.monotonic()
    with locked(tmp_path / "run", wait=0):
        assert time.monotonic() - began < 5


def test_one_who_waits_gets_the_folder(hold, tmp_path):
    first = hold()
    first.stdin.write("\n")
    first.stdin.flush()

    with locked(tmp_path / "run", wait=20):
        pass


def test_a_process_may_lock_a_folder_that_it_has_locked_by_any_name(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")

    with locked(tmp_path / "run"), locked(tmp_path / "link"):
        with locked(tmp_path / "run"):
            pass
        assert (tmp_path / "run" / LOCK).read_text().split()[0] == str(os.getpid())


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "secret")

    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path / "run"):
        pass

    assert (tmp_path / "secret").read_text() == "mine"
