"""`genhub export`: the networks of a repository for runtimes without PyTorch."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

from genhub.repository.load import AutoPipeline
from genhub.utils.files import atomic_write, expanded

FORMATS, DTYPES = ("onnx", "pt2"), ("fp32", "fp16")
OLDEST, NEWEST = 18, 23  # opsets that PyTorch's exporter writes


def export(
    repo: str | os.PathLike,
    format: str = "onnx",
    dtype: str = "fp32",
    opset: int = OLDEST,
    output: str | os.PathLike | None = None,
) -> Path:
    """Writes each network of a repository as a graph with a dynamic batch, after it has been run beside PyTorch, and
    `export.json` with inputs, outputs and largest differences; returns their folder.

    Args:
        format: onnx, which onnxruntime runs, or pt2, a program of `torch.export`.
        dtype: fp32, within 1e-4 of PyTorch, or fp16, with whatever difference; inputs and outputs are float32.
        output: folder (default: `onnx` in the repository, or `onnx-<name>` for one of the Hub).

    Raises:
        ValueError: an argument is not allowed, or a package is missing.
        RepositoryError: it is no repository, or a network cannot be exported.
    """
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, got {format!r}.")
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be fp32 or fp16, got {dtype!r}.")
    if format == "pt2" and (dtype, opset) != ("fp32", OLDEST):
        raise ValueError(f"`dtype` and `opset` must be left out with the format pt2, got {dtype} and {opset}.")
    if not OLDEST <= opset <= NEWEST:
        raise ValueError(f"`opset` must lie in {OLDEST}..{NEWEST}, got {opset}.")
    if format == "onnx" and (
        missing := [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    ):
        raise ValueError(f"An export needs packages that are not installed: {', '.join(missing)}.")
    from genhub.browser.folded import graphs_of
    from genhub.browser.graphs import write_graph, write_program

    pipeline, place = AutoPipeline.from_pretrained(repo), expanded(repo)
    name = Path(os.path.abspath(place)).name
    folder = Path(output) if output else place / "onnx" if place.is_dir() else Path(f"onnx-{name}")
    graphs, suffix = graphs_of(name, pipeline), "" if dtype == "fp32" else "_fp16"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "export.json"
    about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for graph_name, graph in graphs.items():
        file = f"{graph_name}{suffix}.{format}"
        if format == "onnx":
            difference = write_graph(folder / file, graph, pipeline, opset, dtype)
        else:
            difference = write_program(folder / file, graph, pipeline)
        inputs = {key: ["batch", *make(2).shape[1:]] for key, make in graph.inputs.items()}
        about[file] = {"inputs": inputs, "output": graph.output, "opset": opset, "largest_difference": difference}
    atomic_write(path, json.dumps(about, indent=2).encode() + b"\n")
    return folder
