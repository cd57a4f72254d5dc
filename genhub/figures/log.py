"""The log of a run, training/metrics.jsonl."""

import math
from typing import Any

from genhub.utils.reading import parse_json_lines

WORDS = ("warning", "message", "changed")  # keys of a record whose values are texts
INFINITE = (math.inf, -math.inf)


def parse_log(repo: str, log: str | None) -> list[dict[str, Any]]:
    """Returns the records of a log that have a step, without what is neither a finite number nor a text.

    Args:
        log: its text.

    Raises:
        ValueError: there is no log.
    """
    if log is None:
        raise ValueError(f"{repo} has no training/metrics.jsonl: it stays where the model was trained.")
    records = [record for record in parse_json_lines(log.encode()) if isinstance(record.get("step"), int)]
    wanted = {key: str if key in WORDS else int | float for record in records for key in record}
    return [
        {key: x for key, x in record.items() if isinstance(x, wanted[key]) and x not in INFINITE} for record in records
    ]
