"""`genhub export`: the networks of a repository for runtimes without PyTorch."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from genhub.repository.download import download
from genhub.repository.exported import read_export, weight_digests, with_export
from genhub.repository.format import RepositoryError, component_entries
from genhub.repository.index import read_index
from genhub.repository.load import AutoPipeline
from genhub.repository.replace import finish_save
from genhub.repository.space import last_name
from genhub.utils.extras import check_packages, how_to_install
from genhub.utils.files import atomic_write, expanded, make_folder, sha256
from genhub.utils.locks import locked
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
    place = expanded(repo)
    finish_save(place)
    source, name = download(repo), last_name(repo)
    folder = expanded(output) if output else place / "onnx" if place.is_dir() else Path(f"onnx-{name}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`output` must be a folder, got the file {folder}.")
    if output is not None or not place.is_dir():
        _write(source, folder, name, format, dtype, opset)
        return folder
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise RepositoryError(f"{path} must be no link: what it leads to would be written over.")
    with locked(place):
        graphs = _write(source, folder, name, format, dtype, opset)
        if (card := place / "README.md").is_file():
            atomic_write(card, with_export(read_text(card), graphs))
    return folder


def _write(source: Path, folder: Path, name: str, format: str, dtype: str, opset: int) -> dict[str, dict[str, Any]]:
    """Writes the files of an export and its export.json, removes those of other weights, and returns the graphs."""
    from genhub.graphs.networks import graphs_of
    from genhub.graphs.write import FILES, HALF, MODEL, PROGRAM, record, to_files

    weights, earlier = weight_digests(source), read_export(folder)
    if earlier is None or earlier["weights"] != weights:
        earlier = {"files": {}, "graphs": {}}
    kept = {file: digest for file, digest in earlier["files"].items() if _is_same(folder / file, digest)}
    pipeline = AutoPipeline.from_pretrained(source)
    files = (PROGRAM,) if format == "pt2" else (MODEL,) if dtype == "fp32" else (HALF,)
    written, graphs = {}, graphs_of(name, pipeline)
    contents = {part: to_files(f"{part} of {name}", graph, pipeline, files, opset) for part, graph in graphs.items()}
    records = {part: record(graph, contents[part], opset) for part, graph in graphs.items()}
    for part, entry in records.items():
        before = earlier["graphs"].get(part, {"files": {}})["files"]
        entry["files"] = {file: about for file, about in before.items() if f"{part}/{file}" in kept} | entry["files"]
        written |= {f"{part}/{file}": content for file, (content, _) in contents[part].items()}
    written |= _configs(source, pipeline, graphs)
    for file, content in written.items():
        make_folder((folder / file).parent)
        atomic_write(folder / file, content)
    digests = kept | {file: hashlib.sha256(content).hexdigest() for file, content in written.items()}
    for path in folder.glob("*/*"):
        if path.name in FILES and path.relative_to(folder).as_posix() not in digests:
            path.unlink()
    content = {"weights": weights, "files": digests, "graphs": records}
    atomic_write(folder / "export.json", json.dumps(content, indent=2) + "\n")
    return records


def _is_same(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


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
    if format == "onnx":
        check_packages("An export", PACKAGES, how_to_install("export"))


def _configs(source: Path, pipeline: DiffusionPipeline, graphs: dict[str, Any]) -> dict[str, bytes]:
    """Returns what optimum reads, by its place in the folder: the config of a network beside its graph and, for a
    pipeline of diffusers' own class, the index, the scheduler and the tokenizer."""
    found = {f"{part}/config.json": source / graph.parts[0] / "config.json" for part, graph in graphs.items()}
    found.pop("pipeline/config.json", None)
    if type(pipeline).__module__.startswith("diffusers."):
        found["model_index.json"] = source / "model_index.json"
        for part in component_entries(read_index(source)).keys() & {"scheduler", "tokenizer"}:
            found |= {f"{part}/{path.name}": path for path in (source / part).glob("*.json")}
    return {name: path.read_bytes() for name, path in sorted(found.items()) if path.is_file()}
