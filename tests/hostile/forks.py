"""Cases in forks of this process, which has imported everything, each with limits of time and memory.

A fork runs cases one after the other. When it dies, the case that it was at is to blame, and another one goes on.
"""

import json
import os
import resource
import select
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

Case = tuple[str, int]  # a kind, and the number of a mutation of it
SECONDS = 10  # of processor time that a case may take
WAIT = 30  # seconds that it may take by the clock, of a machine that does other things as well
MEMORY = 2 << 30  # bytes that it may take beyond those of the process it is forked from
CASES = 50  # of a fork


@dataclass(frozen=True)
class Verdict:
    """The outcome of a case: `equal` and `other` are right, `refused` is one line, `fell` is wrong.

    Args:
        what: was changed.
        why: the line of a refusal, or what is wrong.
        seconds: that it took.
    """

    kind: str
    number: int
    what: str
    outcome: str
    why: str = ""
    seconds: float = 0.0


def run(judge: Callable[[Case], Iterator[Verdict]], cases: Sequence[Case], processes: int = 2) -> Iterator[Verdict]:
    """Yields the verdict of every case, in the order in which they end.

    Args:
        judge: (case) -> the case as it begins, `started`, and its verdict.
    """
    waiting, running = list(cases), {}
    while waiting or running:
        while waiting and len(running) < processes:
            part, waiting = waiting[:CASES], waiting[CASES:]
            read, child = _fork(judge, part)
            running[read] = (child, part, b"", None)
        for read in select.select([*running], [], [])[0]:
            child, part, rest, last = running.pop(read)
            if content := os.read(read, 1 << 20):
                *lines, rest = (rest + content).split(b"\n")
                for last in (Verdict(**json.loads(line)) for line in lines):
                    if last.outcome != "started":
                        part.remove((last.kind, last.number))
                        yield last
                running[read] = (child, part, rest, last)
                continue
            os.close(read)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            _kill_group(child)
            if part:
                last = last if last and (last.kind, last.number) == part[0] else Verdict(*part[0], "", "")
                yield replace(last, outcome="fell", why=_death(status))
                waiting[:0] = part[1:]


def _fork(judge: Callable[[Case], Iterator[Verdict]], cases: Sequence[Case]) -> tuple[int, int]:
    """Forks a process that writes the verdicts on cases into a pipe; returns the pipe and the process."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return read, child
    code = 1
    try:
        os.setsid()
        os.close(read)
        _limit_memory()
        for case in cases:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.setitimer(signal.ITIMER_REAL, WAIT)
            for verdict in judge(case):
                os.write(write, json.dumps(asdict(verdict)).encode() + b"\n")
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _limit_memory():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _kill_group(child: int):
    try:
        os.killpg(child, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _death(status: int) -> str:
    if status in (-signal.SIGPROF, -signal.SIGALRM):
        return f"took more than {SECONDS} s" if status == -signal.SIGPROF else f"was not done after {WAIT} s"
    return f"signal {-status}" if status < 0 else f"exit code {status}"


class Output:
    """Catches what this process prints, also from C, until it is closed."""

    def __enter__(self) -> "Output":
        self.file = tempfile.TemporaryFile()
        self.streams, self.handles = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
        for stream in self.streams:
            stream.flush()
        for number in (1, 2):
            os.dup2(self.file.fileno(), number)
        sys.stdout = sys.stderr = open(os.dup(self.file.fileno()), "w", buffering=1)
        return self

    @property
    def text(self) -> str:
        sys.stdout.flush()
        self.file.seek(0)
        text = self.file.read().decode(errors="replace")
        self.file.seek(0, os.SEEK_END)
        return text

    def __exit__(self, *error):
        sys.stdout.close()
        sys.stdout, sys.stderr = self.streams
        for number, handle in enumerate(self.handles, 1):
            os.dup2(handle, number)
            os.close(handle)
        self.file.close()
