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
from genhub.repository.capabilities import call_arguments, capabilities_of
from genhub.utils.files import atomic_write

STATIC = Path(__file__).parent / "static"
EXAMPLES = 200  # test images of the bundled sample, to be reconstructed and searched
PICTURES = 4  # on the card of a model
MOST_BYTES = 40 * 10**6  # of all graphs of a page


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
        about |= {"graphs": files, "bytes": size, "difference": difference, "about": text}
        models.append(about | {"picture": _picture(pipelines[name], about["shape"])})
    if (total := sum(model["bytes"] for model in models)) > MOST_BYTES:
        sizes = ", ".join(f"{model['name']} {model['bytes'] / 1e6:.1f}" for model in models)
        raise ValueError(
            f"`repos` must have at most {MOST_BYTES / 1e6:.0f} MB of graphs, got {total / 1e6:.1f} ({sizes})."
        )
    (folder / "models.json").write_text(json.dumps(models), encoding="utf-8")
    return models


def _picture(pipeline: Any, shape: list[int]) -> dict[str, Any]:
    """Returns some images of a pipeline in a row, for its card: generated, or reconstructed from test images or, of
    another size, from grey."""
    about = capabilities_of(pipeline)
    if about.can("generate"):
        labels = [index % about.num_classes for index in range(PICTURES)] if about.num_classes else None
        source = [torch.Generator().manual_seed(seed) for seed in range(PICTURES)]
        call = call_arguments(pipeline, PICTURES, labels) | {"generator": source, "output_type": "pt"}
        images = pipeline(**call).images
    else:
        tests = examples()[:PICTURES, None] / 255
        fits = list(tests.shape[1:]) == shape
        images = pipeline.reconstruct(tests if fits else torch.full((PICTURES, *shape), 0.5), output_type="pt").images
    row = (torch.cat(tuple(images), dim=-1) * 255).round().to(torch.uint8)
    return {"shape": list(row.shape), "pixels": encode(row)}


def examples() -> torch.Tensor:
    """Returns the test images that a page or a demo offers, uint8 (N, H, W)."""
    return load(DataConfig(source="sample"), "test").images[:EXAMPLES, 0]  # pyright: ignore


def write_examples(folder: Path):
    """Writes the test images that the page offers to autoencoders."""
    images = examples()
    content = json.dumps({"shape": list(images.shape), "pixels": encode(images)})
    (folder / "examples.json").write_text(content, encoding="utf-8")


def encode(images: torch.Tensor) -> str:
    """Returns uint8 images in base64."""
    return base64.b64encode(images.contiguous().numpy().tobytes()).decode()
