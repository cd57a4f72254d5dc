"""Measured numbers, and how an evaluation joins the earlier ones in `metrics.json`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

SETTINGS = ("protocol", "samples", "reference", "spaces", "repository")  # equal: the same evaluation, repeated
STANDARD_ERROR = "standard error over images"
ON_DEMAND = ("CAS", "bits/dim")  # how the names of metrics begin that are measured only if asked for


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

    Metrics on demand of a replaced evaluation are kept if `new` has none: they take long.
    """
    replaced = [evaluation for evaluation in evaluations if _settings(evaluation) == _settings(new)]
    metrics = list(new["figures"])
    for prefix in ON_DEMAND:
        if not _named(metrics, prefix):
            metrics += [metric for evaluation in replaced for metric in _named(evaluation["figures"], prefix)]
    kept = [evaluation for evaluation in evaluations if evaluation not in replaced]
    return [*kept, new | {"figures": metrics}]


def _settings(evaluation: dict) -> list:
    return [evaluation[key] for key in SETTINGS]


def _named(metrics: Sequence[dict], prefix: str) -> list[dict]:
    return [metric for metric in metrics if metric["name"].startswith(prefix)]
