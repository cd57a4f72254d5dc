"""Saving a pipeline as a repository that plain diffusers loads.

Parts that diffusers has itself are recorded as such; a class of genhub's travels as its source file beside its
weights.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from diffusers import DiffusionPipeline

from genhub.repository.load import FORMAT, read_json
from genhub.utils.files import sha256
from genhub.version import VERSION


def save_repo(
    pipeline: DiffusionPipeline, folder: str | os.PathLike, documents: dict[str, str | bytes] | None = None
) -> Path:
    """Saves `pipeline` as a repository that plain diffusers loads, with `documents` (file name -> content) beside it.

    Everything is written to a scratch folder first and then moved, so a failure leaves what was there before.
    """
    folder = Path(folder)
    scratch = folder / ".saving"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    own = type(pipeline).__module__.startswith("diffusers.")
    plain = pipeline if own else pipeline.to_diffusers()
    (plain or pipeline).save_pretrained(scratch, safe_serialization=True)

    index = read_json(scratch / "model_index.json")
    components = {name: type(part).__name__ for name, part in pipeline.components.items()}
    if plain is None:
        for name, part in pipeline.components.items():
            if type(part).__module__.startswith("genhub."):
                source = source_file(type(part))
                shutil.copy(source, scratch / name / source.name)
                index[name] = [source.stem, type(part).__name__]
        source = source_file(type(pipeline))
        shutil.copy(source, scratch / source.name)
        index["_class_name"] = [source.stem, type(pipeline).__name__]
    arguments = {k: v for k, v in pipeline.config.items() if not k.startswith("_") and k not in components}
    weights = sorted(path.relative_to(scratch).as_posix() for path in scratch.rglob("*.safetensors"))
    index["_genhub"] = {
        "format": FORMAT,
        "version": VERSION,
        "class_name": type(pipeline).__name__,
        "components": components,
        "arguments": arguments,
        "sha256": {name: sha256(scratch / name) for name in weights},
    }
    index.pop("_name_or_path", None)
    _write_json(scratch / "model_index.json", index)
    for path in scratch.glob("*/*config.json"):
        _write_json(path, {key: value for key, value in read_json(path).items() if key != "_name_or_path"})

    for name, content in (documents or {}).items():
        (scratch / name).write_bytes(content.encode() if isinstance(content, str) else content)
    (folder / "model_index.json").unlink(missing_ok=True)  # there again last of all: without it, it is no repository
    for path in sorted(scratch.iterdir(), key=lambda path: path.name == "model_index.json"):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
    scratch.rmdir()
    return folder


def source_file(cls: type) -> Path:
    """Returns the file that travels with a class of genhub's: that of the class itself, not of how we install it."""
    own = next(c for c in cls.__mro__ if c.__name__ == cls.__name__ and not hasattr(c, "is_installed"))
    return Path(sys.modules[own.__module__].__file__)


def _write_json(path: Path, content: dict):
    path.write_text(json.dumps(content, indent=2) + "\n")
