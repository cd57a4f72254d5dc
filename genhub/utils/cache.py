"""Tensors on disk that would take long to compute again, under a key of what they were computed from.

A cache is a convenience: what cannot be read or written, or was damaged, is computed.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]


def cached(kind: str, key: str, compute: Callable[[], Tensors]) -> Tensors:
    """Returns what `compute` gives, or what it gave an earlier run under the same `key` of the same `kind`."""
    path = cache_folder() / kind / f"{key}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            tensors, written = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        if written.get("hash") == _hash(tensors):
            return tensors
    except (OSError, SafetensorError):  # not there yet, or damaged
        pass
    tensors = compute()
    scratch = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, scratch, {"hash": _hash(tensors)})
        scratch.replace(path)
    except (OSError, SafetensorError):
        with suppress(OSError):
            scratch.unlink()
    return tensors


def cache_folder() -> Path:
    """Returns the folder of all caches: `$GENHUB_CACHE`, or `genhub` in the Hub client's home."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("GENHUB_CACHE") or Path(HF_HOME) / "genhub")


def content_hash(*contents: torch.Tensor | bytes | memoryview | str) -> str:
    """Returns what identifies `contents`, in hexadecimal: 128 bits of XXH3 over their shapes and bytes."""
    digest = xxhash.xxh3_128()
    for content in contents:
        if isinstance(content, torch.Tensor):
            content = content.detach().cpu().contiguous()
            digest.update(f"{content.dtype} {tuple(content.shape)}".encode())
            content = content.view(-1).view(torch.uint8).numpy() if content.numel() else b""
        content = content.encode() if isinstance(content, str) else content
        digest.update(f"{len(content)} ".encode())  # ("a", "bc") is not ("ab", "c")
        digest.update(content)
    return digest.hexdigest()


def _hash(tensors: Tensors) -> str:
    return content_hash(*(part for name in sorted(tensors) for part in (name, tensors[name])))
