"""`genhub generate`: images from a saved pipeline."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from genhub import plotting
from genhub.commands.arguments import check_arguments
from genhub.data.decode import BadImage, opened
from genhub.data.paths import LARGEST_IMAGE
from genhub.evaluation.sampling import check_sampling_arguments, sample, set_scheduler
from genhub.repository.capabilities import capabilities_of
from genhub.repository.format import RepositoryError
from genhub.repository.load import AutoPipeline
from genhub.repository.shown_path import ShownPath
from genhub.training.distributed import accelerator_aside
from genhub.utils.environment import best_device
from genhub.utils.files import atomic_write, make_folder
from genhub.utils.reading import one_line, read_bytes

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@accelerator_aside()
def generate(
    repo: str,
    count: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    class_labels: Sequence[int | str] | None = None,
    prompts: Sequence[str] | None = None,
    image: str | None = None,
    mask_image: str | None = None,
    scheduler: str | None = None,
    scheduler_arguments: dict[str, Any] | None = None,
    arguments: dict[str, Any] | None = None,
    output: str | None = None,
    folder: str | None = None,
    device: str | None = None,
    dtype: str = "fp32",
) -> Path:
    """Generates images with the pipeline of `repo` and writes them as one grid; returns its path.

    Image i is a function of seed, i and its label or prompt; neither the batch size nor the count changes it.

    Args:
        count: number of images; by default that of the labels or prompts if several, else 64.
        class_labels: class of each image, or one for all, by number or name; by default all real classes in turn.
        prompts: text of each image, or one for all.
        image, mask_image: files that the pipeline edits, as its call takes them.
        scheduler: class of another scheduler, with the config of the pipeline's own.
        scheduler_arguments: values of the scheduler's config to change.
        arguments: further arguments of the pipeline's call, such as `num_inference_steps` or `truncation`.
        output: file of the grid; `generated.png` in a local repository, or in the working directory.
        folder: write each image as a PNG file here, too.
        dtype: of the networks: fp32, bf16, or fp16, which a CPU does not offer.

    Raises:
        ValueError: there is no such repository, or the pipeline does not take these arguments.
    """
    conditions = {"class_labels": class_labels, "prompts": prompts}
    if count is None:
        count = next((len(values) for values in conditions.values() if values is not None and len(values) > 1), 64)
    check_arguments(count=count, batch_size=batch_size, seed=seed)
    labels, texts = (_one_each(name, values, count) for name, values in conditions.items())
    path, place = _grid_path(repo, output), _device(device)
    files = (("image", image), ("mask_image", mask_image))
    pictures = {name: _open(name, file) for name, file in files if file is not None}
    pipeline = AutoPipeline.from_pretrained(repo, dtype=_dtype(dtype, place)).to(place)
    _check(repo, pipeline, class_labels, prompts, pictures)
    labels = _label_ids(pipeline, labels)
    check_sampling_arguments(pipeline, arguments or {})
    arguments = (arguments or {}) | pictures
    set_scheduler(pipeline, scheduler, scheduler_arguments)
    with making_images(repo):
        images = sample(pipeline, count, seed, batch_size, labels, arguments, prompts=texts)
    _save(plotting.grid(images), path)
    if folder is not None:
        make_folder(Path(folder))
        for index, pixels in enumerate(images):
            _save(plotting.grid(pixels[None], scale=1, gap=0), Path(folder) / f"{index:05d}.png")
    return ShownPath(path)


@contextlib.contextmanager
def making_images(repo: str) -> Iterator[None]:
    """Turns what PyTorch and diffusers raise where a config fits the weights, and still makes no images, into one kind
    of error.

    Raises:
        RepositoryError: in place of an error of shapes, types and indices, or of arithmetic.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, LookupError, ArithmeticError) as error:
        raise RepositoryError(f"{repo} cannot make images: {one_line(error)}.") from error


def _save(picture: Image.Image, path: Path) -> None:
    """Writes a picture, in the format that the name of its file tells."""
    file = io.BytesIO()
    picture.save(file, Image.registered_extensions()[path.suffix.lower()])
    atomic_write(path, file.getvalue())


def _one_each(name: str, values: Sequence | None, count: int) -> Sequence | None:
    """Repeats a single value `count` times."""
    if values is not None and len(values) not in (1, count):
        raise ValueError(f"`{name}` must hold 1 or {count} entries, got {len(values)}.")
    return list(values) * count if values is not None and len(values) == 1 else values


def _open(name: str, path: str) -> Image.Image:
    """Reads an image file."""
    try:
        return opened(read_bytes(Path(path), LARGEST_IMAGE))
    except (ValueError, BadImage) as error:
        raise ValueError(f"`{name}` must be an image file, got {path}: {error}.") from error


def _label_ids(pipeline: DiffusionPipeline, labels: Sequence[int | str] | None) -> list[int] | None:
    """Returns classes by number; a word is a name, also a name that is a number, or else a number."""
    if labels is None:
        return None
    known = {*(pipeline.config.get("id2label") or {}).values()}
    labels = [int(x) if isinstance(x, str) and x.isdecimal() and x not in known else x for x in labels]
    named = [label for label in labels if isinstance(label, str)]
    if named and not hasattr(pipeline, "get_label_ids"):
        raise ValueError(
            f"`class_labels` must be whole numbers, such as 3 or 0,1,2: the model has no names, got {named[0]!r}."
        )
    return [label if isinstance(label, int) else pipeline.get_label_ids(label)[0] for label in labels]


def _grid_path(repo: str, output: str | None) -> Path:
    path = Path(output or (Path(repo) if Path(repo).is_dir() else Path()) / "generated.png")
    if not path.parent.is_dir():
        raise ValueError(f"`output` must lie in an existing folder, got {path}.")
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"`output` must be a file of a kind that pillow writes, such as .png, got {path}.")
    return path


def _device(name: str | None) -> torch.device:
    try:
        return torch.empty(0, device=name or best_device()).device
    except Exception as error:  # PyTorch raises others for each kind of device
        raise ValueError(f"`device` must be one that this PyTorch and this machine have, got {name!r}.") from error


def _dtype(name: str, device: torch.device) -> torch.dtype:
    known = [known for known in DTYPES if known != "fp16" or device.type != "cpu"]
    if name not in known:
        raise ValueError(f"`dtype` must be one of {', '.join(known)} on {device.type}, got {name!r}.")
    return DTYPES[name]


def _check(
    repo: str,
    pipeline: DiffusionPipeline,
    class_labels: Sequence[int | str] | None,
    prompts: Sequence[str] | None,
    pictures: dict[str, Image.Image],
) -> None:
    """Raises ValueError if the pipeline does not generate, or not by what is given."""
    name, capabilities = type(pipeline).__name__, capabilities_of(pipeline)
    if not capabilities.can("generate"):
        raise ValueError(
            f"`repo` must hold a pipeline that generates images, got {name}; reconstructions are drawn by "
            f"`genhub figure reconstructions {repo}`."
        )
    if class_labels is not None and capabilities.num_classes is None:
        hint = "the model takes prompts" if "prompt" in capabilities.inputs else "the network is unconditional"
        raise ValueError(f"`class_labels` must be unset: {hint}.")
    if prompts is not None and "prompt" not in capabilities.inputs:
        hint = "" if capabilities.num_classes is None else "; the model takes classes (`class_labels`)"
        raise ValueError(f"`prompt` must be unset: {name} does not take it{hint}.")
    for picture in pictures.keys() - capabilities.inputs:
        raise ValueError(f"`{picture}` must be unset: {name} does not take it.")
