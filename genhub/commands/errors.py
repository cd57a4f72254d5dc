"""What the command line says of an error: one line, which no name in it can make several or colour."""

import os
import sys
from typing import TextIO

ERROR = "genhub: error:"
LONGEST = 2000  # letters of an error


def reason_of(error: Exception) -> str | None:
    """Returns what a user can do about an error, or None for one that is a fault of the program."""
    if isinstance(error, ValueError | OSError):
        return str(error)
    if isinstance(error, RecursionError):
        return "The folders or values are nested too deeply."
    told = str(error).strip().partition("\n")[0]
    is_memory = isinstance(error, MemoryError) or "allocate memory" in told or "out of memory" in told  # of PyTorch
    return f"The memory is not enough ({told or 'of Python'})." if is_memory else None


def print_once(message: str, stream: TextIO | None = None):
    """Prints a message as one line on stderr, or another stream, of several processes in one only."""
    if "WORLD_SIZE" in os.environ:
        from genhub.training.distributed import is_first_to_fail

        if not is_first_to_fail():
            return
    if len(message) > LONGEST:  # it shows a name or a value of that length
        message = f"{message[:LONGEST]} ... {message[-LONGEST // 4 :]}"
    line = (letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(message.split("\n")))
    target = stream or sys.stderr
    print(painted("".join(line), target), file=target)


def painted(line: str, stream: TextIO) -> str:
    """Returns a line with what marks it as an error in red, where `stream` is a terminal that shows colours."""
    can_paint = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return line.replace(ERROR, f"\x1b[31m{ERROR}\x1b[0m", 1) if can_paint and line.startswith(ERROR) else line
