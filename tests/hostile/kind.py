"""What is attacked: the unharmed files, who reads them, and which outcomes are right."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hostile.mutate import Mutation

Value = dict[str, Any]


def never(found: Value, original: Value, folder: Path) -> bool:
    """Of files with a checksum: nothing but the original is right."""
    return False


def always(found: Value, original: Value, folder: Path) -> bool:
    """Of files that may say anything, such as a recipe: whatever is read without an error is right."""
    return True


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        make: writes unharmed files into a folder.
        files: patterns of those that are changed.
        mutations: that are drawn, the same one several times to draw it more often.
        read: (folder) -> what is in it, by genhub.
        permits: (what was read, the original, folder) -> whether other content is right. It asks another decoder where
            the format has no checksum.
        commands: (folder) -> words of command lines that read it, of which one is run.
        leaves: (folder) -> whether what `genhub train` has left there is right.
        follows_links: whether a link may lead out of the folder.
    """

    make: Callable[[Path], object]
    files: tuple[str, ...]
    mutations: tuple[Mutation, ...]
    read: Callable[[Path], Value]
    permits: Callable[[Value, Value, Path], bool] = never
    commands: tuple[Callable[[Path], list[str]], ...] = field(default=())
    leaves: Callable[[Path], bool] = lambda folder: True
    follows_links: bool = False

    def paths(self, folder: Path) -> list[Path]:
        return sorted({path for pattern in self.files for path in folder.glob(pattern)})


def equal(a: Any, b: Any) -> bool:
    """Whether two nested values are the same, tensors and arrays bit for bit."""
    if isinstance(a, torch.Tensor | np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and (a == b or a != a)


def same_set(a: Iterable[np.ndarray], b: Iterable[np.ndarray]) -> bool:
    """Whether two lists hold the same arrays, in whatever order."""
    return sorted((x.shape, x.tobytes()) for x in a) == sorted((x.shape, x.tobytes()) for x in b)
