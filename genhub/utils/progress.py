"""How far long work has come: a bar on a terminal and in a notebook; lines where the command line writes to a file."""

import os
import sys
import time
from typing import TextIO

from tqdm.auto import tqdm

EVERY = 15.0  # seconds between two lines
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s in {elapsed}{postfix}"


class Lines:
    """A file to which a bar writes lines, one in `EVERY` seconds, without control characters."""

    def __init__(self, stream: TextIO):
        self.stream, self.written = stream, -EVERY

    def write(self, text: str):
        line, now = text.strip(), time.monotonic()
        if line and now - self.written >= EVERY:
            self.written = now
            self.stream.write(f"{line}\n")

    def flush(self):
        self.stream.flush()


def progress_bar(is_hidden: bool = False, **options) -> tqdm:
    """Returns a bar of tqdm.

    Args:
        is_hidden: show nothing, as in all processes but one.
        options: of tqdm, such as `total`, `desc` and `unit`.
    """
    if is_hidden:
        return tqdm(disable=True, **options)
    if os.environ.get("GENHUB_PROGRESS") == "lines":  # set by the command line
        return tqdm(disable=False, file=Lines(sys.stderr), **options | {"bar_format": LINE, "mininterval": EVERY})
    return tqdm(**options)
