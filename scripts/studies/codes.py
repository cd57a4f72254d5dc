"""How the activations of a code are distributed, over 1,000 test images."""

from pathlib import Path

import torch

import genhub
from genhub.data import DataConfig, Images, load


def codes(folder: Path) -> torch.Tensor:
    """Returns the codes (1000, L) of test images by the autoencoder in `folder`."""
    pipe = genhub.AutoPipeline.from_pretrained(folder)
    images = load(DataConfig(source="sample"), "test")
    assert isinstance(images, Images)
    return pipe.encode(images.images[:1000] / 255)


def share_near_zero(folder: Path) -> float:
    """Returns the share of activations below 0.01."""
    return (codes(folder).abs() < 0.01).double().mean().item()


def share_of_the_largest_tenth(folder: Path) -> float:
    """Returns the share of the sum of an image's activations that its largest tenth of units has."""
    sizes = codes(folder).abs().sort(1, descending=True).values
    return (sizes[:, : sizes.shape[1] // 10].sum(1) / sizes.sum(1)).mean().item()
