"""Saving a pipeline as a repository that plain diffusers loads.

Components whose classes diffusers or transformers have are recorded as theirs; a class of genhub's travels as its
source file, a component's beside its weights.
"""

import inspect
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import is_compiled_module
from safetensors import SafetensorError
from torch import nn

from genhub.repository.format import (
    DOCUMENTS,
    FORMAT,
    PICTURE,
    RepositoryError,
    component_files,
    read_json,
    source_name,
)
from genhub.repository.replace import new_version
from genhub.utils.files import atomic_write, sha256
from genhub.utils.reading import one_line
from genhub.version import VERSION

ORIGINS = ("_name_or_path", "name_or_path")  # keys of configs: the folders that a part was loaded from


def save_repo(
    pipeline: DiffusionPipeline, folder: str | os.PathLike, documents: Mapping[str, str | bytes] | None = None
) -> Path:
    """Saves `pipeline` as a repository that plain diffusers loads; returns its folder.

    If it fails or is interrupted, the repository that was there before or the new one loads. The folder is locked
    meanwhile.

    Args:
        folder: other files in it, such as a run's, stay; those of an earlier version of a component do not.
        documents: file name -> content: README.md, LICENSE, recipe.yaml, metrics.json, and pictures that the README.md
            shows.

    Raises:
        ValueError: a document has another name, or another process writes to the folder; before any work.
        OSError: the disk is full, or the folder cannot be written.
    """
    folder, documents = Path(folder), documents or {}
    check_documents(documents)
    try:
        with new_version(folder) as scratch:
            write_repo(pipeline, scratch, documents)
    except SafetensorError as error:  # of its writer: a full disk
        raise OSError(f"{folder} cannot be written: {one_line(error)}") from error
    return folder


def write_repo(pipeline: DiffusionPipeline, folder: Path, documents: Mapping[str, str | bytes]):
    """Writes a repository into an empty folder."""
    saved = saved_form(pipeline)
    DiffusionPipeline.save_pretrained(saved, folder, safe_serialization=True)  # an installed class calls `save_repo`

    index = read_json(folder / "model_index.json")
    for name, component in saved.components.items():
        if _library(component) == "genhub":
            index[name] = copy_source(_class_of(component), folder / name)
    if _library(saved) == "genhub":
        index["_class_name"] = copy_source(type(saved), folder)
        index |= auto_map(saved, index)
    for path in folder.glob("*/*config.json"):
        write_json(path, read_json(path))
    index["_genhub"] = own_entry(pipeline)
    write_json(folder / "model_index.json", index)
    record_digests(folder)

    for name, content in documents.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def saved_form(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """Returns the pipeline that is written: by `to_diffusers`, if its class has it, one that needs no source."""
    to_diffusers = getattr(pipeline, "to_diffusers", None)
    plain = to_diffusers() if to_diffusers else None
    return pipeline if plain is None else plain


def carries_source(pipeline: DiffusionPipeline) -> bool:
    """Returns whether the repository of a pipeline carries source files, so that plain diffusers needs to trust it."""
    saved = saved_form(pipeline)
    return "genhub" in {_library(part) for part in (saved, *saved.components.values())}


def check_documents(documents: Mapping[str, str | bytes]):
    """Raises a ValueError for a document that `push` would leave behind."""
    card = documents.get("README.md", "")
    pictures = PICTURE.findall(card if isinstance(card, str) else card.decode())
    strange = sorted(documents.keys() - {*DOCUMENTS, *pictures})
    if strange:
        raise ValueError(
            f"`documents` must be {', '.join(DOCUMENTS)} or pictures that README.md shows, got {', '.join(strange)}."
        )


def write_json(path: Path, content: dict[str, Any]):
    """Writes an index or a config, without the names of the folders that it and its parts were loaded from."""

    def without_paths(value: Any) -> Any:
        if isinstance(value, list):
            return [without_paths(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        return {key: without_paths(entry) for key, entry in value.items() if key not in ORIGINS}

    atomic_write(path, json.dumps(without_paths(content), indent=2) + "\n")


def record_digests(folder: str | os.PathLike):
    """Writes the SHA-256 of weights, configs and sources into model_index.json: what loading then insists on.

    Whoever changes one of these files of a saved repository on purpose calls it afterwards, and whoever trusts
    one that was saved without digests.

    Raises:
        RepositoryError: the folder is no repository that genhub saved.
    """
    folder = Path(folder)
    index = read_json(folder / "model_index.json")
    if not isinstance(index.get("_genhub"), dict):
        raise RepositoryError(f"{folder} was not saved by genhub, and records no digests.")
    names = [*component_files(folder, index), *filter(None, [source_name(index)])]
    digests = {name: sha256(folder / name) for name in sorted(names)}
    own = index["_genhub"]
    own["sha256"] = {name: digest for name, digest in digests.items() if name.endswith(".safetensors")}
    own["texts"] = {name: digest for name, digest in digests.items() if name not in own["sha256"]}
    write_json(folder / "model_index.json", index)


def own_entry(pipeline: DiffusionPipeline) -> dict[str, Any]:
    """Returns the entry `_genhub` of model_index.json: installed classes, arguments, also of calls that name none, and
    place for digests."""
    components = {name: part for name, part in pipeline.components.items() if part is not None}
    config = {name: value for name, value in pipeline.config.items() if not name.startswith("_")}
    entry = {
        "format": FORMAT,
        "version": VERSION,
        "class_name": type(pipeline).__name__,
        "components": {name: _class_of(part).__name__ for name, part in components.items()},
        "arguments": {name: value for name, value in config.items() if name not in pipeline.components},
        "sha256": {},
        "texts": {},
    }
    defaults = getattr(pipeline, "default_arguments", None)
    return entry | {"call": defaults} if defaults else entry


def copy_source(cls: type, folder: Path) -> list[str]:
    """Copies the file of a class of genhub's into `folder`; returns diffusers' entry for it, [file, class]."""
    source = source_file(cls)
    shutil.copy(source, folder / source.name)
    return [source.stem, cls.__name__]


def auto_map(pipeline: DiffusionPipeline, index: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Returns the entry of model_index.json that tells `diffusers.AutoModel` where the code of every model is, or none
    if they have different code."""
    models = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    sources = {".".join(index[name]) for name in models}
    is_ours = {_library(part) for part in models.values()} == {"genhub"}
    return {"auto_map": {"AutoModel": sources.pop()}} if is_ours and len(sources) == 1 else {}


def source_file(cls: type) -> Path:
    """Returns the file that travels with a class of genhub's: that of the class itself, not of its installed form."""
    same = (base for base in cls.__mro__ if base.__name__ == cls.__name__ and base.__module__.startswith("genhub."))
    return Path(inspect.getfile(next(same)))


def _library(component: Any) -> str:
    return _class_of(component).__module__.partition(".")[0]


def _class_of(component: Any) -> type:
    """Returns the class of a component; of a compiled one, the class that was compiled."""
    return type(component._orig_mod if is_compiled_module(component) else component)
