"""Hints for misspelt words."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns " (did you mean 'x'?)" for the known word nearest to `word`, whatever its case, an empty string if none
    is near."""
    lower_case = {word.lower(): word for word in known}
    close = difflib.get_close_matches(word.lower(), lower_case, n=1, cutoff=0.5)
    return f" (did you mean {lower_case[close[0]]!r}?)" if close else ""
