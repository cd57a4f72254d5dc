"""Words in messages: hints for misspelt ones, and lists of names."""

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 5  # names of a list


def did_you_mean(word: str, known: Iterable[str], count: int = 1) -> str:
    """Returns " (did you mean 'x'?)" for the known word nearest to `word`, whatever its case, or for up to `count` of
    them; an empty string if none is near."""
    lower_case = {word.lower(): word for word in known}
    close = [repr(lower_case[key]) for key in difflib.get_close_matches(word.lower(), lower_case, count, cutoff=0.5)]
    *others, last = close or [""]
    return f" (did you mean {', '.join(others)}{' or ' * bool(others)}{last}?)" if close else ""


def shorten(names: Sequence[str]) -> str:
    """Returns the first names of a list, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(map(str, names[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")
