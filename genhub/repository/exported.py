"""`onnx/export.json`, which says what was exported from which weights, and the section of a card that shows it."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from genhub.repository.card import AUTHOR_END
from genhub.repository.card_evaluation import table
from genhub.repository.format import RepositoryError, component_files, member, read_json, validate
from genhub.repository.index import read_index
from genhub.utils.files import sha256

BEGIN, END = "<!-- export -->", "<!-- /export -->"
FileName = Literal["model.onnx", "model_fp16.onnx", "model.pt2"]  # the first two as in transformers.js
FILES = get_args(FileName)
BEFORE = re.compile(r"(?m)^## (Limits|Sources)$|\Z")  # the section that follows, in a card without the marks

Name = Annotated[str, StringConstraints(pattern=r"^\w{1,100}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Member = Annotated[
    str,
    StringConstraints(pattern=r"^(model_index\.json|\w{1,100}/(\w{1,100}\.json|model(_fp16)?\.onnx|model\.pt2))$"),
]


class File(BaseModel):
    """A file of a graph."""

    model_config = ConfigDict(strict=True)
    bytes: int = Field(ge=0)
    difference: float = Field(ge=0, allow_inf_nan=False)
    opset: int | None = None


class Exported(BaseModel):
    """A graph: the shapes of its inputs, with "batch" for a dynamic axis, its output, and its files."""

    model_config = ConfigDict(strict=True)
    inputs: dict[Name, list[int | Name]]
    output: Name
    files: dict[FileName, File]


class Export(BaseModel):
    """The content of export.json: the SHA-256 of the weights and of the files in the folder, and the graphs."""

    model_config = ConfigDict(strict=True)
    weights: dict[str, Digest]
    files: dict[Member, Digest]
    graphs: dict[Name, Exported]


def read_export(folder: Path) -> dict[str, Any] | None:
    """Returns what export.json in a folder says, None if there is none.

    Raises:
        RepositoryError: it is not what `genhub export` writes.
    """
    path = folder / "export.json"
    if not path.is_file():
        return None
    validate(Export, content := read_json(path), path)
    return content


def exported_files(folder: Path) -> list[str]:
    """Returns the exported files of a repository, relative to it.

    Raises:
        RepositoryError: they were made of other weights, or one is not what was written.
    """
    exported = read_export(folder / "onnx")
    if exported is None:
        return []
    if exported["weights"] != weight_digests(folder):
        raise RepositoryError(
            f"{folder / 'onnx'} was exported from other weights: remove it, or repeat `genhub export {folder}`."
        )
    for name, digest in exported["files"].items():
        if sha256(member(folder, f"onnx/{name}")) != digest:
            raise RepositoryError(
                f"{folder / 'onnx' / name} is not what was written: repeat `genhub export {folder}`."
            )
    return sorted(f"onnx/{name}" for name in ("export.json", *exported["files"]))


def weight_digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file of weights of a repository.

    Raises:
        RepositoryError: one is no regular file of the repository.
    """
    index = read_index(folder)
    names = [name for name in component_files(folder, index) if name.endswith(".safetensors")]
    recorded = index["_genhub"]["sha256"] if "_genhub" in index else names
    return {name: sha256(member(folder, name)) for name in names if name in recorded}


def with_export(text: str, graphs: dict[str, dict[str, Any]]) -> str:
    """Returns the card `text` with a section about `graphs`, those of `onnx/export.json`."""
    rows = [(f"`{name}`", _signature(graph), *differences(graph)) for name, graph in graphs.items()]
    section = [
        BEGIN,
        "",
        "## ONNX",
        "",
        "`genhub export` writes each network into `onnx/`. The largest difference of a file from PyTorch in float64, "
        "relative to the largest value, or to 1 if that is less:",
        "",
        *table(["folder", "inputs -> output", *(f"`{file}`" for file in FILES)], rows),
        "",
        END,
    ]
    start = max(text.find(AUTHOR_END), 0)  # what stands before it is the author's
    end = text.find(END, start)
    begin = text.rfind(BEGIN, start, end) if end >= 0 else -1
    if begin >= 0:
        return text[:begin] + "\n".join(section) + text[end + len(END) :]
    place = next(BEFORE.finditer(text, start)).start()
    return f"{text[:place].rstrip()}\n\n" + "\n".join(section) + "\n" + ("\n" + text[place:] if text[place:] else "")


def differences(graph: dict[str, Any]) -> list[str]:
    """Returns the largest difference of each of `FILES`, "" of one that was not written."""
    return [f"{graph['files'][file]['difference']:.1e}" if file in graph["files"] else "" for file in FILES]


def _signature(graph: dict[str, Any]) -> str:
    inputs = (f"`{name}` ({', '.join(map(str, shape))})" for name, shape in graph["inputs"].items())
    return f"{', '.join(inputs)} -> `{graph['output']}`"
