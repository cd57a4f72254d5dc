"""What a crash or a power cut may have taken from a run's folder, and is restored or done without: recipe and log."""

import json
import os
import sys
from pathlib import Path

from genhub.recipes.checks import as_mapping
from genhub.recipes.places import OWN, published_text
from genhub.recipes.recipe import Recipe
from genhub.recipes.yaml import read_yaml, read_yaml_file
from genhub.training.checkpoint import CheckpointError, list_checkpoints, newest_recipe
from genhub.utils.files import atomic_write, make_folder
from genhub.utils.reading import read_json_lines, read_text

STATE, RECIPE = OWN.parts  # the folder of a run's state, and its recipe


def keep_recipe(folder: Path, recipe: Recipe):
    """Writes the recipe of a run as it is run, with its paths."""
    make_folder(folder / STATE)
    atomic_write(folder / OWN, recipe.text)


def write_recipe(folder: Path, recipe: Recipe):
    """Writes the recipe of a run as it is run, and as it is published."""
    keep_recipe(folder, recipe)
    atomic_write(folder / RECIPE, published_text(recipe.text))


def restore_recipe(folder: Path):
    """Writes what is lost of the recipe of a run from its newest whole checkpoint, and says so."""
    text, restored = _whole(folder / OWN), []
    if text is None and (text := newest_recipe(folder / STATE / "checkpoints")):
        atomic_write(folder / OWN, text)
        restored.append(str(OWN))
    if text and _is_empty(folder / RECIPE):
        atomic_write(folder / RECIPE, published_text(text))
        restored.append(RECIPE)
    if restored and os.environ.get("RANK", "0") == "0":
        print(f"Restored in {folder}, where lost or empty: {' and '.join(restored)}.", file=sys.stderr)


def saved_recipe(folder: Path) -> dict | None:
    """Returns the recipe of the run in a folder, None if there is no run; {} if the recipe is lost, and nothing was
    trained yet.

    Raises:
        CheckpointError: it is lost, and no checkpoint carries it.
    """
    for path in (folder / OWN, folder / RECIPE):
        if _whole(path) is not None:
            return as_mapping(str(path), read_yaml_file(path))
    if list_checkpoints(folder / STATE / "checkpoints"):
        raise CheckpointError(f"The recipe of the run in {folder} is lost, and no whole checkpoint carries it.")
    return {} if (folder / STATE).is_dir() else None


def truncate_log(path: Path, last_step: int):
    """Drops the records that a resumed run will write again, and a line that a crash left unfinished."""
    if path.exists():
        steps = [(record, record.get("step", 0)) for record in read_json_lines(path)]
        kept = [record for record, step in steps if isinstance(step, int | float) and step <= last_step]
        atomic_write(path, "".join(json.dumps(record) + "\n" for record in kept))


def _whole(path: Path) -> str | None:
    """Returns the text of a recipe, None if it is not there or damaged."""
    try:
        text = read_text(path)
        as_mapping(str(path), read_yaml(text, path))
        return text
    except ValueError:
        return None


def _is_empty(path: Path) -> bool:
    return not path.exists() or (path.is_file() and not path.read_bytes().strip(b"\0 \r\n\t"))
