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
from genhub.evaluation.generation_metrics import in_order
from genhub.evaluation.protocol import COUNT, PROTOCOL
from genhub.evaluation.result import Metric
from genhub.utils.randomness import keyed_generator

STORED = Path(__file__).parent / "references.json"


def stored() -> dict:
    """Returns the reference rows of protocol fmnist-eval-1, as `compute` returned them."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def compute(evaluator: Evaluator, held_out: Images, seed: int = 0, draws: int = 5, count: int = COUNT) -> dict:
    """Evaluates all reference rows and the `held_out` real images.

    `spread` is the mean and sd of each metric over `draws` further draws of `count` training images. `order` is
    Spearman's rank correlation between the rows' Fréchet distances in the first classifier's space and those in each
    other one's: models must not change places with the classifier.
    """
    row_images = _row_images(evaluator, held_out, seed, count)
    evaluated = [_evaluate_row(evaluator, name, images) for name, images in row_images]
    first, *others = [[distance_in(row, space.name) for row in evaluated] for space in evaluator.classifiers]
    names = [space.name for space in evaluator.classifiers[1:]]
    return {
        "protocol": PROTOCOL,
        "seed": seed,
        "images": count,
        "spaces": {space.name: space.key for space in evaluator.spaces},
        "effective_rank": evaluator.effective_ranks(),
        "rows": evaluated,
        "spread": {"draws": draws, "figures": _spread(evaluator, seed, draws, count)},
        "order": {name: spearman(first, other) for name, other in zip(names, others, strict=True)},
    }


def add_metrics(computed: dict, evaluator: Evaluator, held_out: Images) -> dict:
    """Returns `computed`, as `compute` returned it, with the metrics of `evaluator` and the effective ranks added.

    Raises:
        ValueError: the classifiers are others; principal components differ by rounding only.
    """
    if any(computed["spaces"][space.name] != space.key for space in evaluator.classifiers):
        raise ValueError("`evaluator` must have the classifiers of the rows that its metrics are added to.")
    seed, count, draws = computed["seed"], computed["images"], computed["spread"]["draws"]
    images = dict(_row_images(evaluator, held_out, seed, count))
    evaluated = []
    for row in computed["rows"]:
        new = [metric.to_dict() for metric in evaluator.evaluate(images[row["name"]])]
        evaluated.append(row | {"figures": in_order([*row["figures"], *new])})
    spread = in_order([*computed["spread"]["figures"], *_spread(evaluator, seed, draws, count)])
    return computed | {
        "effective_rank": evaluator.effective_ranks(),
        "rows": evaluated,
        "spread": {"draws": draws, "figures": spread},
    }


def _row_images(evaluator: Evaluator, held_out: Images, seed: int, count: int) -> list[tuple[str, torch.Tensor]]:
    """Returns names and uint8 images (N, C, H, W) of the held-out images and of all reference rows."""
    return [(f"real, {len(held_out):,} held-out images", held_out.images), *rows(evaluator.train, seed, count)]


def _spread(evaluator: Evaluator, seed: int, draws: int, count: int) -> list[dict]:
    """Returns mean and sd of each metric over further draws of training images."""
    repeats = [evaluator.evaluate(evaluator.train.choose(count, seed + 1 + draw).images) for draw in range(draws)]
    return [_mean_and_sd(metrics) for metrics in zip(*repeats, strict=True)]


def _evaluate_row(evaluator: Evaluator, name: str, images: torch.Tensor) -> dict:
    metrics = [metric.to_dict() for metric in evaluator.evaluate(images)]
    memory = {space: report.to_dict() for space, report in evaluator.memorisation(images).items()}
    return {"name": name, "figures": metrics, "memorisation": memory}


def _mean_and_sd(metrics: Sequence[Metric]) -> dict:
    values = [metric.value for metric in metrics]
    mean, sd = statistics.mean(values), statistics.stdev(values)
    return {"name": metrics[0].name, "space": metrics[0].space, "value": mean, "sd": sd}


def table(computed: dict, space: str) -> str:
    """Returns the rows of `compute` in one space as a Markdown table, as in the documents."""
    spread = {figure["name"]: figure for figure in computed["spread"]["figures"] if figure["space"] == space}
    digits = {"FD-FM": 3, "MIND": 4}
    others = [f"{x} {spread[x]['value']:.{n}f} ± {spread[x]['sd']:.{n}f}" for x, n in digits.items()]
    text = markdown({row["name"]: row for row in computed["rows"]}, space)
    return (
        f"{text}\n\n{computed['spread']['draws']} other draws of {computed['images']:,} training images: "
        f"{', '.join(others)}. Effective rank of the test images' features: {computed['effective_rank'][space]:.1f}."
    )


def markdown(rows: dict[str, dict], space: str) -> str:
    """Returns named rows, or evaluations of models by `fmnist-eval-1`, in the space clf or pix as a Markdown table."""
    distances = ["FD-FM", "FD-FM at infinite N"] if space == "clf" else ["FD-FM"]
    shares = ["precision", "recall", "density", "coverage"]
    head = ["images", *distances, "KID x 1000", "MIND", *shares, "near"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in rows.items():
        metrics = {metric["name"]: metric for metric in row["figures"] if metric["space"] == space}
        kernel, memory = metrics["KID x 1000"], row["memorisation"][space]
        cells = [name]
        cells += [f"{metrics[distance]['value']:.3f}" for distance in distances]
        cells.append(f"{kernel['value']:.1f} ± {kernel['spread']:.1f}")
        cells.append(f"{metrics['MIND']['value']:.4f}" if "MIND" in metrics else "")  # newer than some evaluations
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
