"""Points in space near a plane (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 8, whose generator this is, and
ch. 17, Performing PCA with an Undercomplete Linear Autoencoder)."""

from dataclasses import dataclass

import numpy as np
import torch

from genhub.data.images import Images

SEEDS = {"train": (42, 60), "test": (43, 1000)}  # split -> seed and number of points


@dataclass
class Points(Images):
    """Points as float images (N, 1, 1, D), in the unit of pixels in [0, 1], whose bounds they may exceed."""

    def __post_init__(self):
        if not self.images.is_floating_point():
            raise ValueError(f"`images` must be float, got {self.images.dtype}.")

    def sample(self, index: torch.Tensor | slice) -> torch.Tensor:
        return points_to_model_range(self.images[index])


def points(split: str) -> torch.Tensor:
    """Draws the points of "train" (the book's 60) or "test" (1,000 others), float (N, 1, 1, 3): a noisy ellipse,
    rotated and shifted."""
    seed, count = SEEDS[split]
    random = np.random.RandomState(seed)
    angles = (random.rand(count) ** 3 + 0.5) * 2 * np.pi
    ellipse = np.stack([np.cos(angles), 0.5 * np.sin(angles), np.zeros(count)], axis=1)  # (N, 3)
    noisy = torch.from_numpy(ellipse + 0.28 * random.randn(count, 3))
    x, y, z = np.pi / 29, -np.pi / 20, np.pi / 4  # a rotation vector: axis times angle
    rotation = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64))
    shifted = noisy @ rotation.T + torch.tensor([0.2, 0.0, 0.2], dtype=torch.float64)
    return shifted.float()[:, None, None, :]


def points_to_model_range(points: torch.Tensor) -> torch.Tensor:
    """Maps points as pixels in [0, 1] are mapped to [-1, 1]."""
    return 2 * points - 1
