"""Images in memory, the order in which training sees them, and the range in which models see them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, cast

import numpy as np
import torch

from genhub.data.augmentation import Augmentation
from genhub.utils.randomness import keyed_generator

MEASURED = 1000  # samples, at most, for the mean and standard deviation


@dataclass(frozen=True)
class Shape:
    """What a model has to fit: channels, height and width of a sample, names and number of the classes, mean and
    standard deviation of the values that the objective meets."""

    channels: int
    height: int
    width: int
    class_names: tuple[str, ...] | None = None
    num_classes: int | None = field(default=None, compare=False)  # None for lazy data whose classes have no names
    mean: float | None = field(default=None, compare=False)  # of `measure` alone, as is std
    std: float | None = field(default=None, compare=False)


class InMemory(ABC):
    """A data set in memory: a dataclass whose tensors have one row a sample.

    A subclass adds what its samples are stored as, and says how an objective meets them.
    """

    labels: torch.Tensor | None
    class_names: tuple[str, ...] | None
    input_ids: torch.Tensor | None
    augmentation: Augmentation | None = None
    notes: tuple[str, ...] = ()

    @abstractmethod
    def sample(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Returns what the objective meets at `index`, float (B, C, H, W)."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def has_labels(self) -> bool:
        return self.labels is not None

    @property
    def shape(self) -> Shape:
        count = None if self.class_names is None else len(self.class_names)
        if count is None and self.labels is not None and len(self.labels):
            count = int(self.labels.max()) + 1
        channels, height, width = self.sample(slice(1)).shape[1:]
        return Shape(channels, height, width, self.class_names, count)

    def measure(self) -> Shape:
        """Returns the shape with the mean and standard deviation of some samples, evenly spaced."""
        spread = self.sample(slice(None, None, math.ceil(len(self) / MEASURED)))
        return replace(self.shape, mean=round(spread.mean().item(), 3), std=round(spread.std(correction=0).item(), 3))

    def __getitem__(self, index: slice | torch.Tensor) -> Self:
        return self._map(lambda tensor: tensor[index])

    def choose(self, count: int, seed: int) -> Self:
        """Returns `count` of the samples, or all if there are fewer, in an order that `seed` fixes."""
        return self[torch.randperm(len(self), generator=keyed_generator("choose", seed))[:count]]

    def draw_labelled(self, count: int, seed: int) -> Self:
        """Draws `count` samples by `seed`, equally many of each class, ordered by class.

        Raises:
            ValueError: there are no labels, or a class has too few samples.
        """
        classes = self.shape.num_classes
        if self.labels is None or classes is None:
            raise ValueError("`data.labelled` must be left out: the data set has no labels.")
        if count % classes:
            raise ValueError(f"`data.labelled` must be a multiple of the {classes} classes, got {count}.")
        fewest = min(int((self.labels == label).sum()) for label in range(classes))
        if count > classes * fewest:
            raise ValueError(
                f"`data.labelled` must be at most {classes * fewest}: {classes} classes, the smallest of which has "
                f"{fewest} images to draw from, got {count}."
            )
        order = torch.randperm(len(self), generator=keyed_generator("labelled", seed))
        drawn = [order[self.labels[order] == label][: count // classes] for label in range(classes)]
        return self[torch.cat(drawn)]

    def to(self, device: str | torch.device) -> Self:
        """Returns the data set on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def batch(self, index: torch.Tensor | slice) -> dict[str, torch.Tensor]:
        """Returns `sample` (B, C, H, W) and, if the data set has them, `labels` (B,) and `input_ids` (B, T), on its
        device."""
        batch = {"sample": self.sample(index)}
        for name in ("labels", "input_ids"):
            if (tensor := getattr(self, name)) is not None:
                batch[name] = tensor[index]
        return batch

    def batches(self, batch_size: int, start: int, stride: int, seed: int, device: str | torch.device) -> Iterator:
        """Yields without end the batches at positions `start`, `start + stride`, ... of the shuffled stream."""
        on_device = self.to(device)
        order = Order(len(self), seed)
        while True:
            yield augment(on_device.batch(order(start, batch_size).to(device)), self.augmentation, start, seed)
            start += stride

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        """Applies `function` to every tensor."""
        dataset = cast(Any, self)  # a dataclass, as every subclass is
        values = {part.name: getattr(self, part.name) for part in fields(dataset)}
        return replace(dataset, **{name: function(x) for name, x in values.items() if isinstance(x, torch.Tensor)})


@dataclass
class Images(InMemory):
    """Images in memory: `images` uint8 (N, C, H, W), met as float in [-1, 1].

    Args:
        labels: int64 (N,).
        class_names: in the order of the labels.
        input_ids: int64 (N, T), the tokens of a caption of each image.
        captions: str (N,), from a column of the data set.
        augmentation: random changes of the images while training.
        notes: sentences about how the files became these images.
    """

    images: torch.Tensor
    labels: torch.Tensor | None = None
    class_names: tuple[str, ...] | None = None
    input_ids: torch.Tensor | None = None
    captions: np.ndarray | None = None
    augmentation: Augmentation | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.images.dtype != torch.uint8:
            raise ValueError(f"`images` must be uint8, got {self.images.dtype}.")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | torch.Tensor) -> "Images":
        part = super().__getitem__(index)
        if self.captions is None:
            return part
        return replace(part, captions=self.captions[index if isinstance(index, slice) else index.cpu().numpy()])

    def sample(self, index: torch.Tensor | slice) -> torch.Tensor:
        return to_model_range(self.images[index])


class Order:
    """Maps positions of an endless stream to indices of the data set, one permutation an epoch."""

    def __init__(self, length: int, seed: int):
        self.length, self.seed = length, seed
        self.epochs: dict[int, torch.Tensor] = {}

    def __call__(self, start: int, count: int) -> torch.Tensor:
        """Returns the indices at positions `start`..`start + count - 1`, (count,)."""
        first, last = start // self.length, (start + count - 1) // self.length
        self.epochs = {epoch: self.epochs[epoch] for epoch in self.epochs if first <= epoch <= last}
        for epoch in range(first, last + 1):
            if epoch not in self.epochs:
                generator = keyed_generator("order", self.seed, epoch)
                self.epochs[epoch] = torch.randperm(self.length, generator=generator)
        orders = [self.epochs[epoch] for epoch in range(first, last + 1)]
        stream = torch.cat(orders) if len(orders) > 1 else orders[0]
        return stream[start - first * self.length :][:count]


def augment(batch: dict, augmentation: Augmentation | None, start: int, seed: int) -> dict:
    """Changes the images of the batch at position `start` of the stream of training."""
    if augmentation is None:
        return batch
    positions = torch.arange(start, start + len(batch["sample"]))
    return batch | {"sample": augmentation(batch["sample"], positions, seed)}


def to_model_range(images: torch.Tensor) -> torch.Tensor:
    """Maps uint8 images from 0..255 to float [-1, 1].

    Raises:
        ValueError: `images` are not uint8, so that their range is unknown.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"`images` must be uint8, got {images.dtype}.")
    return images.float().div_(127.5).sub_(1)
