"""Points in space that lie near a plane (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 8, whose generator this is,
and ch. 17, Performing PCA with an Undercomplete Linear Autoencoder)."""

import numpy as np
import torch

SEEDS = {"train": (42, 60), "test": (43, 1000)}  # split -> seed and number of points


def points(split: str) -> torch.Tensor:
    """Returns the points of "train" (the book's 60) or "test" (1,000 others) as images of 1 x 3 "pixels", (N, 1, 1, 3)
    in float: an ellipse with noise, turned and shifted. They exceed [0, 1]."""
    seed, count = SEEDS[split]
    random = np.random.RandomState(seed)
    angles = (random.rand(count) ** 3 + 0.5) * 2 * np.pi
    ellipse = np.stack([np.cos(angles), 0.5 * np.sin(angles), np.zeros(count)], axis=1)  # (N, 3)
    noisy = torch.from_numpy(ellipse + 0.28 * random.randn(count, 3))
    x, y, z = np.pi / 29, -np.pi / 20, np.pi / 4  # the axis of the rotation, as long as its angle
    rotation = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64))
    moved = noisy @ rotation.T + torch.tensor([0.2, 0.0, 0.2], dtype=torch.float64)
    return moved.float()[:, None, None, :]
