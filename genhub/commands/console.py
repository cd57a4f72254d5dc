"""What a command prints: its result on stdout, as lines or as JSON, and all else on stderr."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from genhub.commands.errors import print_once


class Console:
    """Where a command prints.

    Args:
        options: `json`: stdout holds the result as JSON, and nothing else.
    """

    def __init__(self, options: argparse.Namespace):
        self.is_json = options.json
        self.out, self.err = sys.stdout, sys.stderr

    @contextlib.contextmanager
    def redirected(self) -> Iterator[None]:
        """Sends what others print on stdout to stderr meanwhile, where stdout holds JSON."""
        with contextlib.redirect_stdout(self.err if self.is_json else self.out):
            yield

    def show(self, result: Any, lines: Sequence[str]):
        """Prints the result, of which `lines` are what a person reads."""
        text = json.dumps(result, indent=2, default=str) if self.is_json else "\n".join(lines)
        print(text, file=self.out, flush=True)

    def fail(self, reason: object):
        """Prints why the command ended early."""
        print_once(f"genhub: {reason}", self.err)


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
