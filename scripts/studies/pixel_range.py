"""The distance of images to real ones, whatever range of pixels their model was trained on."""

from pathlib import Path

import torch

from genhub import recipes
from genhub.data import DataConfig, Images, load
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.metrics import Gaussian, frechet_distance
from genhub.evaluation.protocol import to_bytes
from genhub.evaluation.sampling import sample
from genhub.repository.load import AutoPipeline

COUNT, SOURCE = 2000, "zalando-datasets/fashion_mnist"


def distance(folder: Path) -> float:
    """Returns the Fréchet distance of 2,000 images of the model in `folder` to the test images of Fashion MNIST."""
    space, real = next(pinned_spaces()), load(DataConfig(source=SOURCE), "test")
    assert isinstance(real, Images)
    channels, height, width = real.images.shape[1:]
    fakes = to_bytes(pixels_of(folder, COUNT), (channels, height, width))
    return frechet_distance(Gaussian.fit(space(real.images)), Gaussian.fit(space(fakes)))


def pixels_of(folder: Path, count: int) -> torch.Tensor:
    """Generates images (N, C, H, W) in [0, 1], black to white."""
    objective = recipes.load(folder, trust_code=True).stages[0].objective.cls
    images = sample(AutoPipeline.from_pretrained(folder), count, seed=0, batch_size=250)  # (x + 1) / 2
    return (2 * images - 1).clamp(0, 1) if objective.__name__ == "PositivePixels" else images
