"""`genhub export`: the networks of a repository for runtimes without PyTorch."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from genhub.repository.download import download
from genhub.repository.exported import read_export, weight_digests, with_export
from genhub.repository.format import component_entries
from genhub.repository.index import read_index
from genhub.repository.load import AutoPipeline
from genhub.utils.extras import how_to_install
from genhub.utils.files import atomic_write, expanded, make_folder
from genhub.utils.reading import read_text

FORMATS, DTYPES = ("onnx", "pt2"), ("fp32", "fp16")
OLDEST, NEWEST = 18, 23  # opsets that PyTorch's exporter writes
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


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
        output: folder (default: `onnx` in the repository, whose card gets a section, or `onnx-<name>` for one of the
            Hub).

    Raises:
        ValueError: an argument is not allowed, or a package is missing.
        RepositoryError: it is no repository, or a network cannot be exported.
    """
    _check(format, dtype, opset)
    from genhub.graphs.networks import graphs_of
    from genhub.graphs.write import HALF, MODEL, PROGRAM, record, to_files

    source, place = download(repo), expanded(repo)
    name = Path(os.path.abspath(place)).name
    folder = expanded(output) if output else place / "onnx" if place.is_dir() else Path(f"onnx-{name}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`output` must be a folder, got the file {folder}.")
    weights, earlier = weight_digests(source), read_export(folder)
    pipeline = AutoPipeline.from_pretrained(source)
    files = (PROGRAM,) if format == "pt2" else (MODEL,) if dtype == "fp32" else (HALF,)
    graphs = graphs_of(name, pipeline)
    contents = {part: to_files(f"{part} of {name}", graph, pipeline, files, opset) for part, graph in graphs.items()}
    known = earlier["graphs"] if earlier and earlier["weights"] == weights else {}
    for part, graph in graphs.items():
        make_folder(folder / part)
        for file, (content, _) in contents[part].items():
            atomic_write(folder / part / file, content)
        entry = record(graph, contents[part], opset)
        known[part] = entry | {"files": known.get(part, {}).get("files", {}) | entry["files"]}
    _copy_configs(source, folder, pipeline, graphs)
    atomic_write(folder / "export.json", json.dumps({"weights": weights, "graphs": known}, indent=2) + "\n")
    card = place / "README.md"
    if output is None and card.is_file():
        atomic_write(card, with_export(read_text(card), known))
    return folder


def lines_of(folder: Path) -> list[str]:
    """Returns a line about each exported file of a folder."""
    exported = read_export(folder) or {"graphs": {}}
    return [
        f"{part}/{file}  {about['bytes'] / 1e6:.2f} MB  largest difference from PyTorch {about['difference']:.1e}"
        for part, graph in exported["graphs"].items()
        for file, about in graph["files"].items()
    ]


def _check(format: str, dtype: str, opset: int) -> None:
    """Raises ValueError if an argument is not allowed, or a package is missing."""
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, got {format!r}.")
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be fp32 or fp16, got {dtype!r}.")
    if format == "pt2" and (dtype, opset) != ("fp32", OLDEST):
        raise ValueError(f"`dtype` and `opset` must be left out with the format pt2, got {dtype} and {opset}.")
    if not OLDEST <= opset <= NEWEST:
        raise ValueError(f"`opset` must lie in {OLDEST}..{NEWEST}, got {opset}.")
    if format == "onnx" and (missing := [name for name in PACKAGES if find_spec(name) is None]):
        raise ValueError(f"An export needs {', '.join(missing)}: {how_to_install('export')}.")


def _copy_configs(source: Path, folder: Path, pipeline: DiffusionPipeline, graphs: dict[str, Any]) -> None:
    """Copies what optimum reads: the config of a network beside its graph and, for a pipeline of diffusers' own
    class, the index, the scheduler and the tokenizer."""
    index = read_index(source)
    for part, graph in graphs.items():
        config = source / graph.parts[0] / "config.json"
        if part != "pipeline" and config.is_file():
            atomic_write(folder / part / "config.json", config.read_bytes())
    if type(pipeline).__module__.startswith("diffusers."):
        atomic_write(folder / "model_index.json", (source / "model_index.json").read_bytes())
        for part in component_entries(index).keys() & {"scheduler", "tokenizer"}:
            make_folder(folder / part)
            for path in (source / part).glob("*.json"):
                atomic_write(folder / part / path.name, path.read_bytes())
