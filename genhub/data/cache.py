"""Decoded images on disk, under a hash of what they were decoded from."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from genhub.data.config import DataConfig
from genhub.data.decode import DecodeError, decode


def decode_cached(encoded: list[bytes], config: DataConfig, place: Callable[[int], str]) -> torch.Tensor:
    """Decodes `encoded`, or reads what an earlier run decoded from the same bytes to the same shape."""
    digest = xxhash.xxh3_128(repr((len(encoded), config.size, config.channels)).encode())
    for png in encoded:
        digest.update(len(png).to_bytes(8, "little"))
        digest.update(png)
    path = cache_folder() / "images" / f"{digest.hexdigest()}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("images")
    except (FileNotFoundError, SafetensorError):  # not there yet, or left half-written by an older crash
        pass
    try:
        images = torch.from_numpy(decode(encoded, config.size, config.channels))
    except DecodeError as error:
        hint = (
            " Give `data.size` (and `data.channels`) to bring all to one shape." if "first one" in error.reason else ""
        )
        raise ValueError(f"{place(error.index).capitalize()} {error.reason}.{hint}") from error
    _write_beside(path, images)
    return images


def _write_beside(path: Path, images: torch.Tensor):
    """Saves the decoded images, if the disk lets us: a cache is a convenience."""
    scratch = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"images": images}, scratch)
        scratch.replace(path)
    except (OSError, SafetensorError):
        scratch.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Returns the folder of decoded data sets: `$GENHUB_CACHE`, or `genhub` in the Hub client's home."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("GENHUB_CACHE") or Path(HF_HOME) / "genhub")
