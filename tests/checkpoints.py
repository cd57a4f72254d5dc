"""Checkpoints that are changed, with manifests that fit."""

import io
import json
from pathlib import Path

import torch

from genhub.utils.files import sha256


def rewrite(path: Path, name: str, content: bytes | None = None, **manifest):
    """Changes a file of a checkpoint, and the manifest so that it fits."""
    if content is not None:
        (path / name).write_bytes(content)
    told = json.loads((path / "manifest.json").read_text())
    told["files"][name] = {"bytes": (path / name).stat().st_size, "sha256": sha256(path / name)}
    (path / "manifest.json").write_text(json.dumps(told | manifest))


def saved(value) -> bytes:
    """Returns what `torch.save` writes."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()
