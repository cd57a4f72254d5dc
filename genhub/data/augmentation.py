"""Random changes of training images, each a function of the seed and of the image's position in the stream."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from genhub.utils.randomness import hash_uniform

FLIP, DOWN, RIGHT = range(3)  # streams of random numbers


@dataclass(frozen=True)
class Augmentation:
    """Mirrors images and shifts them.

    Args:
        flip: mirror half of the images.
        crop: pixels by which images are shifted at most, in both directions: a random crop of the padded image.
        fill: value of the padding.
    """

    flip: bool
    crop: int
    fill: float

    def __call__(self, sample: torch.Tensor, positions: torch.Tensor, seed: int) -> torch.Tensor:
        """Changes images (B, C, H, W) at `positions` (B,) of the stream of training."""
        if self.flip:
            is_flipped = hash_uniform(positions, seed, FLIP) < 0.5
            sample = torch.where(is_flipped.to(sample.device)[:, None, None, None], sample.flip(3), sample)
        return self._shift(sample, positions, seed) if self.crop else sample

    def _shift(self, sample: torch.Tensor, positions: torch.Tensor, seed: int) -> torch.Tensor:
        height, width = sample.shape[2:]
        padded = F.pad(sample, (self.crop,) * 4, value=self.fill)  # (B, C, H + 2 crop, W + 2 crop)
        down, right = (
            (hash_uniform(positions, seed, stream) * (2 * self.crop + 1)).long().to(sample.device)
            for stream in (DOWN, RIGHT)
        )
        rows = (down[:, None] + torch.arange(height, device=sample.device))[:, :, None]  # (B, H, 1)
        columns = (right[:, None] + torch.arange(width, device=sample.device))[:, None]  # (B, 1, W)
        batch = torch.arange(len(sample), device=sample.device)[:, None, None]
        return padded[batch, :, rows, columns].permute(0, 3, 1, 2)  # (B, H, W, C) before
