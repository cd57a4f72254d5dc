"""model_index.json and the files that it answers for: checked before anything is made of them."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

from genhub.repository.format import (
    FORMAT,
    RepositoryError,
    component_entries,
    component_files,
    is_read,
    member,
    read_json,
    source_name,
    validate,
)
from genhub.utils.files import sha256
from genhub.utils.ranges import MOST_STEPS, shown
from genhub.utils.reading import LARGEST, FileError, stored_tensors

GEOMETRY = re.compile(r"padding|stride|dilation|kernel")  # of a convolution: no tensor of the weights tells it
MOST_PIXELS = 64  # of it

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$", max_length=100)]
Library = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.-]*$", max_length=100)]
FileName = Annotated[str, StringConstraints(pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$", max_length=200)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Pair = Annotated[list[Library | None], Field(min_length=2, max_length=2)]


class Format(BaseModel):
    """What every format of the entry `_genhub` has."""

    model_config = ConfigDict(strict=True, extra="allow")
    format: int = Field(ge=1)
    version: str = Field(max_length=100)


class GenhubEntry(Format):
    """The entry `_genhub` of format 1."""

    class_name: Name
    components: dict[Name, Name]
    arguments: dict[Name, Any]
    call: dict[Name, Any] = {}
    sha256: dict[FileName, Digest]
    texts: dict[FileName, Digest]


class Index(BaseModel):
    """model_index.json, of which all else is the config of the pipeline and its components."""

    model_config = ConfigDict(strict=True, extra="allow")
    pipeline: Name | Pair = Field(alias="_class_name")
    own: dict[str, Any] = Field({}, alias="_genhub")


class IndexKeys(RootModel[dict[Name, Any]]):
    """Names of components, which are names of folders, too, and of arguments."""


class Components(RootModel[dict[Name, Pair]]):
    """Where the class of each component is defined, and its name."""


def read_index(folder: Path) -> dict[str, Any]:
    """Reads model_index.json of a repository.

    Raises:
        RepositoryError: it is missing, no JSON, or not what its format says; or a newer genhub wrote it.
    """
    path = member(folder, "model_index.json")
    index = read_json(path)
    validate(IndexKeys, index, path)
    validate(Index, index, path)
    validate(Components, {name: list(entry) for name, entry in component_entries(index).items()}, path)
    if "_genhub" in index:
        validate(Format, index["_genhub"], path, "_genhub.")
        if index["_genhub"]["format"] > FORMAT:
            version = shown(index["_genhub"]["version"])
            raise RepositoryError(f"{folder} was written by a newer genhub ({version}); update genhub.")
        if "texts" not in index["_genhub"]:
            raise RepositoryError(older(folder, index["_genhub"]["version"]))
        validate(GenhubEntry, index["_genhub"], path, "_genhub.")
        for name in sorted(component_entries(index).keys() ^ index["_genhub"]["components"].keys()):
            raise RepositoryError(f"{path}: `{name}` must be a component in `_genhub` as well as beside it.")
    check_integers(index, path, MOST_STEPS)
    return index


def older(folder: Path, version: str) -> str:
    """Returns what is wrong with a repository of an older genhub, and what helps."""
    remedy = f"if you trust it, `genhub.record_digests({str(folder)!r})` records them"
    if (folder / "recipe.yaml").is_file() and (folder / "training").is_dir():
        remedy = f"`genhub train --resume {folder}` saves the run anew"
    return f"{folder} was saved by an older genhub ({shown(version)}), without digests of its configs; {remedy}."


def check_files(folder: Path, index: dict[str, Any]) -> None:
    """Checks that the files of every component are regular ones of the repository, and what was written; other files
    beside them, which nobody loads, are let lie.

    Raises:
        RepositoryError: one is missing, damaged or unknown, or leads out of the repository.
    """
    files = component_files(folder, index)
    for name in files:
        member(folder, name)
    files = [name for name in files if is_read(name.partition("/")[2])]
    if "_genhub" not in index:  # a repository of plain diffusers
        return
    recorded = index["_genhub"]["sha256"] | index["_genhub"]["texts"]
    if (source := source_name(index)) is not None:
        files.append(source)
    for name in [*recorded, *(name for name in files if name not in recorded)]:
        is_source = name.endswith(".py")  # sources are not downloaded
        if is_source and not (folder / name).exists():
            continue
        if name not in recorded:
            raise RepositoryError(f"{folder}/model_index.json records no SHA-256 of {name}, so that it is not loaded.")
        _check_length(member(folder, name))
        if sha256(member(folder, name)) != recorded[name]:
            raise RepositoryError(f"{folder / name} is damaged: its SHA-256 is not the one in model_index.json.")


def _check_length(path: Path) -> None:
    """Refuses weights that are longer or shorter than their list of tensors says, and texts that nobody would write,
    before they are read for their hash."""
    try:
        if path.suffix == ".safetensors":
            stored_tensors(path)
        elif path.stat().st_size > LARGEST:
            raise FileError(path, f"it has more than {LARGEST:,} bytes")
    except FileError as error:
        raise RepositoryError(f"{path} is damaged: {error}") from error


def check_integers(value: Any, path: Path, most: int, name: str = "") -> None:
    """Refuses whole numbers of more than `most`, which would make a constructor compute for hours, and a
    geometry that no convolution has.

    Raises:
        RepositoryError: there is one.
    """
    most = min(most, MOST_PIXELS) if GEOMETRY.search(name) else most
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            check_integers(entry, path, most, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int) and abs(value) > most:
        raise RepositoryError(f"{path}: `{name}` must be at most {most:,}, got {shown(value)}.")
