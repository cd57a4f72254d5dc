"""An experiment as data: a recipe names classes and arguments, and nothing else.

`names`, `path`, `describe` and `published` read files only; `load` checks a recipe and needs torch and diffusers.
"""

import importlib
import itertools
import json
import re
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Returns the names of the published recipes, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def path(name: str) -> Path:
    """Returns the file of a published recipe."""
    return FOLDER / f"{name}.yaml"


def describe(name: str) -> str:
    """Returns the first sentence of a published recipe: which experiment it is."""
    with open(path(name), encoding="utf-8") as file:
        comment = " ".join(
            line.lstrip("# ").rstrip() for line in itertools.takewhile(lambda x: x.startswith("#"), file)
        )
    return re.split(r"(?<=[.!?])(?<! al\.)(?<!Eq\.) +(?=[A-Z0-9])", comment, maxsplit=1)[0]


def published() -> dict[str, dict]:
    """Returns data, size, parameters, quality, and minutes and hardware of training of each published model."""
    return json.loads((FOLDER / "published.json").read_text(encoding="utf-8"))


def __getattr__(name: str):
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("genhub.recipes.recipe").load
