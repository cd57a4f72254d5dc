"""Computed tensors on disk, keyed by a hash of their inputs.

An entry that is missing, damaged or cannot be written is computed.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import save_file

from genhub.utils.files import make_folder, remove_leftovers, replacement
from genhub.utils.reading import FileError, read_safetensors_and_metadata

Tensors = dict[str, torch.Tensor]


def cached(
    kind: str, key: str, compute: Callable[[], Tensors], fits: Callable[[Tensors], bool] = lambda tensors: True
) -> Tensors:
    """Returns the tensors stored under `key` in the folder `kind` of the cache, or computes and stores them.

    Args:
        fits: whether stored tensors have the names, numbers and shapes of computed ones.
    """
    path = cache_folder() / kind / f"{key}.safetensors"
    with suppress(FileError):  # not there yet, or damaged
        tensors, metadata = read_safetensors_and_metadata(path)
        digest = _hash(tensors)
        if metadata.get("hash") in (digest, f"{digest} {key}") and fits(tensors):  # once it was without the key
            return tensors
    tensors = compute()
    with suppress(OSError, SafetensorError):
        make_folder(path.parent)
        remove_leftovers(path.parent)
        with replacement(path) as part:
            save_file(tensors, part, {"hash": f"{_hash(tensors)} {key}"})
    return tensors


def holds(count: int, *names: str) -> Callable[[Tensors], bool]:
    """Returns whether each of the tensors `names` has `count` rows, as a function for `cached`."""
    return lambda tensors: all(len(tensors.get(name, ())) == count for name in names)


def cache_folder() -> Path:
    """Returns the folder of all caches: `$GENHUB_CACHE`, or `genhub` in the Hub client's home."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("GENHUB_CACHE") or Path(HF_HOME) / "genhub")


def content_hash(*contents: torch.Tensor | bytes | memoryview | str | Sequence[bytes | memoryview]) -> str:
    """Returns the 128-bit XXH3 of `contents` in hexadecimal, over dtypes, shapes, lengths and bytes; a sequence of
    bytes counts as its concatenation."""
    digest = xxhash.xxh3_128()
    for content in contents:
        if isinstance(content, torch.Tensor):
            content = content.detach().cpu().contiguous()
            digest.update(f"{content.dtype} {tuple(content.shape)}".encode())
            content = content.view(-1).view(torch.uint8).numpy().data if content.numel() else b""
        content = content.encode() if isinstance(content, str) else content
        pieces = (content,) if isinstance(content, bytes | memoryview) else content
        digest.update(f"{sum(map(len, pieces))} ".encode())  # ("a", "bc") is not ("ab", "c")
        for piece in pieces:
            digest.update(piece)
    return digest.hexdigest()


def _hash(tensors: Tensors) -> str:
    return content_hash(*(part for name in sorted(tensors) for part in (name, tensors[name])))
