"""A function of a pipeline's networks, with inputs to trace it with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

Inputs = dict[str, Callable[[int], torch.Tensor]]


class Graph(NamedTuple):
    """A function of networks that becomes a graph.

    Args:
        function: tensors -> one tensor, in the order of `inputs`.
        inputs: name -> a function that makes it for a batch; an axis whose length depends on the batch is dynamic.
        output: name of what it returns.
        parts: names of the components whose weights it has.
    """

    function: Callable[..., torch.Tensor]
    inputs: Inputs
    output: str
    parts: tuple[str, ...]

    def shapes(self) -> dict[str, list[int | str]]:
        """Returns the shape of each input, with "batch" for its dynamic axes."""
        pairs = {name: (make(2).shape, make(3).shape) for name, make in self.inputs.items()}
        return {name: [a if a == b else "batch" for a, b in zip(*pair, strict=True)] for name, pair in pairs.items()}


def image_shape(config: Any) -> list[int]:
    """Returns the shape (C, H, W) of a network's images."""
    size = config["sample_size"]
    channels = config.get("in_channels") or config["out_channels"]
    return [channels, *((size, size) if isinstance(size, int) else size)]


def normal(*shape: int) -> Callable[[int], torch.Tensor]:
    """Returns what makes numbers from N(0, 1), (B, *shape)."""
    return lambda count: torch.randn(count, *shape, generator=torch.Generator().manual_seed(count))


def pixels(*shape: int) -> Callable[[int], torch.Tensor]:
    """Returns what makes numbers in [-1, 1], (B, *shape)."""
    return lambda count: uniforms(*shape)(count) * 2 - 1


def uniforms(*shape: int) -> Callable[[int], torch.Tensor]:
    """Returns what makes numbers in [0, 1), (B, *shape)."""
    return lambda count: torch.rand(count, *shape, generator=torch.Generator().manual_seed(count))


def classes(count: int | None) -> Inputs:
    """Returns the input `class_labels` of a network that knows `count` classes; none of an unconditional one."""
    return {"class_labels": lambda batch: torch.arange(batch) % count} if count else {}
