"""Modules of PyTorch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident

import torch
from torch import nn
from torch.nn.modules import module as hooks


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


@contextmanager
def at_most(tensors: int, elements: int) -> Iterator[None]:
    """Stops the building of a network with more parameters, buffers and parts than `tensors`, or more numbers in them
    than `elements`; one of a billion layers is not built to the end.

    Raises:
        ValueError: within the block, at the first part beyond.
    """
    thread, left = get_ident(), {"tensors": tensors, "numbers": elements}

    def spend(kind: str, amount: int):
        if get_ident() != thread:  # the hooks are those of all threads
            return
        left[kind] -= amount
        if left[kind] < 0:
            raise ValueError(f"it would have more than {tensors if kind == 'tensors' else elements:,} {kind}")

    def register(module: nn.Module, name: str, part: torch.Tensor | nn.Module | None):
        spend("tensors", 1)
        spend("numbers", part.numel() if isinstance(part, torch.Tensor) else 0)

    handles = [
        hooks.register_module_parameter_registration_hook(register),
        hooks.register_module_buffer_registration_hook(register),
        hooks.register_module_module_registration_hook(register),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
