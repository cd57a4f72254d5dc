"""Reference rows: sets of images whose faults are known, judged as a model that made them would be.

All are made of 10,000 real *training* images, so that the sampling error of a model's figures is in theirs too; test
images, which models are compared with, are not among them. The feature net has learnt from the training images, so the
images of a perfect generator may lie a little nearer to the test images than these; the held-out real images say how
much, at their own number of images.
"""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from genhub.data import Images
from genhub.evaluation.features import PixelSpace
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.protocol import COUNT, PROTOCOL
from genhub.utils.randomness import keyed_generator

STORED = Path(__file__).parent / "references.json"


def stored() -> dict:
    """Returns the reference rows of protocol fmnist-eval-1, as `compute` found them once."""
    return json.loads(STORED.read_text())


def compute(yardstick: Evaluator, held_out: Images, seed: int = 0, draws: int = 5) -> dict:
    """Judges all reference rows and the `held_out` real images; `spread` is what `draws` other draws of training
    images get, mean and sd.

    The order of the rows must not hang on the classifier: `order` is Spearman's rank correlation of their distances in
    each other classifier's space with those in the first one's.
    """
    found, real = [], (f"real, {len(held_out):,} held-out images", held_out.images)
    for name, images in (real, *rows(yardstick.train, seed)):
        figures = [figure.to_dict() for figure in yardstick.judge(images)]
        memory = {space: report.to_dict() for space, report in yardstick.memorisation(images).items()}
        found.append({"name": name, "figures": figures, "memorisation": memory})
    first, *others = [[distance_in(row, space.name) for row in found] for space in yardstick.classifiers]
    real = [yardstick.judge(yardstick.train.choose(COUNT, seed + 1 + draw).images) for draw in range(draws)]
    spread = [
        {
            "name": figures[0].name,
            "space": figures[0].space,
            "value": statistics.mean(figure.value for figure in figures),
            "sd": statistics.stdev(figure.value for figure in figures),
        }
        for figures in zip(*real, strict=True)
    ]
    return {
        "protocol": PROTOCOL,
        "seed": seed,
        "images": COUNT,
        "spaces": {space.name: space.key for space in yardstick.spaces},
        "rows": found,
        "spread": {"draws": draws, "figures": spread},
        "order": {
            space.name: spearman(first, other) for space, other in zip(yardstick.classifiers[1:], others, strict=True)
        },
    }


def table(found: dict, space: str) -> str:
    """Returns the rows that `compute` found as a Markdown table, in one space; the README's are made by this."""
    spread = next(f for f in found["spread"]["figures"] if f["name"] == "FD-FM" and f["space"] == space)
    text = markdown({row["name"]: row for row in found["rows"]}, space)
    return (
        f"{text}\n\nFD-FM of {found['spread']['draws']} other draws of {found['images']:,} training images: "
        f"{spread['value']:.3f} ± {spread['sd']:.3f}."
    )


def markdown(rows: dict[str, dict], space: str) -> str:
    """Returns named rows or evaluations of models by `fmnist-eval-1` as a Markdown table, in the space clf or pix."""
    distances = ["FD-FM", *["FD-FM at infinite N"] * (space == "clf")]
    shares = ["precision", "recall", "density", "coverage"]
    head = ["images", *distances, "KID x 1000", *shares, "near"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in rows.items():
        figures = {f["name"]: f for f in row["figures"] if f["space"] == space}
        kernel, memory = figures["KID x 1000"], row["memorisation"][space]
        cells = [
            name,
            *(f"{figures[distance]['value']:.3f}" for distance in distances),
            f"{kernel['value']:.1f} ± {kernel['spread']:.1f}",
            *(f"{figures[share]['value']:.3f}" for share in shares),
            f"{memory['near']:.1%}" + " **suspect**" * memory["suspect"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def distance_in(row: dict, space: str) -> float:
    """Returns the Fréchet distance of a row in one space."""
    return next(f["value"] for f in row["figures"] if f["name"] in ("FD", "FD-FM") and f["space"] == space)


def spearman(a: list[float], b: list[float]) -> float:
    """Returns the rank correlation of two lists without ties (Spearman 1904)."""
    ranks = [torch.tensor(values).argsort().argsort().double() for values in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def rows(train: Images, seed: int = 0, count: int = COUNT) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields names and uint8 images (N, C, H, W) of all reference rows."""
    images = train.choose(count, seed).images
    yield "memoriser (real training images)", images
    yield "with noise, sd 10 / 255", noisy(images, 10, seed)
    yield "blurred, 3 x 3", blurred(images)
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


def noisy(images: torch.Tensor, sd: float, seed: int = 0) -> torch.Tensor:
    """Adds normal noise of `sd` grey levels out of 255."""
    noise = torch.randn(images.shape, generator=keyed_generator("noise", seed))
    return (images + sd * noise).round().clamp(0, 255).to(torch.uint8)


def blurred(images: torch.Tensor) -> torch.Tensor:
    """Applies the binomial filter of 3 x 3, (1, 2, 1) / 4 in both directions; outside is black."""
    row = torch.tensor([0.25, 0.5, 0.25])
    kernel = (row[:, None] * row).expand(images.shape[1], 1, 3, 3)
    return F.conv2d(images.float(), kernel, padding=1, groups=images.shape[1]).round().to(torch.uint8)


def pixel_gaussian(images: torch.Tensor, seed: int, count: int) -> torch.Tensor:
    """Draws from the normal distribution with the mean and the full covariance of the pixels of `images`."""
    pixels = images.flatten(1).double()
    values, vectors = torch.linalg.eigh(pixels.T.cov())
    noise = torch.randn(count, len(values), generator=keyed_generator("gaussian", seed), dtype=torch.float64)
    drawn = pixels.mean(0) + noise * values.clamp(min=0).sqrt() @ vectors.T
    return drawn.round().clamp(0, 255).to(torch.uint8).reshape(count, *images.shape[1:])
