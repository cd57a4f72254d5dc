"""Samples of any model that generates images: `classes` and `prior-samples`. Image i of a seed is
image i of `genhub generate`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from genhub import data, plotting
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.protocol import PROTOCOL, is_fashion_mnist, to_bytes
from genhub.evaluation.sampling import sample
from genhub.figures.subject import Subject, load_subject, scale_for, shape_of

PER_CLASS = 10  # images
MAX_SAMPLES, BATCH_SIZE = 500, 50  # of an unconditional model: drawn to fill all classes, and classified at a time
COLUMNS = 7  # of samples from the prior
SUCH_AS = "CosineDDPMPipeline, GANPipeline or VAEPipeline"


def classes(repo: str, steps: int | None = None, seed: int = 0) -> bytes:
    """Draws ten samples of each class.

    A conditional model is asked for each class. The samples of an unconditional one are sorted by the classifier of
    the protocol, which only knows Fashion MNIST.

    Args:
        steps: sampling steps of a diffusion model.
    """
    subject = load_subject(repo, "generate", SUCH_AS)
    arguments = {} if steps is None else {"num_inference_steps": steps}
    if not subject.capabilities.sampling_arguments.issuperset(arguments):
        raise ValueError(f"`steps` must be unset: {type(subject.pipeline).__name__} does not take it.")
    names = subject.class_names
    if names:
        images = sample(subject.pipeline, PER_CLASS * len(names), seed, arguments=arguments)  # all classes in turn
        rows = [images[label :: len(names)] for label in range(len(names))]
        title = f"{subject.name}: {PER_CLASS} samples of each class"
    else:
        rows, names, count = classified_samples(subject, seed, arguments)
        title = (
            f"{subject.name}: the first {PER_CLASS} samples of each class, as predicted by the classifier of "
            f"{PROTOCOL}, out of {count} samples"
        )
    title += f"; seed {seed}, uncurated"
    return plotting.png(plotting.image_rows(rows, names, PER_CLASS, title, scale_for(rows[0])))


def classified_samples(
    subject: Subject, seed: int, arguments: dict[str, Any]
) -> tuple[list[torch.Tensor], Sequence[str], int]:
    """Samples an unconditional model until each class has its images.

    Returns:
        the images of each class, the names of the classes, and the number of images sampled.

    Raises:
        ValueError: the model was not trained on Fashion MNIST.
    """
    train = subject.load("train")
    if not (isinstance(train, data.Images) and is_fashion_mnist(train.images)):
        raise ValueError(
            f"`repo` must be conditional or trained on Fashion MNIST, got an unconditional model of "
            f"{subject.recipe.data.source}: there is no classifier to sort its images."
        )
    space = next(pinned_spaces(subject.pipeline.device))
    names = train.class_names or tuple(map(str, range(space.classifier.config["num_classes"])))

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, MAX_SAMPLES, BATCH_SIZE):
            indices = range(start, start + BATCH_SIZE)
            images = sample(subject.pipeline, BATCH_SIZE, seed, arguments=arguments, indices=indices)
            images = to_bytes(images, shape_of(train))
            yield images / 255, space.probabilities(space(images)).argmax(1)

    rows, count = first_of_each(batches(), len(names))
    return rows, names, count


def first_of_each(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]], num_classes: int, count: int = PER_CLASS
) -> tuple[list[torch.Tensor], int]:
    """Collects the first `count` images of each class, and counts all images seen; stops when all classes are full.

    Args:
        batches: images (B, C, H, W) and their classes (B,).
    """
    rows: list[list[torch.Tensor]] = [[] for _ in range(num_classes)]
    seen, empty = 0, torch.empty(0)
    for images, labels in batches:
        empty, seen = images[:0], seen + len(images)
        for image, label in zip(images, labels.tolist(), strict=True):
            if len(rows[label]) < count:
                rows[label].append(image)
        if all(len(row) == count for row in rows):
            break
    return [torch.stack(row) if row else empty for row in rows], seen


def prior_samples(repo: str, count: int | None = None, seed: int = 0) -> bytes:
    """Draws samples from the prior, by class if the model is conditional.

    All classes share their latents.

    Args:
        count: images, 21, or images of each class, 10.
    """
    subject = load_subject(repo, "interpolate", "VAEPipeline or GANPipeline")
    names, pipeline = subject.class_names, subject.pipeline
    if names:
        count = count or PER_CLASS
        rows = [sample(pipeline, count, seed, labels=[label] * count) for label in range(len(names))]
        title = f"{subject.name}: {count} samples of each class, the images of a column from the same latents"
    else:
        count = count or 3 * COLUMNS
        rows = sample(pipeline, count, seed).split(COLUMNS)
        starts = range(0, count, COLUMNS)
        names = [f"{start} to {start + len(row) - 1}" for start, row in zip(starts, rows, strict=True)]
        title = f"{subject.name}: samples 0 to {count - 1} from the prior"
    title += f"; seed {seed}, uncurated"
    columns = max(map(len, rows))
    return plotting.png(plotting.image_rows(rows, names, columns, title, scale_for(rows[0])))
