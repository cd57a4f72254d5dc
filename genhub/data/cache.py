"""Decoded images on disk, under a hash of what they were decoded from."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from genhub.data.config import DataConfig
from genhub.data.decode import DecodeError, decode
from genhub.data.encoded import Encoded


def decode_cached(encoded: Encoded, config: DataConfig, place: Callable[[int], str]) -> torch.Tensor:
    """Decodes `encoded`, or reads what an earlier run decoded from the same bytes to the same shape."""
    digest = xxhash.xxh3_128(repr((config.size, config.channels, len(encoded))).encode())
    digest.update(np.diff(encoded.bounds))  # the lengths
    digest.update(encoded.content[encoded.bounds[0] : encoded.bounds[-1]])
    path = cache_folder() / "images" / f"{digest.hexdigest()}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            images, written = file.get_tensor("images"), file.metadata() or {}
        if written.get("hash") == _hash(images):
            return images
    except (OSError, SafetensorError):  # not there yet, or damaged
        pass
    try:
        images = torch.from_numpy(decode(encoded, config.size, config.channels))
    except DecodeError as error:
        raise ValueError(f"{place(error.index)} {error.reason}.") from error
    _write_beside(path, images)
    return images


def _write_beside(path: Path, images: torch.Tensor):
    """Saves the decoded images, if the disk lets us: a cache is a convenience."""
    scratch = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"images": images}, scratch, {"hash": _hash(images)})
        scratch.replace(path)
    except (OSError, SafetensorError):
        with suppress(OSError):
            scratch.unlink()


def _hash(images: torch.Tensor) -> str:
    return xxhash.xxh3_128_hexdigest(images.numpy())


def cache_folder() -> Path:
    """Returns the folder of decoded data sets: `$GENHUB_CACHE`, or `genhub` in the Hub client's home."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("GENHUB_CACHE") or Path(HF_HOME) / "genhub")
