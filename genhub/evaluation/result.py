"""Measured numbers, and how an evaluation joins the earlier ones in `metrics.json`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

SETTINGS = ("protocol", "samples", "reference", "spaces", "repository")  # equal: the same evaluation, repeated
STANDARD_ERROR = "standard error over images"


@dataclass(frozen=True)
class Metric:
    """One measured number.

    Args:
        space: feature space, "" if none.
        spread: uncertainty of the value, in the sense of `spread_is`; None if none was estimated.
        images: number of images measured.
    """

    name: str
    space: str
    value: float
    spread: float | None
    spread_is: str
    images: int

    def to_dict(self) -> dict:
        """Returns the metric as JSON stores it."""
        return asdict(self)


def merge_evaluation(evaluations: Sequence[dict], new: dict) -> list[dict]:
    """Returns `evaluations` followed by `new`, which replaces earlier ones of the same settings.

    The classification accuracy score of a replaced evaluation is kept if `new` has none: it takes hours.
    """
    replaced = [evaluation for evaluation in evaluations if _settings(evaluation) == _settings(new)]
    metrics = list(new["figures"])
    if not any(map(_is_cas, metrics)):
        metrics += [metric for evaluation in replaced for metric in evaluation["figures"] if _is_cas(metric)]
    kept = [evaluation for evaluation in evaluations if evaluation not in replaced]
    return [*kept, new | {"figures": metrics}]


def _settings(evaluation: dict) -> list:
    return [evaluation[key] for key in SETTINGS]


def _is_cas(metric: dict) -> bool:
    return metric["name"].startswith("CAS")
