"""One writer of a folder at a time: the second is refused, and told who the first is.

The lock is one of the operating system (flock, by `filelock`), so it ends with its process, however that ends; the
file `.genhub.lock` of a killed one stays and means nothing. On a network file system the lock holds for all machines
if the system passes it on: NFS does since Linux 2.6.12, unless mounted with `nolock` or `local_lock=flock`; a command
that waits there while another ends may, for a moment, be let in beside a third. Where there are no locks, a warning
says so.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from genhub.utils.files import make_folder

logger = logging.getLogger(__name__)
LOCK = ".genhub.lock"
UNSUPPORTED = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
PATIENCE = 0.5  # seconds to wait for one who only looks whether a folder is locked, and for the words of the owner


class FolderInUse(ValueError):
    """A folder that another process writes to; says which."""


@contextmanager
def locked(folder: Path, wait: float = PATIENCE) -> Iterator[None]:
    """Keeps other processes from writing to `folder`, which is made if missing, for as long as the block lasts.

    A thread may lock a folder again that it has locked.

    Args:
        wait: seconds.

    Raises:
        FolderInUse: another process has locked it, and goes on.
    """
    make_folder(folder)
    lock = FileLock(os.path.join(os.path.realpath(folder), LOCK), is_singleton=True, fallback_to_soft=False)
    try:
        lock.acquire(timeout=wait, poll_interval=0.02)
    except Timeout:
        raise FolderInUse(f"The folder {folder} is in use by {_owner(folder)}, which writes to it.") from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        logger.warning("The folder %s cannot be locked (%s): no other command may write to it.", folder, error)
        yield
        return
    try:
        if lock.lock_counter == 1:
            _say_who(folder)
        yield
    finally:
        if lock.lock_counter == 1:  # one who waits for the file without a name sees that, and makes another
            with suppress(OSError):
                (folder / LOCK).unlink()
        lock.release()


def check_unlocked(folder: Path):
    """Raises FolderInUse if another process has locked a folder."""
    if (folder / LOCK).exists():
        with locked(folder):
            pass


def _say_who(folder: Path):
    with suppress(OSError):
        descriptor = os.open(folder / LOCK, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0))
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {socket.gethostname()}\n")


def _owner(folder: Path) -> str:
    """Returns words for the process that has locked a folder; waits for one that has just done so."""
    host, end = socket.gethostname(), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(OSError, ValueError):
            number, where = (folder / LOCK).read_text(encoding="utf-8").split()
            if where != host:
                return f"process {int(number)} of {where}"
            if psutil.pid_exists(int(number)):
                return f"process {int(number)} of this machine"
        time.sleep(0.02)
    return "another process"
