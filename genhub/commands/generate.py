"""Images from a saved pipeline, in batches."""

import inspect
from pathlib import Path

import torch
from PIL import Image

from genhub import plotting
from genhub.repository.capabilities import capabilities_of, generates
from genhub.repository.load import AutoPipeline
from genhub.utils.environment import best_device
from genhub.utils.randomness import seed_of


def generate(
    repo: str,
    count: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    truncation: float | None = None,
    class_labels: list[int] | None = None,
    batch_size: int = 64,
    output: str | None = None,
    folder: str | None = None,
    device: str | None = None,
) -> Path:
    """Generates images with the pipeline of `repo` and writes them as one grid; returns its path.

    Image i is a function of (seed, i): neither the batch size nor the number of images changes it.

    Args:
        count: how many images; as many as `class_labels` if these are more than one, else 64.
        steps: sampling steps of a diffusion model; the pipeline's own number where it is not given.
        truncation: pull towards the mean of a GAN's latents or styles, 1 for none.
        class_labels: class of each image, or one for all; of a conditional pipeline all classes in turn if not given.
        output: file of the grid; `generated.png` in a local repository, or in the working directory.
        folder: where each image also goes as a PNG file of its own.

    Raises:
        ValueError: there is no such repository, or the pipeline does not take these arguments.
    """
    if count is None:
        count = len(class_labels) if class_labels is not None and len(class_labels) > 1 else 64
    if count < 1 or batch_size < 1:
        raise ValueError(f"`count` and `batch_size` must be at least 1, got {count} and {batch_size}.")
    if class_labels is not None and len(class_labels) not in (1, count):
        raise ValueError(f"`class_labels` must hold 1 or {count} entries, got {len(class_labels)}.")
    path = Path(output or (Path(repo) if Path(repo).is_dir() else Path()) / "generated.png")
    if not path.parent.is_dir():
        raise ValueError(f"`output` must lie in an existing folder, got {path}.")
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"`output` must be a file of a kind that pillow writes, such as .png, got {path}.")
    try:
        device = torch.empty(0, device=device or best_device()).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"`device` must be one that this PyTorch and this machine have, got {device!r}.") from error
    pipeline = AutoPipeline.from_pretrained(repo).to(device)
    if not generates(pipeline):
        raise ValueError(
            f"`repo` must hold a pipeline that generates images, got {type(pipeline).__name__}; what one that copies "
            "images does is shown by `genhub figure reconstructions`."
        )
    options, arguments = {"steps": ("num_inference_steps", steps), "truncation": ("truncation", truncation)}, {}
    for name, (argument, value) in options.items():
        if value is not None and argument not in inspect.signature(pipeline.__call__).parameters:
            raise ValueError(f"`{name}` must be unset: {type(pipeline).__name__} does not take it.")
        if value is not None:
            arguments[argument] = value
    known = capabilities_of(pipeline).num_classes
    if known and class_labels is None:
        class_labels = [place % known for place in range(count)]
    images = []
    for start in range(0, count, batch_size):
        places = range(start, min(start + batch_size, count))
        if class_labels is not None:
            arguments["class_labels"] = [class_labels[i if len(class_labels) > 1 else 0] for i in places]
        generators = [torch.Generator().manual_seed(seed_of("image", seed, i)) for i in places]
        images.append(
            pipeline(batch_size=len(places), generator=generators, output_type="pt", **arguments).images.cpu()
        )
    images = torch.cat(images)
    plotting.grid(images).save(path)
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for place, image in enumerate(images):
            plotting.grid(image[None], scale=1, gap=0).save(Path(folder) / f"{place:05d}.png")
    return path
