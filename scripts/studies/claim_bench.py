"""What measures of published models share: the images, the models, and the classifier of the protocol."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from genhub.data import DataConfig, Images, load
from genhub.evaluation.features import ClassifierSpace, pinned_spaces
from genhub.evaluation.metrics import Gaussian, frechet_distance, mean_of
from genhub.evaluation.protocol import to_bytes
from genhub.repository.load import AutoPipeline

Row = tuple[str, float, float | None]  # what is measured, its value, its spread


class Bench:
    """Images and published models, loaded when they are needed.

    Args:
        data: as data.source of a recipe.
        models: the folder of the published models.
        count: test images, or samples, of each measure.
    """

    def __init__(self, data: str, models: Path, count: int):
        self.data, self.models, self.count = data, models, count

    @cached_property
    def train(self) -> Images:
        """All training images but those that are held out."""
        return self._load("train")

    @cached_property
    def test(self) -> Images:
        """The first test images."""
        return self._load("test")[: self.count]

    @cached_property
    def all_test(self) -> Images:
        """All test images."""
        return self._load("test")

    @cached_property
    def pixels(self) -> torch.Tensor:
        """The first test images (N, C, H, W), in [0, 1]."""
        return self.test.images / 255

    @cached_property
    def space(self) -> ClassifierSpace:
        """The features of the protocol."""
        return next(pinned_spaces())

    @cached_property
    def real(self) -> Gaussian:
        """The moments of the features of all test images."""
        return Gaussian.fit(self.space(self.all_test.images))

    def model(self, name: str) -> Any:
        """Returns the pipeline of a published model, which shows no progress."""
        pipeline: Any = AutoPipeline.from_pretrained(self.models / name)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def samples(self, name: str, count: int | None = None, **arguments: Any) -> torch.Tensor:
        """Returns images (N, C, H, W) of a published model, in [0, 1]."""
        generator = torch.Generator().manual_seed(0)
        pipeline, parts = self.model(name), []
        for size in torch.ones(count or self.count).split(250):
            parts.append(pipeline(batch_size=len(size), generator=generator, output_type="pt", **arguments).images)
        return torch.cat(parts)

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the classes (N, 10) of images in [0, 1] by the classifier of the protocol."""
        return self.space.probabilities(self.features(images))

    def classes(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the most probable class (N,) of images in [0, 1]."""
        return self.probabilities(images).argmax(1)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the features (N, K) of images in [0, 1]."""
        channels, height, width = images.shape[1:]
        return self.space(to_bytes(images, (channels, height, width)))

    def distance(self, images: torch.Tensor) -> float:
        """Returns the Fréchet distance to all test images."""
        return frechet_distance(self.real, Gaussian.fit(self.features(images)))

    def confidence(self, what: str, images: torch.Tensor) -> Row:
        """Returns the mean probability that the classifier gives to its own choice."""
        return mean_row(f"confidence of the classifier, {what}", self.probabilities(images).amax(1))

    def _load(self, split: str) -> Images:
        images = load(DataConfig(source=self.data), split)
        assert isinstance(images, Images)
        return images


def mean_row(what: str, values: torch.Tensor) -> Row:
    """Returns the mean of values, one an image, with its standard error."""
    return what, *mean_of(values)


def per_image(values: torch.Tensor) -> torch.Tensor:
    """Returns the mean (N,) of each of N images."""
    return values.float().flatten(1).mean(1)
