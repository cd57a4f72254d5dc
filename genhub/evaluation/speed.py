"""Cost of generating images: passes through networks, and memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from genhub.utils import memory


@contextmanager
def count_passes(networks: Sequence[nn.Module]) -> Iterator[dict[nn.Module, int]]:
    """Counts the samples that pass through each network within the block; the dict is filled when it ends.

    They are counted at the layer that most of them pass: a pipeline may call `decode` or another method rather than
    `forward`, and a chain of Gibbs sampling may stay in one layer of several.
    """
    passes = dict.fromkeys(networks, 0)
    samples: dict[nn.Module, dict[nn.Module, int]] = {network: {} for network in networks}  # of each layer

    def count_in(layers: dict[nn.Module, int]) -> Callable[..., None]:
        def count(layer: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
            tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
            layers[layer] = layers.get(layer, 0) + (len(tensors[0]) if tensors else 0)

        return count

    with ExitStack() as hooks:
        for network, layers in samples.items():
            for layer in network.modules():
                if next(layer.parameters(recurse=False), None) is not None:
                    hooks.callback(layer.register_forward_hook(count_in(layers), with_kwargs=True).remove)
        yield passes
    for network, layers in samples.items():
        passes[network] = max(layers.values(), default=0)


def peak_memory() -> int:
    """Returns the peak memory in bytes: of the GPU if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return memory.peak_memory()
