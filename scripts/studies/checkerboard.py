"""Checkerboards of decoders that double the size of their maps (Odena et al. 2016, Deconvolution and Checkerboard
Artifacts): a pattern of period 2 that is the same in all images."""

from pathlib import Path

import torch
from codes import test_images

import genhub


def pattern(folder: Path) -> float:
    """Returns the strength of the pattern in copies of 1,000 test images by the autoencoder in `folder`."""
    return strength_of_copies(genhub.AutoPipeline.from_pretrained(folder))


def pattern_before_training(folder: Path) -> float:
    """Returns that of a network of the same kind with new weights."""
    pipe = genhub.AutoPipeline.from_pretrained(folder)
    torch.manual_seed(0)
    return strength_of_copies(type(pipe)(type(pipe.autoencoder).from_config(pipe.autoencoder.config)))


def strength_of_copies(pipe) -> float:
    return strength(pipe.reconstruct(test_images(), output_type="pt").images)


def strength(images: torch.Tensor) -> float:
    """Returns the root mean square of the mean 2 x 2 pixels of images (B, C, H, W), as a share of that of all 2 x 2
    pixels, each less its mean: 0 without a pattern of period 2, 1 for a checkerboard alone."""
    blocks = images.double().unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)  # (B, C, H / 2, W / 2, 4)
    blocks = blocks - blocks.mean(-1, keepdim=True)
    return (blocks.mean((0, 2, 3)).square().mean() / blocks.square().mean()).sqrt().item()
