"""Captions of images: what they show, by templates, from their class and from two attributes that are measured.

An attribute is measured on the pixels that are not background, and compared with the images of the same class: the
lowest third is "dark" or "narrow", the highest "bright" or "wide", the rest and ties are neither. So an attribute
says nothing about the class, and a caption can be checked by the rule that wrote it.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from genhub.data.images import Images
from genhub.utils.randomness import keyed_generator

BACKGROUND = 0.1  # pixels up to this share of white
ATTRIBUTES = {"brightness": ("dark", "bright"), "width": ("narrow", "wide")}
TEMPLATES = ("{words} {name}", "a {words} {name}", "a picture of a {words} {name}", "{name}, {commas}")
ATTRIBUTE_SHARE = 0.75  # probability that a caption tells an attribute


def brightness(images: torch.Tensor) -> torch.Tensor:
    """Returns the mean of the pixels of uint8 images (N, C, H, W) that are not background, (N,) in [0, 1]."""
    pixels = images.float().mean(1).flatten(1) / 255
    shown = (pixels > BACKGROUND).float()
    return (pixels * shown).sum(1) / shown.sum(1).clamp(min=1)


def width(images: torch.Tensor) -> torch.Tensor:
    """Returns the mean number of pixels in a row that are not background, over the rows of uint8 images (N, C, H, W)
    that are not empty, (N,) in 0..W; a frame of black pixels does not change it."""
    shown = (images.float().mean(1) / 255 > BACKGROUND).float()  # (N, H, W)
    rows = shown.sum(2)
    return rows.sum(1) / (rows > 0).sum(1).clamp(min=1)


MEASURES = {"brightness": brightness, "width": width}


@dataclass(frozen=True)
class Captions:
    """The rule that writes captions.

    Args:
        names: of the classes, as captions call them.
        thresholds: of each attribute, (K, 2): the thirds of each class.
    """

    names: tuple[str, ...]
    thresholds: dict[str, torch.Tensor]

    @classmethod
    def fit(cls, images: Images) -> "Captions":
        """Measures the thirds of each class.

        Raises:
            ValueError: the images have no classes with names, or with such that captions cannot tell apart, or a class
                has fewer than three of them.
        """
        if images.labels is None or images.class_names is None:
            raise ValueError("`data.captions` must be left out: the images have no classes with names.")
        names = tuple(" ".join(name.partition("/")[0].lower().split()) for name in images.class_names)
        _check_names(names)
        thirds = torch.tensor([1 / 3, 2 / 3])
        of_class = [images.labels == label for label in range(len(images.class_names))]
        if min(int(rows.sum()) for rows in of_class) < 3:
            raise ValueError("`data.captions` must be left out: a class has fewer than three images.")
        thresholds = {}
        for attribute, measure in MEASURES.items():
            values = measure(images.images)
            thresholds[attribute] = torch.stack([values[rows].quantile(thirds) for rows in of_class])
        return cls(names, thresholds)

    def words(self, images: torch.Tensor, labels: torch.Tensor) -> list[list[str]]:
        """Returns the attributes of uint8 images (N, C, H, W) of the given classes, (N,)."""
        found: list[list[str]] = [[] for _ in labels]
        for attribute, (low, high) in ATTRIBUTES.items():
            values, thresholds = MEASURES[attribute](images), self.thresholds[attribute][labels]
            for row, is_low, is_high in zip(found, values < thresholds[:, 0], values > thresholds[:, 1], strict=True):
                row += [low] if is_low else [high] if is_high else []
        return found

    def write(self, images: Images, seed: int = 0) -> list[str]:
        """Returns a caption of each image, by a random template and with some of its attributes."""
        assert images.labels is not None
        random = torch.rand(len(images), 1 + len(ATTRIBUTES), generator=keyed_generator("captions", seed)).tolist()
        words = self.words(images.images, images.labels)
        captions = []
        for (template, *draws), own, label in zip(random, words, images.labels.tolist(), strict=True):
            chosen = [word for word, draw in zip(own, draws, strict=False) if draw < ATTRIBUTE_SHARE]
            captions.append(self.caption(label, chosen, int(template * len(TEMPLATES))))
        return captions

    def caption(self, label: int, words: Sequence[str] = (), template: int = 0) -> str:
        """Returns the caption of a class with these attributes."""
        text = TEMPLATES[template].format(words=" ".join(words), commas=", ".join(words), name=self.names[label])
        text = " ".join(text.split()).removesuffix(",")
        return re.sub(r"\ba (?=[aeiou])", "an ", text)

    def all(self) -> list[str]:
        """Returns every caption that can be written."""
        choices = itertools.product(range(len(self.names)), _combinations(), range(len(TEMPLATES)))
        return ["", *(self.caption(*choice) for choice in choices)]

    def examples(self) -> list[str]:
        """Returns a caption of each class with each choice of attributes, all classes and all attributes in turn."""
        words, classes = _combinations(), len(self.names)
        shift = math.lcm(classes, len(words))  # after which all classes would meet the same words again
        chosen = [words[(index + index // shift) % len(words)] for index in range(classes * len(words))]
        return [self.caption(index % classes, found, template=1) for index, found in enumerate(chosen)]

    def agreement(self, captions: Sequence[str], images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns for each attribute that a caption tells whether its image has it, bool (M,).

        Args:
            images: uint8 (N, C, H, W), one for each caption.
            labels: class of each caption, (N,).
        """
        found = self.words(images, labels)
        asked = [_attributes_in(caption) for caption in captions]
        return torch.tensor([word in own for own, words in zip(found, asked, strict=True) for word in sorted(words)])


def _attributes_in(caption: str) -> set[str]:
    """Returns the attributes that a caption tells."""
    return set(itertools.chain(*ATTRIBUTES.values())).intersection(re.findall(r"\w+", caption))


def _combinations() -> list[list[str]]:
    """Returns all choices of attributes, at most one of each."""
    return [[*filter(None, words)] for words in itertools.product(*(("", *words) for words in ATTRIBUTES.values()))]


def _check_names(names: Sequence[str]) -> None:
    """Requires names of classes that differ, and differ from attributes."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"The classes must have names of their own up to a slash, got {name!r} twice, to write captions."
            )
        if _attributes_in(name):
            raise ValueError(f"The names of classes must hold no attribute that captions tell, got {name!r}.")
