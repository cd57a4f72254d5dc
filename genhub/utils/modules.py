"""Modules of PyTorch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Puts modules into evaluation mode for as long as the block lasts; a part that was in it stays in it."""
    modules = list(modules)
    trained = [part for module in modules for part in module.modules() if part.training]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part in trained:
            part.training = True
