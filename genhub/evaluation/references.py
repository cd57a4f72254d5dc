"""Reference rows: sets of images with known faults, evaluated like those of a model.

All are made of 10,000 real *training* images, so that they have the sampling error of a model's metrics; the test
images, which models are compared with, are not among them. The feature net was trained on the training images, so the
images of a perfect generator may be a little nearer to the test images than these are; the held-out real images show
by how much, at their own number of images.
"""

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from genhub.data import Images
from genhub.evaluation.features import PixelSpace
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.protocol import COUNT, PROTOCOL
from genhub.evaluation.result import Metric
from genhub.utils.randomness import keyed_generator

STORED = Path(__file__).parent / "references.json"


def stored() -> dict:
    """Returns the reference rows of protocol fmnist-eval-1, as `compute` returned them."""
    return json.loads(STORED.read_text())


def compute(evaluator: Evaluator, held_out: Images, seed: int = 0, draws: int = 5, count: int = COUNT) -> dict:
    """Evaluates all reference rows and the `held_out` real images.

    `spread` is the mean and sd of each metric over `draws` further draws of `count` training images. `order` is
    Spearman's rank correlation between the rows' Fréchet distances in the first classifier's space and those in each
    other one's: models must not change places with the classifier.
    """
    row_images = [(f"real, {len(held_out):,} held-out images", held_out.images), *rows(evaluator.train, seed, count)]
    evaluated = [_evaluate_row(evaluator, name, images) for name, images in row_images]
    repeats = [evaluator.evaluate(evaluator.train.choose(count, seed + 1 + draw).images) for draw in range(draws)]
    first, *others = [[distance_in(row, space.name) for row in evaluated] for space in evaluator.classifiers]
    names = [space.name for space in evaluator.classifiers[1:]]
    return {
        "protocol": PROTOCOL,
        "seed": seed,
        "images": count,
        "spaces": {space.name: space.key for space in evaluator.spaces},
        "rows": evaluated,
        "spread": {"draws": draws, "figures": [_mean_and_sd(metrics) for metrics in zip(*repeats, strict=True)]},
        "order": {name: spearman(first, other) for name, other in zip(names, others, strict=True)},
    }


def _evaluate_row(evaluator: Evaluator, name: str, images: torch.Tensor) -> dict:
    metrics = [metric.to_dict() for metric in evaluator.evaluate(images)]
    memory = {space: report.to_dict() for space, report in evaluator.memorisation(images).items()}
    return {"name": name, "figures": metrics, "memorisation": memory}


def _mean_and_sd(metrics: Sequence[Metric]) -> dict:
    values = [metric.value for metric in metrics]
    mean, sd = statistics.mean(values), statistics.stdev(values)
    return {"name": metrics[0].name, "space": metrics[0].space, "value": mean, "sd": sd}


def table(computed: dict, space: str) -> str:
    """Returns the rows of `compute` in one space as a Markdown table, as in the README."""
    spread = next(f for f in computed["spread"]["figures"] if f["name"] == "FD-FM" and f["space"] == space)
    text = markdown({row["name"]: row for row in computed["rows"]}, space)
    return (
        f"{text}\n\nFD-FM of {computed['spread']['draws']} other draws of {computed['images']:,} training images: "
        f"{spread['value']:.3f} ± {spread['sd']:.3f}."
    )


def markdown(rows: dict[str, dict], space: str) -> str:
    """Returns named rows, or evaluations of models by `fmnist-eval-1`, in the space clf or pix as a Markdown table."""
    distances = ["FD-FM", "FD-FM at infinite N"] if space == "clf" else ["FD-FM"]
    shares = ["precision", "recall", "density", "coverage"]
    head = ["images", *distances, "KID x 1000", *shares, "near"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in rows.items():
        metrics = {metric["name"]: metric for metric in row["figures"] if metric["space"] == space}
        kernel, memory = metrics["KID x 1000"], row["memorisation"][space]
        cells = [name]
        cells += [f"{metrics[distance]['value']:.3f}" for distance in distances]
        cells.append(f"{kernel['value']:.1f} ± {kernel['spread']:.1f}")
        cells += [f"{metrics[share]['value']:.3f}" for share in shares]
        cells.append(f"{memory['near']:.1%} **suspect**" if memory["suspect"] else f"{memory['near']:.1%}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def distance_in(row: dict, space: str) -> float:
    """Returns the Fréchet distance of a row in one space."""
    return next(m["value"] for m in row["figures"] if m["name"] in ("FD", "FD-FM") and m["space"] == space)


def spearman(a: list[float], b: list[float]) -> float:
    """Returns the rank correlation of two lists without ties (Spearman 1904)."""
    ranks = [torch.tensor(values).argsort().argsort().double() for values in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def rows(train: Images, seed: int = 0, count: int = COUNT) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields names and uint8 images (N, C, H, W) of all reference rows."""
    images = train.choose(count, seed).images
    yield "memoriser (real training images)", images
    yield "with noise, sd 10 / 255", add_noise(images, 10, seed)
    yield "blurred, 3 x 3", blur(images)
    yield "mirrored", images.flip(3)
    if train.has_labels:
        dropped = 8 if train.class_names is None or len(train.class_names) > 8 else 0  # Fashion MNIST's bag
        name = train.class_names[dropped] if train.class_names else dropped
        yield f"without a class ({name})", train[train.labels != dropped].choose(count, seed).images
    space = PixelSpace(train.images, 32)
    yield "PCA-32 reconstructions", space.reconstruct(images, 32)
    yield "pixel Gaussian", pixel_gaussian(train.images, seed, count)
    yield "uniform noise", torch.randint(256, images.shape, generator=keyed_generator("noise", seed)).to(torch.uint8)
    yield "black", torch.zeros_like(images)


def add_noise(images: torch.Tensor, sd: float, seed: int = 0) -> torch.Tensor:
    """Adds normal noise of `sd` grey levels out of 255."""
    noise = torch.randn(images.shape, generator=keyed_generator("noise", seed))
    return (images + sd * noise).round().clamp(0, 255).to(torch.uint8)


def blur(images: torch.Tensor) -> torch.Tensor:
    """Applies the binomial filter of 3 x 3, (1, 2, 1) / 4 in both directions; outside is black."""
    row = torch.tensor([0.25, 0.5, 0.25])
    kernel = (row[:, None] * row).expand(images.shape[1], 1, 3, 3)
    return F.conv2d(images.float(), kernel, padding=1, groups=images.shape[1]).round().to(torch.uint8)


def pixel_gaussian(images: torch.Tensor, seed: int, count: int) -> torch.Tensor:
    """Draws from the normal distribution with the mean and the full covariance of the pixels of `images`."""
    pixels = images.flatten(1).double()
    values, vectors = torch.linalg.eigh(pixels.T.cov())
    noise = torch.randn(count, len(values), generator=keyed_generator("gaussian", seed), dtype=torch.float64)
    samples = pixels.mean(0) + noise * values.clamp(min=0).sqrt() @ vectors.T
    return samples.round().clamp(0, 255).to(torch.uint8).reshape(count, *images.shape[1:])
