"""metrics.json: what was measured of a repository, checked before a card, a figure or another evaluation reads it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from genhub.repository.format import repository_errors, validate
from genhub.utils.reading import parse_json, read_text


class Record(BaseModel):
    """Some keys of an object, which may have others."""

    model_config = ConfigDict(strict=True, extra="allow")


class Metric(Record):
    name: str
    space: str
    value: float
    spread: float | None
    spread_is: str
    images: int


class Reference(Record):
    data: str
    split: str
    images: int


class Hardware(Record):
    device: str
    processes: int
    threads: int


class Samples(Record):
    """Images, or how they were made."""

    images: int
    batch_size: int = 1
    classes: Any = None
    sampler: str | None = None
    steps: int | None = None
    seed: int | None = None
    guidance_scale: float | None = None
    guidance_interval: Sequence[float] = (0, 1)
    dtype: str = ""
    scheduler_arguments: dict[str, Any] = {}
    arguments: dict[str, Any] = {}


class Memorisation(Record):
    near: float
    copies: float
    test_copies: float
    suspect: bool
    duplicates: int | None


class Evaluation(Record):
    protocol: str
    complete: bool
    date: str
    repository: str
    reference: Reference
    samples: Samples | None
    spaces: dict[str, str]
    figures: list[Metric]
    hardware: Hardware
    speed: dict[str, float | None] = {}
    memorisation: dict[str, Memorisation] | None = None
    effective_rank: dict[str, float] | None = None
    feature_net_accuracy: float | None = None


class Result(Record):
    name: str
    value: float
    split: str
    images: int
    seeds: int


class Training(Record):
    steps: int
    train_images: int
    seconds: float = 0.0
    parameters: dict[str, int] = {}
    steps_on: dict[str, int] | None = None


class Seed(Record):
    seed: int
    figures: dict[str, float]


class Metrics(Record):
    data: str = "local"
    reported: dict[str, float] = {}
    results: list[Result] = []
    training: Training | None = None
    hardware: Hardware | None = None
    evaluations: list[Evaluation] = []
    seeds: list[Seed] = []


def read_metrics(path: Path) -> dict[str, Any]:
    """Reads metrics.json.

    Raises:
        RepositoryError: it is missing, no JSON, or not what genhub writes.
    """
    with repository_errors():
        return parse_metrics(read_text(path), path)


def parse_metrics(text: str, source: object) -> dict[str, Any]:
    """Parses the text of a metrics.json as `read_metrics` does.

    Args:
        source: what the error names.
    """
    with repository_errors():
        metrics = parse_json(text, source)
    validate(Metrics, metrics, source)
    return metrics
