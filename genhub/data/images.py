"""Images in memory, the order in which they are seen, and the range in which models see them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from genhub.utils.randomness import keyed_generator


@dataclass(frozen=True)
class Shape:
    """What a model has to fit: channels, height and width of the images, names and number of their classes."""

    channels: int
    height: int
    width: int
    class_names: tuple[str, ...] | None = None
    num_classes: int | None = field(default=None, compare=False)  # of lazy data known only with the names


@dataclass
class Images:
    """A data set in memory: `images` uint8 (N, C, H, W), `labels` int64 (N,) or None.

    What is no picture may be float instead, in the unit in which black is 0 and white is 1, and beyond these.
    """

    images: torch.Tensor
    labels: torch.Tensor | None = None
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_labels(self) -> bool:
        return self.labels is not None

    @property
    def shape(self) -> Shape:
        count = None if self.class_names is None else len(self.class_names)
        if count is None and self.labels is not None and len(self.labels):
            count = int(self.labels.max()) + 1
        return Shape(*self.images.shape[1:], self.class_names, count)

    def __getitem__(self, part: slice | torch.Tensor) -> "Images":
        return Images(self.images[part], None if self.labels is None else self.labels[part], self.class_names)

    def choose(self, count: int, seed: int) -> "Images":
        """Returns `count` of the images, or all if there are fewer, in an order that `seed` fixes."""
        return self[torch.randperm(len(self), generator=keyed_generator("choose", seed))[:count]]

    def draw_labelled(self, count: int, seed: int) -> "Images":
        """Returns `count` of the images, as many of each class, drawn by `seed`.

        Raises:
            ValueError: there are no labels, or not so many of each class.
        """
        if self.labels is None:
            raise ValueError("`data.labelled` must be left out: the data set has no labels.")
        classes = self.shape.num_classes
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

    def to(self, device) -> "Images":
        """Returns the same images on `device`."""
        labels = None if self.labels is None else self.labels.to(device)
        return Images(self.images.to(device), labels, self.class_names)

    def batch(self, index: torch.Tensor | slice) -> dict[str, torch.Tensor]:
        """Returns `sample` in [-1, 1] and `labels`, on the device that the images are on."""
        batch = {"sample": to_model_range(self.images[index])}
        if self.labels is not None:
            batch["labels"] = self.labels[index]
        return batch

    def batches(self, batch_size: int, start: int, stride: int, seed: int, device) -> Iterator[dict]:
        """Yields without end the batches at positions `start`, `start + stride`, ... of the shuffled stream."""
        held = self.to(device)
        order = Order(len(self), seed)
        while True:
            yield held.batch(order(start, batch_size).to(device))
            start += stride


class Order:
    """Maps positions of the endless stream to places in the data set, one permutation an epoch."""

    def __init__(self, length: int, seed: int):
        self.length, self.seed = length, seed
        self.epochs: dict[int, torch.Tensor] = {}

    def __call__(self, start: int, count: int) -> torch.Tensor:
        """Returns the places of positions `start`..`start + count - 1`, (count,)."""
        first, last = start // self.length, (start + count - 1) // self.length
        self.epochs = {epoch: self.epochs[epoch] for epoch in self.epochs if first <= epoch <= last}
        for epoch in range(first, last + 1):
            if epoch not in self.epochs:
                generator = keyed_generator("order", self.seed, epoch)
                self.epochs[epoch] = torch.randperm(self.length, generator=generator)
        orders = [self.epochs[epoch] for epoch in range(first, last + 1)]
        stream = torch.cat(orders) if len(orders) > 1 else orders[0]
        return stream[start - first * self.length :][:count]


def to_model_range(images: torch.Tensor) -> torch.Tensor:
    """Maps uint8 0..255, or float 0..1, to float [-1, 1]: the one place where this is done."""
    if images.is_floating_point():
        return 2 * images - 1
    return images.float().div_(127.5).sub_(1)
