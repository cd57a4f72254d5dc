"""Runs in processes of their own: forked from this one, so that they need no second to import."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import datasets  # noqa: F401  (imported here, so that forked children have it)
import torch
from safetensors.torch import load_file

import genhub.training.run  # noqa: F401


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Returns every tensor of every component of a repository."""
    return {
        f"{path.parent.name}.{name}": tensor
        for path in sorted(folder.glob("*/*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def same_bits(a: Path, b: Path) -> bool:
    """Whether two repositories hold the same weights, bit for bit."""
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and len(a) > 0 and all(torch.equal(a[name], b[name]) for name in a)


def start(action, processes: int = 1, log: Path | None = None) -> list[int]:
    """Forks `processes` processes that form one distributed world, runs `action` in each, and returns their ids."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    children = []
    for rank in range(processes):
        child = os.fork()
        if child:
            children.append(child)
            os.setpgid(child, children[0])  # the group is there before the next one joins it
            continue
        code = 1
        try:
            os.setpgid(0, children[0] if children else 0)
            if log is not None:
                handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(handle, 1)
                os.dup2(handle, 2)
                sys.stdout = sys.stderr = open(handle, "w", buffering=1)
            if processes > 1:
                os.environ |= {
                    "ACCELERATE_USE_CPU": "true",
                    "WORLD_SIZE": str(processes),
                    "LOCAL_WORLD_SIZE": str(processes),
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port,
                }
            action()
            code = 0
        except SystemExit as leave:
            code = leave.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return children


def wait(children: list[int], timeout: float = 120) -> list[int]:
    """Waits for processes and returns their exit codes (negative for a signal); kills them when it takes too long."""
    codes, deadline = [], time.monotonic() + timeout
    for child in children:
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes.append(os.waitstatus_to_exitcode(status))
                break
            if time.monotonic() > deadline:
                kill(children)
            time.sleep(0.005)
    return codes


def kill(children: list[int], number: int = signal.SIGKILL):
    """Sends a signal to all processes of a world."""
    for child in children:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            pass


def run(action, processes: int = 1, log: Path | None = None) -> list[int]:
    """Runs `action` in a world of its own to its end, and returns the exit codes."""
    return wait(start(action, processes, log))
