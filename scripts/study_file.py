"""The file of a study: a recipe, a grid of overrides, and what is measured; see study.py."""

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from genhub import recipes
from genhub.recipes.checks import as_mapping, refuse_unknown
from genhub.recipes.yaml import read_yaml


@dataclass
class Study:
    """What a study's file holds.

    Attributes:
        axes: name of an axis -> label of a value -> overrides.
        functions: name of a measure of the study's own -> `FILE.py:FUNCTION` beside the study, then the function.
    """

    question: str
    recipe: str
    grid: dict[str, dict]
    measures: list[str]
    overrides: dict[str, Any] = field(default_factory=dict)
    seeds: int = 1
    evaluate: dict[str, Any] | None = None
    chart: dict[str, Any] = field(default_factory=dict)
    functions: dict[str, Any] = field(default_factory=dict)
    claims: list[str] = field(default_factory=list)
    finding: str = ""

    def __post_init__(self):
        self.axes = {name: _axis(name, as_mapping(f"grid.{name}", values)) for name, values in self.grid.items()}
        refuse_unknown("chart", self.chart, ("x", "y", "log_x", "log_y"))
        refuse_unknown("measures", self.chart.get("y", []), self.measures)
        if "x" in self.chart:
            refuse_unknown("grid", [self.chart["x"]], self.axes)
        if not isinstance(self.seeds, int) or self.seeds < 1:
            raise ValueError(f"`seeds` must be a number of at least 1, got {self.seeds}.")
        for _, overrides in self.cells():  # a mistake must not end a study half way
            recipes.load(self.recipe, overrides, trust_code=True)

    def cells(self) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
        """Yields the labels and the overrides of each cell of the grid."""
        for combination in itertools.product(*(axis.items() for axis in self.axes.values())):
            labels = dict(zip(self.axes, (label for label, _ in combination), strict=True))
            overrides = dict(self.overrides)
            for _, changes in combination:
                overrides |= changes
            yield labels, overrides


def read_study(path: Path) -> Study:
    """Reads the file of a study, whose recipes may name classes of files beside it.

    Raises:
        ValueError: a key, a recipe or an override is wrong or missing.
    """
    content = as_mapping(str(path), read_yaml(path.read_text(encoding="utf-8")))
    known = [entry.name for entry in fields(Study)]
    refuse_unknown("study", content, known)
    if missing := [name for name in ("question", "recipe", "grid", "measures") if name not in content]:
        raise ValueError(f"{path} must give `{missing[0]}`.")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # for its classes
    functions = as_mapping("functions", content.get("functions", {}))
    content["functions"] = {name: _function(path.parent, place) for name, place in functions.items()}
    return Study(**content)


def _function(folder: Path, place: str) -> Callable[[Path], float]:
    """Returns the function that `FILE.py:FUNCTION` names."""
    file, _, name = place.partition(":")
    if not (folder / file).is_file():
        raise ValueError(f"`functions` must name functions of files in {folder}, got {place!r}.")
    spec: Any = importlib.util.spec_from_file_location(Path(file).stem, folder / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise ValueError(f"`functions` must name functions, got {place!r}.")
    return getattr(module, name)


def _axis(name: str, values: dict) -> dict[str, dict[str, Any]]:
    """Returns label -> overrides of an axis: the values of one key, or overrides by name."""
    if len(values) == 1 and isinstance(listed := next(iter(values.values())), list):
        key = next(iter(values))
        return {str(value): {key: value} for value in listed}
    return {str(label): as_mapping(f"grid.{name}.{label}", changes) for label, changes in values.items()}
