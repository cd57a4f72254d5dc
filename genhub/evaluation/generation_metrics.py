"""The metrics of generated images: each is one class here, and one entry of `METRICS`."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from genhub.evaluation import metrics
from genhub.evaluation.features import FeatureSpace
from genhub.evaluation.metrics import Gaussian, frechet_distance, mean_of, over_halves
from genhub.evaluation.protocol import DIRECTIONS, NEIGHBOURS, SIZES, SUBSET_SIZE, SUBSETS
from genhub.evaluation.result import STANDARD_ERROR, Metric

HALVES = "sd over 20 random halves"


@dataclass(frozen=True)
class Comparison:
    """Generated and real images in one feature space.

    Args:
        real: features of the test images, (N, K), with their `moments`.
        fake: features of the generated images, (M, K).
        train_moments: moments of the training images; None outside the space `clf`.
        labels: class asked for of each generated image, (M,); None if unconditional.
    """

    space: FeatureSpace
    real: torch.Tensor
    moments: Gaussian
    fake: torch.Tensor
    train_moments: Gaussian | None = None
    labels: torch.Tensor | None = None

    @functools.cached_property
    def probabilities(self) -> torch.Tensor:
        """The classifier's class probabilities of the generated images, (M, classes)."""
        return self.space.probabilities(self.fake)

    def metric(self, name: str, value: float, spread: float | None = None, spread_is: str = "") -> Metric:
        """Returns a number measured here."""
        return Metric(name, self.space.name, value, spread, "" if spread is None else spread_is, len(self.fake))


class GenerationMetric:
    """Measures one quality of generated images.

    Attributes:
        names: the names of the numbers that a call yields, in this order.
        spaces: names of the feature spaces to measure in; those that the evaluator does not have are skipped.
        needs_labels: measure conditional models only.
    """

    names: tuple[str, ...]
    spaces: tuple[str, ...] = ("clf",)
    needs_labels: bool = False

    def __call__(self, comparison: Comparison) -> Iterator[Metric]:
        """Yields the numbers; one that needs more images than there are is left out."""
        raise NotImplementedError


@dataclass(frozen=True)
class FrechetDistance(GenerationMetric):
    """Fréchet distance to the test images."""

    spaces: tuple[str, ...]
    names = ("FD",)

    def __call__(self, comparison: Comparison) -> Iterator[Metric]:
        yield comparison.metric("FD", *_distance_and_spread(comparison.moments, comparison.fake), HALVES)


class FrechetDistanceToTraining(GenerationMetric):
    """Fréchet distance to the training images, which is smaller for a model that copies them."""

    names = ("FD to training images",)

    def __call__(self, comparison: Comparison) -> Iterator[Metric]:
        assert comparison.train_moments is not None  # the space is `clf`
        value, spread = _distance_and_spread(comparison.train_moments, comparison.fake)
        yield comparison.metric("FD to training images", value, spread, HALVES)


@dataclass(frozen=True)
class FrechetDistanceAtInfinity(GenerationMetric):
    """Fréchet distance of infinitely many generated images to the test images, extrapolated from `sizes`."""

    sizes: tuple[int, ...] = SIZES
    names = ("FD at infinite N",)

    def __call__(self, comparison: Comparison) -> Iterator[Metric]:
        fake = comparison.fake
        sizes = [size for size in self.sizes if fake.shape[1] < size <= len(fake)]
        if len(sizes) > 1:
            value = metrics.frechet_distance_at_infinity(comparison.moments, fake, sizes)
            yield comparison.metric("FD at infinite N", value, self._spread(comparison, sizes), HALVES)

    def _spread(self, comparison: Comparison, sizes: Sequence[int]) -> float | None:
        """Returns the standard error over halves: that of the line would miss the variance between samples."""
        halves = [size // 2 for size in sizes if size // 2 > comparison.fake.shape[1]]
        if len(halves) < 2:
            return None

        def distance(features: torch.Tensor) -> float:
            return metrics.frechet_distance_at_infinity(comparison.moments, features, halves, draws=2)

        return over_halves(distance, comparison.fake)


@dataclass(frozen=True)
class KernelDistance(GenerationMetric):
    """1000 times the kernel distance (KID) to the test images."""

    subsets: int = SUBSETS
    subset_size: int = SUBSET_SIZE
    names, spaces = ("KID x 1000",), ("clf", "pix")

    def __call__(self, comparison: Comparison) -> Iterator[Metric]:
        real, fake = comparison.real, comparison.fake
        value, sd = metrics.kernel_distance(real, fake, self.subsets, self.subset_size)
        size = min(self.subset_size, len(fake) // 2, len(real) // 2)
        yield comparison.metric("KID x 1000", 1000 * value, 1000 * sd, f"sd over {self.subsets} subsets of {size}")


@dataclass(frozen=True)
class SlicedWassersteinDistance(GenerationMetric):
    """Mean Wasserstein distance to the test images along random directions (MIND)."""

    directions: int = DIRECTIONS
    names, spaces = ("MIND",), ("clf", "pix")

    def __call__(self, comparison: Comparison) -> Iterator[Metric]:
        real, fake = comparison.real, comparison.fake
        value = metrics.sliced_wasserstein_distance(real, fake, self.directions)
        few = max(self.directions // 10, 1)  # the same ones for each half, so their number hardly moves the spread
        spread = over_halves(lambda half: metrics.sliced_wasserstein_distance(real, half, few), fake)
        yield comparison.metric("MIND", value, spread, HALVES)


class PrecisionAndRecall(GenerationMetric):
    """Fidelity and variety by nearest neighbours."""

    names, spaces = ("precision", "recall", "density", "coverage"), ("clf", "pix")

    def __call__(self, comparison: Comparison) -> Iterator[Metric]:
        shares = metrics.neighbourhoods(comparison.real, comparison.fake, NEIGHBOURS)
        for name in self.names:
            value, spread = getattr(shares, name)
            yield comparison.metric(name, value, spread, STANDARD_ERROR)


class ClassBalance(GenerationMetric):
    """Divergence of the classes generated from equally many of each."""

    names = ("class balance, KL to uniform in nats",)

    def __call__(self, comparison: Comparison) -> Iterator[Metric]:
        spread = over_halves(metrics.class_balance, comparison.probabilities)
        yield comparison.metric(self.names[0], metrics.class_balance(comparison.probabilities), spread, HALVES)


class Confidence(GenerationMetric):
    """Mean probability that the classifier gives to its own choice."""

    names = ("confidence",)

    def __call__(self, comparison: Comparison) -> Iterator[Metric]:
        yield comparison.metric("confidence", *mean_of(comparison.probabilities.max(1).values), STANDARD_ERROR)


class LabelFidelity(GenerationMetric):
    """Share of images that the classifier assigns to the class asked for."""

    names, needs_labels = ("label fidelity",), True

    def __call__(self, comparison: Comparison) -> Iterator[Metric]:
        is_right = comparison.probabilities.argmax(1) == comparison.labels
        yield comparison.metric("label fidelity", *mean_of(is_right), STANDARD_ERROR)


METRICS: tuple[GenerationMetric, ...] = (  # in the order of metrics.json
    FrechetDistance(("clf",)),
    FrechetDistanceToTraining(),
    FrechetDistanceAtInfinity(),
    FrechetDistance(("clf-1", "clf-2", "pix")),
    KernelDistance(),
    SlicedWassersteinDistance(),
    PrecisionAndRecall(),
    ClassBalance(),
    Confidence(),
    LabelFidelity(),
)


def in_order(figures: Sequence[dict]) -> list[dict]:
    """Returns numbers, as JSON stores them, in the order in which an evaluator reports them; others follow."""
    order = [(name, space) for metric in METRICS for space in metric.spaces for name in metric.names]

    def position(figure: dict) -> int:
        key = (figure["name"].replace("FD-FM", "FD"), figure["space"])
        return order.index(key) if key in order else len(order)

    return sorted(figures, key=position)


def _distance_and_spread(moments: Gaussian, fake: torch.Tensor) -> tuple[float, float | None]:
    """Returns the Fréchet distance of features and its standard error, None if halves would have no covariance."""

    def distance(features: torch.Tensor) -> float:
        return frechet_distance(moments, Gaussian.fit(features))

    has_halves = len(fake) // 2 > fake.shape[1]
    return distance(fake), over_halves(distance, fake) if has_halves else None
