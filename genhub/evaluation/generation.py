"""The yardstick: real images, and every figure by which a set of images is judged against them."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from genhub.data import Images
from genhub.evaluation import metrics
from genhub.evaluation.features import ClassifierSpace, FeatureSpace, PixelSpace, cached_features
from genhub.evaluation.memorisation import Memorisation, nearest, report
from genhub.evaluation.protocol import NEIGHBOURS, SIZES, SUBSET_SIZE, SUBSETS
from genhub.utils.cache import cached, content_hash

HALVES = "sd over 20 random halves"


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Args:
        space: of the features, "" where there are none.
        spread: its uncertainty, in the sense of `spread_is`; None where none was estimated.
        images: how many generated images it is of.
    """

    name: str
    space: str
    value: float
    spread: float | None
    spread_is: str
    images: int

    def to_dict(self) -> dict:
        """Returns the figure as JSON has it."""
        return asdict(self)


class Evaluator:
    """Judges sets of images against real ones.

    Args:
        train: what generators learnt from, for memorisation.
        test: what they are compared with.
        classifiers: feature spaces; the first is `clf`, of which all figures are reported, the others only show
            whether the order of models hangs on it.
        extra: spaces in which the kernel distance is measured too.
        tell: called with what is being computed.

    Raises:
        ValueError: the test images are too few for the covariance of the features.
    """

    def __init__(
        self,
        train: Images,
        test: Images,
        classifiers: Sequence[ClassifierSpace],
        extra: Sequence[FeatureSpace] = (),
        tell: Callable[[str], None] = lambda what: None,
    ):
        self.train, self.test, self.classifiers, self.extra, self.tell = train, test, classifiers, extra, tell
        self.clf = classifiers[0]
        tell("features of the real images")
        self.pix = PixelSpace(train.images)
        self.spaces = [*classifiers, self.pix, *extra]
        self.real = {space.name: cached_features(space, test.images) for space in self.spaces}
        self.moments = {space.name: metrics.Gaussian.fit(self.real[space.name]) for space in (*classifiers, self.pix)}
        self.train_moments = metrics.Gaussian.fit(cached_features(self.clf, train.images))
        # never Fréchet *Inception* distance: these features are not Inception's
        self.fd = "FD-FM" if self.clf.is_pinned else "FD"

    def check(self, count: int):
        """Refuses a number of images that is too small for the covariance of the features."""
        least = max(features.shape[1] for name, features in self.real.items() if name in self.moments) + 1
        if count < least:
            raise ValueError(
                f"`count` must be at least {least}, for the covariance of {least - 1} features, got {count}."
            )

    def judge(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> list[Figure]:
        """Returns all figures of generated uint8 `images` (N, C, H, W), which were asked to be of the classes `labels`
        (N,), if any."""
        count, figures = len(images), []
        self.check(count)

        def add(name: str, space: str, value: float, spread: float | None = None, spread_is: str = ""):
            figures.append(Figure(name, space, value, spread, spread_is if spread is not None else "", count))

        self.tell("features of the generated images")
        fakes = {space.name: space(images) for space in self.spaces}
        for space in (*self.classifiers, self.pix):
            self.tell(f"distances, {space.name}")
            fake, moments = fakes[space.name], self.moments[space.name]

            def distance(part: torch.Tensor, moments=moments) -> float:
                return metrics.frechet_distance(moments, metrics.Gaussian.fit(part))

            def add_distance(name: str, space=space, fake=fake, distance=distance):
                enough = count // 2 > fake.shape[1]  # halves must have a covariance too
                spread = metrics.over_halves(distance, fake) if enough else None
                add(name, space.name, distance(fake), spread, HALVES)

            add_distance(self.fd)
            if space is self.clf:  # a model that copies is nearer to these
                to_train = functools.partial(distance, moments=self.train_moments)
                add_distance(f"{self.fd} to training images", distance=to_train)
            sizes = [size for size in SIZES if fake.shape[1] < size <= count]
            if space is self.clf and len(sizes) > 1:
                value = metrics.frechet_distance_at_infinity(moments, fake, sizes)
                spread = self._spread_at_infinity(fake, sizes)
                add(f"{self.fd} at infinite N", space.name, value, spread, HALVES)
        for space in (self.clf, self.pix, *self.extra):
            self.tell(f"kernel distance, {space.name}")
            value, spread = metrics.kernel_distance(self.real[space.name], fakes[space.name], SUBSETS, SUBSET_SIZE)
            size = min(SUBSET_SIZE, count // 2, len(self.test) // 2)
            add("KID x 1000", space.name, 1000 * value, 1000 * spread, f"sd over {SUBSETS} subsets of {size}")
        for space in (self.clf, self.pix):
            self.tell(f"precision, recall, density, coverage, {space.name}")
            meeting = metrics.neighbourhoods(self.real[space.name], fakes[space.name], NEIGHBOURS)
            for name, (value, spread) in vars(meeting).items():
                add(name, space.name, value, spread, "standard error over images")
        probabilities = self.clf.probabilities(fakes["clf"])
        spread = metrics.over_halves(metrics.class_balance, probabilities)
        add("class balance, KL to uniform in nats", "clf", metrics.class_balance(probabilities), spread, HALVES)
        value, spread = metrics.mean_of(probabilities.max(1).values)
        add("confidence", "clf", value, spread, "standard error over images")
        if labels is not None:
            value, spread = metrics.mean_of(probabilities.argmax(1) == labels)
            add("label fidelity", "clf", value, spread, "standard error over images")
        return figures

    def _spread_at_infinity(self, fake: torch.Tensor, sizes: Sequence[int]) -> float | None:
        """Returns the standard error of the distance at infinity; that of the line knows nothing of other samples."""
        halves = [size // 2 for size in sizes if size // 2 > fake.shape[1]]
        if len(halves) < 2:
            return None
        moments = self.moments[self.clf.name]
        return metrics.over_halves(
            lambda part: metrics.frechet_distance_at_infinity(moments, part, halves, draws=2), fake
        )

    def accuracy(self) -> float | None:
        """Returns how many of the test images the classifier of `clf` names right, None where they have no labels."""
        if self.test.labels is None:
            return None
        return (self.clf.probabilities(self.real["clf"]).argmax(1) == self.test.labels).double().mean().item()

    def memorisation(self, images: torch.Tensor, seen: torch.Tensor | None = None) -> dict[str, Memorisation]:
        """Examines whether uint8 `images` copy training images, by the distance in all pixels (`pix`) and in `clf`.

        Args:
            seen: the images that the generator was trained on, if not the training images of the yardstick.
        """
        self.tell("nearest training images")
        seen = self.train.images if seen is None else seen
        views = {
            "pix": (pixels(images), pixels(seen), pixels(self.test.images)),
            "clf": (self.clf(images), cached_features(self.clf, seen), self.real["clf"]),
        }
        found = {
            name: report(*nearest(fake, train), *self._of_test(name, seen, train, test), train)
            for name, (fake, train, test) in views.items()
        }
        found["clf"] = replace(found["clf"], duplicates=None)  # equal images have equal features but for rounding
        return found

    def _of_test(
        self, name: str, seen: torch.Tensor, train: torch.Tensor, test: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns distance and place of the training image that is nearest to each test image, computed once."""

        def compute() -> dict[str, torch.Tensor]:
            distance, place = nearest(test, train)
            return {"distance": distance, "place": place}

        found = cached("nearest", content_hash(name, self.clf.key, seen, self.test.images), compute)
        return found["distance"], found["place"]


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Returns uint8 images as rows of pixels in [0, 1], (N, C H W)."""
    return images.flatten(1).float() / 255
