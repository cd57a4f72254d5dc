"""Starting a component from the weights of another one that was trained before."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from genhub.recipes.recipe import recipe_names
from genhub.repository.load import WEIGHTS, RepositoryError, download


def load_pretrained(weights: str, name: str, module: nn.Module) -> list[str]:
    """Copies into the component `name` the saved tensors that bear names of its own, and returns these names.

    Args:
        weights: FOLDER/COMPONENT of a saved repository, or USER/REPOSITORY/COMPONENT of the Hub.

    Raises:
        ValueError: there are no such weights, they share no name with `module`, or a tensor has another shape.
    """
    section = f"components.{name}.weights"
    repository, _, component = weights.rstrip("/").rpartition("/")
    file = f"{component}/{WEIGHTS}"
    try:
        saved = load_file(download(repository, required=file) / file)
    except (RepositoryError, SafetensorError) as error:
        made_by = Path(repository).name
        hint = f" `genhub train {made_by}` makes it." if made_by in recipe_names() else ""
        raise ValueError(
            f"`{section}` must be FOLDER/COMPONENT of saved weights, got {weights}. {error}{hint}"
        ) from error
    own = module.state_dict()
    shared = [key for key in saved if key in own]
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
