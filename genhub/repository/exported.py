"""`onnx/export.json`, which says what was exported from which weights, and the section of a card that shows it."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from genhub.repository.card_evaluation import table
from genhub.repository.format import component_files, read_json, validate
from genhub.utils.files import sha256

BEGIN, END = "<!-- export -->", "<!-- /export -->"
FILES = ("model.onnx", "model_fp16.onnx", "model.pt2")
BEFORE = re.compile(r"(?m)^## (Limits|Sources)$|\Z")  # the section that follows, in a card without the marks

Name = Annotated[str, StringConstraints(pattern=r"^\w{1,100}$")]


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
    files: dict[str, File]


class Export(BaseModel):
    """The content of export.json: the SHA-256 of each file of weights, and the graphs."""

    model_config = ConfigDict(strict=True)
    weights: dict[str, str]
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


def weight_digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file of weights of a repository."""
    names = component_files(folder, read_json(folder / "model_index.json"))
    return {name: sha256(folder / name) for name in names if name.endswith(".safetensors")}


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
    before, begin, rest = text.partition(BEGIN)
    if begin:
        return before + "\n".join(section) + rest.partition(END)[2]
    match = BEFORE.search(text)
    place = len(text) if match is None else match.start()
    return f"{text[:place].rstrip()}\n\n" + "\n".join(section) + "\n" + ("\n" + text[place:] if text[place:] else "")


def differences(graph: dict[str, Any]) -> list[str]:
    """Returns the largest difference of each of `FILES`, "" of one that was not written."""
    return [f"{graph['files'][file]['difference']:.1e}" if file in graph["files"] else "" for file in FILES]


def _signature(graph: dict[str, Any]) -> str:
    inputs = (f"`{name}` ({', '.join(map(str, shape))})" for name, shape in graph["inputs"].items())
    return f"{', '.join(inputs)} -> `{graph['output']}`"
