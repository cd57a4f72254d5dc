"""Samples class by class: `classes`."""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from diffusers import DiffusionPipeline

from genhub import data, plotting
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.protocol import PROTOCOL, is_fashion_mnist, to_bytes
from genhub.evaluation.sampling import Sampler
from genhub.recipes.recipe import Recipe, load_recipe
from genhub.repository.capabilities import generates
from genhub.repository.load import AutoPipeline, download
from genhub.utils.environment import best_device

EACH, MOST, BATCH_SIZE = 10, 500, 50  # images of a class, drawn for them at most, drawn at a time


def classes(repo: str, steps: int | None = None, seed: int = 0) -> bytes:
    """Draws a row of samples for each class; nothing is selected but by the class.

    A conditional model is asked for each class. Those of an unconditional one are sorted by the classifier of the
    protocol, which knows Fashion MNIST alone.
    """
    folder = download(repo)
    pipeline = AutoPipeline.from_pretrained(folder)
    if not generates(pipeline):
        raise ValueError(f"{repo} must hold a pipeline that generates images, got {type(pipeline).__name__}.")
    arguments = {} if steps is None else {"num_inference_steps": steps}
    if not arguments.keys() <= inspect.signature(pipeline.__call__).parameters.keys():
        raise ValueError(f"`steps` must be unset: {type(pipeline).__name__} does not take it.")
    if not (folder / "recipe.yaml").is_file():
        raise ValueError(f"The repository {repo} has no recipe.yaml, which says what it was trained on.")
    recipe, device = load_recipe(folder), best_device()
    pipeline = pipeline.to(device)
    if known := max(part.config.get("num_class_embeds") or 0 for part in pipeline.components.values()):
        shape, names = asked_for(recipe, pipeline, known)
        sampler = Sampler(pipeline, shape, seed, BATCH_SIZE, len(names), arguments)
        images, _ = sampler.draw(EACH * len(names))
        rows = [images[sampler.labels(len(images)) == label] for label in range(len(names))]
        title = f"{EACH} images asked for of each class"
    else:
        train = data.load(replace(recipe.data, streaming=False), "train")
        if not (isinstance(train, data.Images) and is_fashion_mnist(train.images)):
            raise ValueError(
                f"{repo} must be conditional or trained on Fashion MNIST, got an unconditional model of "
                f"{recipe.data.source}: there is no classifier to sort its images by."
            )
        space, shape = next(pinned_spaces(device)), tuple(train.images.shape[1:])
        sampler = Sampler(pipeline, shape, seed, BATCH_SIZE, arguments=arguments)
        names = train.class_names or _numbers(space.classifier.config.num_classes)

        def batches():
            for batch in range(MOST // BATCH_SIZE):
                images = to_bytes(sampler.call(batch, None, BATCH_SIZE), shape)
                yield images, space.probabilities(space(images)).argmax(1)

        rows, drawn = first_of_each(batches(), len(names))
        title = f"The first {EACH} images of each class, as the classifier of {PROTOCOL} names them, of {drawn} drawn"
    scale = max(1, round(84 / shape[2]))
    title += f"; seed {seed}, not selected"
    return plotting.png(plotting.named_rows([row.float() / 255 for row in rows], names, EACH, title, scale))


def asked_for(recipe: Recipe, pipeline: DiffusionPipeline, known: int) -> tuple[tuple[int, int, int], Sequence[str]]:
    """Returns the shape of a conditional model's images and the names of its `known` classes: numbers where its data
    set cannot be loaded here, as one of someone else's folders."""
    try:
        train = data.load(replace(recipe.data, streaming=False), "train")
    except ValueError:
        (size,) = {part.config.sample_size for part in pipeline.components.values() if "sample_size" in part.config}
        (channels,) = {
            part.config[key]
            for part in pipeline.components.values()
            for key in ("in_channels", "out_channels")
            if key in part.config
        }
        has_none = any(stage.objective.arguments.get("label_dropout") for stage in recipe.stages)
        height, width = (size, size) if isinstance(size, int) else size
        return (channels, height, width), _numbers(known - has_none)
    shape = train.shape
    return (shape.channels, shape.height, shape.width), shape.class_names


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def first_of_each(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]], count: int, each: int = EACH
) -> tuple[list[torch.Tensor], int]:
    """Returns the first `each` images of each of `count` classes, and how many images were drawn for them.

    Args:
        batches: images (B, C, H, W) and their classes (B,); no more are taken than are needed.
    """
    rows: list[list[torch.Tensor]] = [[] for _ in range(count)]
    drawn, nothing = 0, torch.empty(0)
    for images, labels in batches:
        nothing, drawn = images[:0], drawn + len(images)
        for image, label in zip(images, labels.tolist(), strict=True):
            if len(rows[label]) < each:
                rows[label].append(image)
        if all(len(row) == each for row in rows):
            break
    return [torch.stack(row) if row else nothing for row in rows], drawn
