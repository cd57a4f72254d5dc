"""How far long work has come: a bar on a terminal and in a notebook; lines where the command line writes to a file."""

import os
import sys
import time
from typing import TextIO

from tqdm.auto import tqdm

EVERY = 15.0  # seconds between two lines
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s in {elapsed}{postfix}"


class Lines:
    """A file to which a bar writes lines, one in `EVERY` seconds and its last, without control characters."""

    def __init__(self, stream: TextIO):
        self.stream, self.written, self.when, self.newest = stream, "", -EVERY, ""

    def write(self, text: str):
        now, is_last = time.monotonic(), text == "\n"  # with which tqdm closes a bar
        self.newest = text.strip() or self.newest
        if self.newest != self.written and (is_last or now - self.when >= EVERY):
            self.written, self.when = self.newest, now
            self.stream.write(f"{self.newest}\n")

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
        lines = {"file": Lines(sys.stderr), "bar_format": LINE, "mininterval": EVERY}
        return tqdm(disable=False, **options | lines | {"leave": True, "position": 0})
    return tqdm(**options)
