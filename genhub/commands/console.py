"""What a command prints: its result on stdout, as lines or as JSON, and all else on stderr."""

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from genhub.commands.errors import print_once

NO_BARS = {"GENHUB_PROGRESS": "lines", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}


class Console:
    """Where a command prints.

    Args:
        options: `json`: stdout holds the result as JSON, and nothing else. `quiet`: stderr holds errors only.
    """

    def __init__(self, options: argparse.Namespace):
        self.is_json, self.is_quiet = options.json, options.quiet
        self.out, self.err = sys.stdout, sys.stderr

    @contextlib.contextmanager
    def redirected(self) -> Iterator[None]:
        """Keeps what others print meanwhile from stdout, where that holds JSON, and from stderr, if it is to be quiet;
        a stderr that is no terminal gets no bars."""
        others, new = self.err, {} if "TQDM_DISABLE" in os.environ else NO_BARS
        old = {name: os.environ[name] for name in new if name in os.environ}
        if self.is_quiet:
            others = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - never closed, as loggers keep it
        if not others.isatty():
            os.environ |= new
        try:
            with contextlib.redirect_stderr(others), contextlib.redirect_stdout(others if self.is_json else self.out):
                yield
        finally:
            for name in new:
                os.environ.pop(name, None)
            os.environ |= old

    def show(self, result: Any, lines: Sequence[str]):
        """Prints the result, of which `lines` are what a person reads."""
        text = json.dumps(plain(result), indent=2) if self.is_json else "\n".join(lines)
        print(text, file=self.out, flush=True)

    def fail(self, reason: object):
        """Prints why the command ended early."""
        print_once(f"genhub: {reason}", self.err)


def plain(value: Any) -> Any:
    """Returns a value of a result as JSON has it: of a path its name, of a number that is not finite null."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Returns the lines of a table.

    Args:
        right: numbers of the columns that are aligned to the right.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        cells = (f"{cell:{'>' if n in right else '<'}{widths[n]}}" for n, cell in enumerate(row))
        lines.append("  ".join(cells).rstrip())
    return lines
