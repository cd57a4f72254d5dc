"""How the activations of a code are distributed, over 1,000 test images."""

from pathlib import Path

import torch

import genhub
from genhub.data import DataConfig, Images, load


def test_images() -> torch.Tensor:
    """Returns 1,000 test images of the sample, (N, C, H, W) in [0, 1]."""
    images = load(DataConfig(source="sample"), "test")
    assert isinstance(images, Images)
    return images.images[:1000] / 255


def codes(folder: Path) -> torch.Tensor:
    """Returns the codes (1000, L) of test images by the autoencoder in `folder`."""
    return genhub.AutoPipeline.from_pretrained(folder).encode(test_images())


def share_near_zero(folder: Path) -> float:
    """Returns the share of activations below 0.01."""
    return (codes(folder).abs() < 0.01).double().mean().item()


def share_of_the_largest_tenth(folder: Path) -> float:
    """Returns the share of the sum of an image's activations that its largest tenth of units has."""
    sizes = codes(folder).abs().sort(1, descending=True).values
    return (sizes[:, : sizes.shape[1] // 10].sum(1) / sizes.sum(1)).mean().item()
