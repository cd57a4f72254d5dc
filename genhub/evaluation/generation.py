"""Evaluation of generated images against real ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from genhub.data import Images
from genhub.evaluation.features import ClassifierSpace, FeatureSpace, PixelSpace, cached_features
from genhub.evaluation.generation_metrics import METRICS, Comparison, FrechetDistance, GenerationMetric
from genhub.evaluation.memorisation import Memorisation, nearest, report
from genhub.evaluation.metrics import Gaussian, effective_rank
from genhub.evaluation.result import Metric
from genhub.utils.cache import cached, content_hash, holds


class Evaluator:
    """Compares generated images with real ones.

    Args:
        train: training images of the generators, for memorisation.
        test: images to compare with.
        classifiers: feature spaces; the first is `clf`, the others only show whether the order of models depends on
            the classifier.
        tell: called with the name of each step.
        metrics: what to measure.

    Raises:
        ValueError: too few test images for the covariance of the features.
    """

    def __init__(
        self,
        train: Images,
        test: Images,
        classifiers: Sequence[ClassifierSpace],
        tell: Callable[[str], None] = lambda what: None,
        metrics: Sequence[GenerationMetric] = METRICS,
    ):
        self.train, self.test, self.classifiers, self.tell, self.metrics = train, test, classifiers, tell, metrics
        self.clf = classifiers[0]
        tell("features of the real images")
        self.pix = PixelSpace(train.images)
        self.spaces = [*classifiers, self.pix]
        self.real = {space.name: cached_features(space, test.images) for space in self.spaces}
        self.moments = {name: Gaussian.fit(features) for name, features in self.real.items()}
        self.train_moments = Gaussian.fit(cached_features(self.clf, train.images))

    def effective_ranks(self) -> dict[str, float]:
        """Returns the effective rank of the test images' features by space: how many directions they vary in."""
        return {name: effective_rank(moments.covariance) for name, moments in self.moments.items()}

    def check(self, count: int) -> None:
        """Raises ValueError if `count` images are too few for the covariance of the features."""
        minimum = max(features.shape[1] for features in self.real.values()) + 1
        if count < minimum:
            raise ValueError(
                f"`count` must be at least {minimum}, for the covariance of {minimum - 1} features, got {count}."
            )

    def evaluate(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> list[Metric]:
        """Returns all metrics of generated uint8 `images` (N, C, H, W).

        Args:
            labels: class asked for of each image, (N,); None if unconditional.
        """
        self.check(len(images))
        self.tell("features of the generated images")
        measured = {name for metric in self.metrics for name in metric.spaces}
        spaces = [space for space in self.spaces if space.name in measured]
        comparisons = {space.name: self._compare(space, images, labels) for space in spaces}
        results = []
        for metric in self.metrics:
            if metric.needs_labels and labels is None:
                continue
            for name in metric.spaces:
                if name in comparisons:
                    self.tell(f"{', '.join(metric.names)} ({name})")
                    results += metric(comparisons[name])
        return [replace(metric, name=self._name(metric.name)) for metric in results]

    def reconstruction_distance(self, images: torch.Tensor) -> Metric:
        """Returns the Fréchet distance in `clf` of reconstructions of the test images, uint8 (N, C, H, W): what is
        generated in the latents of an autoencoder is hardly nearer."""
        self.tell("distance of reconstructions")
        (metric,) = FrechetDistance(("clf",))(self._compare(self.clf, images, None))
        return replace(metric, name=f"{self._name(metric.name)} of reconstructions")

    def _compare(self, space: FeatureSpace, images: torch.Tensor, labels: torch.Tensor | None) -> Comparison:
        train_moments = self.train_moments if space is self.clf else None
        return Comparison(space, self.real[space.name], self.moments[space.name], space(images), train_moments, labels)

    def _name(self, name: str) -> str:
        """Names a Fréchet distance by its features: FD-FM for the protocol's, and never FID, which is Inception's."""
        return name.replace("FD", "FD-FM") if self.clf.is_pinned and name.startswith("FD") else name

    def accuracy(self) -> float | None:
        """Returns the accuracy of the classifier of `clf` on the test images, None if they have no labels."""
        if self.test.labels is None:
            return None
        return (self.clf.probabilities(self.real["clf"]).argmax(1) == self.test.labels).double().mean().item()

    def memorisation(self, images: torch.Tensor, seen: torch.Tensor | None = None) -> dict[str, Memorisation]:
        """Tests whether uint8 `images` copy training images, by distances of pixels (`pix`) and of features (`clf`).

        Args:
            seen: training images of the generator, if not those of the evaluator.
        """
        self.tell("nearest training images")
        seen = self.train.images if seen is None else seen
        views = {
            "pix": (pixels(images), pixels(seen), pixels(self.test.images)),
            "clf": (self.clf(images), cached_features(self.clf, seen), self.real["clf"]),
        }
        reports = {
            name: report(*nearest(fake, train), *self._nearest_to_test(name, seen, train, test), train)
            for name, (fake, train, test) in views.items()
        }
        reports["clf"] = replace(reports["clf"], duplicates=None)  # equal images: features equal but for rounding
        return reports

    def _nearest_to_test(
        self, name: str, seen: torch.Tensor, train: torch.Tensor, test: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns distance and index of the training image nearest to each test image, from the cache if possible."""

        def compute() -> dict[str, torch.Tensor]:
            distance, index = nearest(test, train)
            return {"distance": distance, "place": index}

        key = content_hash(name, self.clf.key, seen, self.test.images)
        stored = cached("nearest", key, compute, holds(len(test), "distance", "place"))
        return stored["distance"], stored["place"]


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Returns uint8 images as rows of pixels in [0, 1], (N, C H W)."""
    return images.flatten(1).float() / 255
