"""What a card says about the images and the networks of a run."""

from collections.abc import Iterable
from typing import cast

from genhub.data import Images, Lazy, Points
from genhub.recipes.instantiate import without
from genhub.recipes.recipe import Recipe

MOST_NAMED = 20  # classes


def describe_images(images: Images | Lazy) -> str:
    """Returns size, colour and classes of the training images."""
    shape = images.shape
    if isinstance(images, Points):
        return f"{shape.width} numbers"
    size, colour = f"{shape.width}x{shape.height} pixels", "grey" if shape.channels == 1 else "colour"
    names = shape.class_names or ()
    classes = f"{shape.num_classes} classes" if shape.num_classes else "without classes"
    named = f" ({', '.join(names)})" if 0 < len(names) <= MOST_NAMED else ""
    return f"{size}, {colour}, {classes}{named}"


def describe_networks(recipe: Recipe, names: Iterable[str]) -> list[tuple[str, str]]:
    """Returns the class and the arguments of each network that the recipe builds, as code, by name."""
    found = []
    for name in (name for name in names if name in recipe.components):
        entry = cast(dict, without(recipe.sections["components"][name], "class"))
        arguments = ", ".join(f"{key}={value!r}" for key, value in entry.items())
        found.append((name, f"`{recipe.components[name].cls.__name__}({arguments})`"))
    return found
