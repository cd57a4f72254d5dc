"""model_index.json and the files that it answers for: checked before anything is made of them."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints, ValidationError

from genhub.repository.format import (
    FORMAT,
    RepositoryError,
    component_entries,
    component_files,
    member,
    read_json,
    source_name,
)
from genhub.utils.files import sha256
from genhub.utils.ranges import shown

MOST_STEPS = 10**6  # of any number that counts steps, classes or pixels, in an index or a scheduler's config

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


class Own(Format):
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


class Keys(RootModel[dict[Name, Any]]):
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
    _validate(Keys, index, path)
    _validate(Index, index, path)
    _validate(Components, {name: list(entry) for name, entry in component_entries(index).items()}, path)
    if "_genhub" in index:
        _validate(Format, index["_genhub"], path, "_genhub.")
        if index["_genhub"]["format"] > FORMAT:
            version = shown(index["_genhub"]["version"])
            raise RepositoryError(f"{folder} was written by a newer genhub ({version}); update genhub.")
        _validate(Own, index["_genhub"], path, "_genhub.")
        for name in sorted(component_entries(index).keys() ^ index["_genhub"]["components"].keys()):
            raise RepositoryError(f"{path}: `{name}` must be a component in `_genhub` as well as beside it.")
    check_numbers(index, path, MOST_STEPS)
    return index


def check_files(folder: Path, index: dict[str, Any]) -> None:
    """Checks that the files of every component are regular ones of the repository, and what was written.

    Raises:
        RepositoryError: one is missing, damaged or unknown, or leads out of the repository.
    """
    files = component_files(folder, index)
    for name in files:
        member(folder, name)
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
        if sha256(member(folder, name)) != recorded[name]:
            raise RepositoryError(f"{folder / name} is damaged: its SHA-256 is not the one in model_index.json.")


def check_numbers(value: Any, path: Path, most: int, name: str = "") -> None:
    """Refuses whole numbers of more than `most`, which would make a constructor compute for hours.

    Raises:
        RepositoryError: there is one.
    """
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            check_numbers(entry, path, most, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int) and abs(value) > most:
        raise RepositoryError(f"{path}: `{name}` must be at most {most:,}, got {shown(value)}.")


def _validate(model: type[BaseModel], value: Any, path: Path, prefix: str = "") -> None:
    try:
        model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = prefix + ".".join(map(str, first["loc"]))
        rule = re.sub(r"^\w+ should ", "must ", first["msg"]) if first["type"] != "missing" else "must be set"
        raise RepositoryError(f"{path}: `{place}` {rule}, got {shown(first['input'])}.") from error
