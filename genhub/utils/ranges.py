"""One rule for every setting: numbers are finite and within a range, texts are neither empty nor endless."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

MOST = 10**9
MOST_STEPS = 10**6  # of whatever is counted in steps, and computed for each of them at once
LONGEST = 1000  # characters of a text
SHOWN = 80  # characters of a value in an error


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`.

    Args:
        is_open: whether `low` itself is left out.
    """

    low: float = 0
    high: float = MOST
    is_open: bool = False

    def rule_against(self, value: float) -> str | None:
        """Returns what `value` must be, None if it is that."""
        if not (value > self.low if self.is_open else value >= self.low):
            return f"above {self.low}" if self.is_open else f"at least {self.low}"
        return None if value <= self.high else f"at most {self.high:g}"


DEFAULT = Range()


def check_ranges(section: str, config: Any, ranges: Mapping[str, Range]) -> None:
    """Checks every field of a dataclass: `ranges` says which numbers it takes, where it is not `DEFAULT`.

    Raises:
        ValueError: a number is out of its range, or a text is empty or too long.
    """
    for field in fields(config):
        value, name = getattr(config, field.name), f"{section}.{field.name}"
        if isinstance(value, bool) or value is None:
            continue
        if not isinstance(value, int | float):
            check_values(name, value)
        elif rule := ranges.get(field.name, DEFAULT).rule_against(value):
            raise ValueError(f"`{name}` must be {rule}, got {shown(value)}.")


def check_values(name: str, value: Any, exempt: Any = None) -> None:
    """Checks a value and all that it holds: numbers of at most `MOST` in size, texts of 1 to `LONGEST` characters.

    Args:
        exempt: a value that is right whatever it is, such as a default.

    Raises:
        ValueError: a number is not finite or too large, or a text is empty or too long.
    """
    if isinstance(value, bool) or value is None or value == exempt:
        return
    if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= MOST):
        raise ValueError(f"`{name}` must be finite and at most {MOST:g} in size, got {shown(value)}.")
    if isinstance(value, str) and not 1 <= len(value) <= LONGEST:
        raise ValueError(f"`{name}` must be a text of 1 to {LONGEST} characters, got {shown(value)}.")
    if isinstance(value, list | tuple | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in items:
            check_values(f"{name}.{key}", entry)


def shown(value: object) -> str:
    """Returns a value as an error shows it, shortened."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
