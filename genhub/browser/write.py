"""Writing a page: its own files, the runtime, the graphs of the models, and what the page is told about them."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from genhub.browser.models import describe
from genhub.browser.runtime import ABOUT
from genhub.data.config import DataConfig
from genhub.data.load import load
from genhub.graphs.write import to_files
from genhub.utils.files import atomic_write

STATIC = Path(__file__).parent / "static"
EXAMPLES = 200  # test images of the bundled sample, to be reconstructed and searched
MOST_BYTES = 40 * 10**6  # of all graphs of a page

CARD = """---
title: {title}
emoji: 👕
sdk: static
app_file: index.html
pinned: false
---

Models that run in the browser, made by genhub: {names}.
"""


def copy_static(folder: Path, names: tuple[str, ...] = ()):
    """Copies the files of the page into a folder, under their own names: all, or only those named."""
    for path in sorted(STATIC.iterdir()):
        if not names or path.name in names:
            shutil.copyfile(path, folder / path.name)


def write_runtime(folder: Path, files: dict[str, bytes]):
    """Writes the files of ONNX Runtime Web into `runtime/`."""
    (folder / "runtime").mkdir()
    for name, content in files.items():
        (folder / "runtime" / name).write_bytes(content)
    (folder / "runtime/ABOUT.txt").write_text(ABOUT, encoding="utf-8")


def write_models(folder: Path, pipelines: dict[str, DiffusionPipeline]) -> list[dict[str, Any]]:
    """Writes the graphs of pipelines and `models.json`, and returns what stands there.

    Raises:
        RepositoryError: a pipeline cannot run on a page.
        ValueError: the graphs together are larger than a page may be.
    """
    described = {name: describe(name, pipeline) for name, pipeline in pipelines.items()}
    (folder / "graphs").mkdir()
    models = []
    for name, (about, graphs) in described.items():
        files, difference = {part: f"graphs/{name}-{part}.onnx" for part in graphs}, 0.0
        for part, graph in graphs.items():
            ((content, error),) = to_files(f"{name}-{part}", graph, pipelines[name]).values()
            atomic_write(folder / files[part], content)
            difference = max(difference, error)
        size = sum((folder / file).stat().st_size for file in files.values())
        text = f"{size / 1e6:.1f} MB; largest difference from PyTorch {difference:.1g}."
        models.append(about | {"graphs": files, "bytes": size, "difference": difference, "about": text})
    if (total := sum(model["bytes"] for model in models)) > MOST_BYTES:
        sizes = ", ".join(f"{model['name']} {model['bytes'] / 1e6:.1f}" for model in models)
        raise ValueError(
            f"`repos` must have at most {MOST_BYTES / 1e6:.0f} MB of graphs, got {total / 1e6:.1f} ({sizes})."
        )
    (folder / "models.json").write_text(json.dumps(models), encoding="utf-8")
    return models


def write_examples(folder: Path):
    """Writes the test images that the page offers to autoencoders."""
    images = load(DataConfig(source="sample"), "test").images[:EXAMPLES, 0]  # pyright: ignore
    (folder / "examples.json").write_text(
        json.dumps({"shape": list(images.shape), "pixels": encode(images)}), encoding="utf-8"
    )


def encode(images: torch.Tensor) -> str:
    """Returns uint8 images in base64."""
    return base64.b64encode(images.contiguous().numpy().tobytes()).decode()
