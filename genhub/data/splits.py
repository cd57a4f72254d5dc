"""Which images are trained on, and which are held out for validation and for the test."""

import torch

from genhub.data.config import DataConfig
from genhub.utils.randomness import keyed_generator

VAL_SHARE, MOST_VAL = 0.1, 5000  # where `data.val_size` says nothing
FASHION_MNIST = (
    "T - shirt / top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MNIST = tuple("0123456789")


def is_benchmark(class_names: tuple[str, ...] | None, labels: torch.Tensor | None) -> bool:
    """Returns whether these are classes and labels of the training file of Fashion MNIST or MNIST, whose last images
    are the held-out ones: its classes are mixed."""
    if labels is None or class_names not in (FASHION_MNIST, MNIST):
        return False
    return len(labels) == 60_000 and bool((labels[1:] < labels[:-1]).any())


def held_out(config: DataConfig, total: int, has_val: bool, has_test: bool) -> tuple[int, int]:
    """Returns how many of the `total` images of a training file are for validation and for the test.

    Args:
        has_val, has_test: whether there is a file of such images, in place of which only a stated `data.val_size` is
            held out.

    Raises:
        ValueError: none would be left to train on.
    """
    test = 0 if has_test else int(_count(config.test_size, total))
    share = config.val_size is None or 0 < config.val_size < 1
    val = min(MOST_VAL, total * VAL_SHARE) if config.val_size is None else _count(config.val_size, total)
    val = 0 if has_val and config.val_size is None else max(int(val), int(share and total > 1))
    for name, count, size in (("test_size", test, config.test_size), ("val_size", test + val, config.val_size)):
        if count >= total:
            left = total - (test if name == "val_size" else 0)
            raise ValueError(
                f"`data.{name}` must be below the {left} images of the split train, got {size}; `data.{name}: 0.1` "
                "holds out a tenth."
            )
    return val, test


def rows_of(split: str, val: int, test: int, order: torch.Tensor) -> torch.Tensor:
    """Returns the rows of a split, in the order of the file: the last `test` of `order` are for the test, the `val`
    before them for validation."""
    stop = len(order) - test
    parts = {"train": order[: stop - val], "val": order[stop - val : stop], "test": order[stop:]}
    return parts[split].sort().values


def stratified_order(labels: torch.Tensor | None, total: int) -> torch.Tensor:
    """Draws an order of all rows, (N,), in which each stretch holds of each class about its share.

    Args:
        labels: int64 (N,); None for images of one kind.
    """
    generator = keyed_generator("held out")
    shuffled = torch.randperm(total, generator=generator)
    if labels is None:
        return shuffled
    _, classes, counts = labels[shuffled].unique(return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    rank = torch.empty(total, dtype=torch.long)  # of a row among those of its class
    rank[classes.argsort(stable=True)] = torch.arange(total) - first.repeat_interleave(counts)
    shift = torch.rand(len(counts), generator=generator)  # without which all small classes would fall together
    return shuffled[((rank + shift[classes].double()) / counts[classes]).argsort(stable=True)]


def _count(size: int | float, total: int) -> float:
    return size * total if 0 < size < 1 else size
