"""Checks of keys and mappings, whose errors name the nearest known word."""

from collections.abc import Iterable

from genhub.utils.ranges import shown
from genhub.utils.spelling import did_you_mean


def as_mapping(section: str, entries: object) -> dict:
    """Returns `entries`, or raises ValueError where they are not a mapping."""
    if not isinstance(entries, dict):
        raise ValueError(f"`{section}` must be a mapping, got {shown(entries)}.")
    return entries


def refuse_unknown(section: str, keys: Iterable, known: Iterable[str]):
    """Raises ValueError for the first key that is not known; the section "section" stands for the recipe itself."""
    known = list(known)
    for key in keys:
        if key not in known:
            name = f"section {key!r}" if section == "section" else f"`{section}.{key}`"
            raise ValueError(f"There is no {name}{did_you_mean(str(key), known)}. Known: {', '.join(known)}.")
