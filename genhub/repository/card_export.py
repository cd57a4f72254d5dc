"""The section of a model card about exported files, between two marks, renewed by every export."""

import re
from typing import Any

from genhub.repository.card_evaluation import table

BEGIN, END = "<!-- export -->", "<!-- /export -->"
FILES = ("model.onnx", "model_fp16.onnx", "model.pt2")
BEFORE = re.compile(r"(?m)^## (Limits|Sources)$|\Z")  # the section that follows, in a card without the marks


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
