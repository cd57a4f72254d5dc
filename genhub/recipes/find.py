"""Where a recipe is: in the package, in a file, or in a folder."""

from pathlib import Path

from genhub import recipes
from genhub.utils.files import expanded
from genhub.utils.spelling import did_you_mean


def find_recipe(source: str) -> Path:
    """Returns the file of a recipe: its name, a YAML file, or a folder that holds `recipe.yaml`."""
    if source in recipes.names():
        return recipes.path(source)
    path = expanded(source)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / "recipe.yaml").is_file():
            return path / "recipe.yaml"
        raise ValueError(f"The folder {path} has no recipe.yaml.")
    hint = did_you_mean(source, recipes.names())
    raise ValueError(f"There is no recipe {source!r}{hint}. `genhub recipes` lists them; a YAML file works too.")
