"""What a run says about its images before it starts, and a card about images and networks."""

from collections.abc import Iterable
from typing import cast

import torch

from genhub.data import Images, Lazy, Points
from genhub.recipes.instantiate import without
from genhub.recipes.places import published
from genhub.recipes.recipe import Recipe
from genhub.utils.spelling import shorten

MOST_NAMED = 20  # classes


def describe_splits(train: Images | Lazy, val: Images | None) -> list[str]:
    """Returns sentences that say how many images are trained on and held out, of each class, and which class is
    missing."""
    seen = train.all_labels() if isinstance(train, Lazy) else train.labels
    held_out = torch.tensor([], dtype=torch.long) if val is None else val.labels
    sizes, class_names = (len(train), 0 if val is None else len(val)), train.class_names
    whole = f"{sizes[0]:,} images to train on, {sizes[1]:,} for validation"
    if seen is None or held_out is None or not len(seen) or torch.cat([seen, held_out]).min() < 0:
        return [f"{whole}."]
    classes = len(class_names) if class_names else int(torch.cat([seen, held_out]).max()) + 1
    if classes > MOST_NAMED and not class_names:
        return [f"{whole}."]
    names = class_names or [*map(str, range(classes))]
    counts = [part.bincount(minlength=classes).tolist() for part in (seen, held_out)]
    if classes <= MOST_NAMED:
        each = ", ".join(f"{name} {n:,} + {m:,}" for name, n, m in zip(names, *counts, strict=True))
    else:
        each = "{} classes of {:,} to {:,} + {:,} to {:,}".format(classes, *(f(c) for c in counts for f in (min, max)))
    sentences = [f"{whole}: {each}."]
    for count, size, what in zip(counts, sizes, ("train on", "validate with"), strict=True):
        missing = [name for name, number in zip(names, count, strict=True) if not number]
        if missing and size:
            sentences.append(f"Warning: there is no image to {what} of {shorten(missing)}.")
    return sentences


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
        entry = published(cast(dict, without(recipe.sections["components"][name], "class")), f"components.{name}.")
        arguments = ", ".join(f"{key}={value!r}" for key, value in entry.items())
        found.append((name, f"`{recipe.components[name].cls.__name__}({arguments})`"))
    return found
