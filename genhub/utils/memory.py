"""The memory of this machine and of this process, in bytes."""

import sys

import psutil


def physical_memory() -> int:
    """Returns the memory of this machine."""
    return psutil.virtual_memory().total


def peak_memory() -> int:
    """Returns the most memory that this process has had resident."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
