"""What a run takes from repositories: components, weights for an own architecture, and recipes."""

import os
from pathlib import Path
from typing import Any

from torch import nn

from genhub import recipes
from genhub.recipes.recipe import Recipe
from genhub.repository.download import download
from genhub.repository.format import WEIGHTS, RepositoryError, component_entries, member
from genhub.repository.index import read_index
from genhub.repository.load import load_part
from genhub.utils.reading import FileError, read_safetensors


def load_component(source: str, name: str) -> Any:
    """Loads a whole component, with its own class and config: a model, a scheduler, a text encoder or a tokenizer.

    Args:
        source: FOLDER/COMPONENT of a saved repository, or USER/REPOSITORY/COMPONENT of the Hub.
        name: of the component in the recipe, for errors.

    Raises:
        ValueError: there is no such repository or component, or it cannot be loaded without running its code.
    """
    repository, _, component = source.rstrip("/").rpartition("/")
    try:
        folder = download(repository)
        return load_part(folder, component)
    except (RepositoryError, KeyError, OSError) as error:
        reason = f"{repository} has no component {component!r}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"`components.{name}.from` must be FOLDER/COMPONENT of a saved repository, got {source}. {reason}"
            f"{_how_to_make(source, f'components.{name}.from')}"
        ) from error


def starting_weights(recipe: Recipe, repository: str) -> dict[str, object]:
    """Returns the overrides by which the networks of a recipe start from those of the same names in a repository, but
    for tensors of another shape.

    Raises:
        ValueError: there is no such repository, or it has none of the networks.
    """
    networks = [name for name, spec in recipe.components.items() if issubclass(spec.cls, nn.Module)]
    try:
        folder = download(repository)
        saved = [*component_entries(read_index(folder))]
    except (RepositoryError, OSError) as error:
        raise ValueError(f"`start_from` must be a saved repository, got {repository}. {error}") from error
    found = [name for name in networks if (folder / name / WEIGHTS).is_file()]
    if not found:
        raise ValueError(
            f"`start_from` must be a repository of {' or '.join(networks)}, got {repository} of {', '.join(saved)}."
        )
    overrides: dict[str, object] = {}
    for name in found:
        overrides[f"components.{name}.weights"] = f"{repository.rstrip('/')}/{name}"
        overrides[f"components.{name}.ignore_mismatched_sizes"] = True
    return overrides


def load_pretrained(weights: str, name: str, module: nn.Module, ignore_mismatched_sizes: bool = False) -> list[str]:
    """Loads saved tensors into the component `name` where their names match, and returns these names.

    Args:
        weights: FOLDER/COMPONENT of a saved repository, or USER/REPOSITORY/COMPONENT of the Hub.
        ignore_mismatched_sizes: leave out tensors of another shape, as `from_pretrained` of diffusers does.

    Raises:
        ValueError: there are no such weights, they share no name with `module`, or a tensor has another shape.
    """
    section = f"components.{name}.weights"
    repository, _, component = weights.rstrip("/").rpartition("/")
    file = f"{component}/{WEIGHTS}"
    try:
        saved = read_safetensors(member(download(repository, required=file), file))
    except (RepositoryError, FileError) as error:
        hint = _how_to_make(weights, section)
        raise ValueError(
            f"`{section}` must be FOLDER/COMPONENT of saved weights, got {weights}. {error}{hint}"
        ) from error
    own = module.state_dict()
    shared = [key for key in saved if key in own]
    if ignore_mismatched_sizes:
        shared = [key for key in shared if saved[key].shape == own[key].shape]
    if not shared:
        raise ValueError(
            f"`{section}` must share names of tensors with {type(module).__name__}, got none in {weights}."
        )
    for key in shared:
        found, wanted = tuple(saved[key].shape), tuple(own[key].shape)
        if found != wanted:
            raise ValueError(f"`{section}` must fit: {key} is {found} in {weights} and {wanted} in the component.")
    module.load_state_dict({key: saved[key] for key in shared}, strict=False)
    return shared


def _how_to_make(source: str, key: str) -> str:
    """Returns a sentence for errors, if FOLDER/COMPONENT has the name of a recipe."""
    name, component = Path(source).parent.name, Path(source).name
    if name not in recipes.names():
        return ""
    return f" `genhub train {name}` makes it; then `--{key} runs/{name}/{component}`."


def download_recipe(source: str | os.PathLike) -> Path | None:
    """Returns the recipe.yaml of a Hub repository; None if `source` is a recipe's name, a file or a folder."""
    name = str(source)
    is_hub_id = name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith((".yaml", ".yml"))
    if not is_hub_id or Path(name).exists():
        return None
    return download(name, allow_patterns=["recipe.yaml"], required="recipe.yaml") / "recipe.yaml"
