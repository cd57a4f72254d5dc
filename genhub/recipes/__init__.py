"""An experiment as data: a recipe names classes and arguments, and nothing else.

`names`, `path` and `describe` read files only; `load` checks a recipe and needs torch and diffusers.
"""

import importlib
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Returns the names of the published recipes, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def path(name: str) -> Path:
    """Returns the file of a published recipe."""
    return FOLDER / f"{name}.yaml"


def describe(name: str) -> str:
    """Returns the first line of a published recipe: which experiment it is."""
    with open(path(name), encoding="utf-8") as file:
        return file.readline().lstrip("# ").rstrip()


def __getattr__(name: str):
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("genhub.recipes.recipe").load
