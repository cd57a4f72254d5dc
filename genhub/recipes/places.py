"""Paths in a recipe: as it is run, and as it is published.

A run keeps its recipe as it is in `training/recipe.yaml`, which is never shared. The one beside the weights says
`./photos` where the other says `/home/me/data/photos`; loaded on this machine, it gets its paths back.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from genhub.recipes.checks import as_mapping
from genhub.recipes.yaml import comment_of, read_yaml, read_yaml_file, write_yaml

OWN = Path("training", "recipe.yaml")  # in a run's folder: the recipe as it is run
COMPONENTS = ("from", "weights")  # keys of FOLDER/COMPONENT


def published(sections: dict, prefix: str = "") -> dict:
    """Returns a copy of a recipe, or of other values by their keys, that says of a path of this machine its name only.

    Args:
        prefix: of dotted keys, such as "data.".
    """
    return _map(lambda key, value: published_value(prefix + key, value), sections)


def published_text(text: str) -> str:
    """Returns a recipe as YAML as it is published."""
    return comment_of(text) + write_yaml(published(as_mapping("recipe", read_yaml(text))))


def published_value(key: str, value: Any) -> Any:
    """Returns a value of a recipe, by its dotted key, as it is published."""
    if isinstance(value, dict):
        return published(value, f"{key}.")
    if not isinstance(value, str) or not _is_of_this_machine(key, value):
        return value
    parts = Path(os.path.abspath(os.path.expanduser(value))).parts
    return "/".join([".", *parts[-2 if key.rpartition(".")[2] in COMPONENTS else -1 :]])


def with_paths(sections: dict, file: Path) -> dict:
    """Returns the recipe of `file` with the paths of the run in its folder, where the recipe names them."""
    folder = file.parent.parent if file.parent.name == ".saved" else file.parent  # see repository/replace.py
    with suppress(ValueError):
        own = _flat(as_mapping("recipe", read_yaml_file(folder / OWN)))

        def path_of(key: str, value: Any) -> Any:
            return own[key] if key in own and published_value(key, own[key]) == value else value

        return _map(path_of, sections)
    return sections


def _is_of_this_machine(key: str, value: str) -> bool:
    """Returns whether a value is a path that means nothing elsewhere."""
    if key == "data.source":
        return value not in ("sample", "points") and (value.startswith((".", "/", "~")) or Path(value).exists())
    return value.startswith(("~", "../")) or (os.path.isabs(value) and len(Path(value).parts) > 1)


def _map(change: Callable[[str, Any], Any], value: Any, key: str = "") -> Any:
    """Returns a copy of nested values in which `change` of its dotted key and itself stands for each."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        changed = {name: _map(change, entry, f"{key}.{name}" if key else str(name)) for name, entry in items}
        return changed if isinstance(value, dict) else [*changed.values()]
    return change(key, value)


def _flat(sections: dict) -> dict[str, Any]:
    """Returns nested values by their dotted keys."""
    flat: dict[str, Any] = {}
    _map(flat.__setitem__, sections)
    return flat
