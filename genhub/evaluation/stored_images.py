"""Generated images that are already there."""

from dataclasses import dataclass

import torch

from genhub.data import Images
from genhub.evaluation.protocol import crop


@dataclass(frozen=True)
class StoredImages:
    """Images that an evaluation draws from as from a `Sampler`.

    Args:
        images: their labels are the classes that were asked for, if any were.
        shape: (C, H, W) of the real images.
    """

    images: Images
    shape: tuple[int, int, int]

    def labels(self, count: int) -> torch.Tensor | None:
        """Returns the class asked for of each of the first `count` images, (N,)."""
        return None if self.images.labels is None else self.images.labels[:count]

    def try_one(self) -> None:
        """Raises ValueError if the images are of another shape than the real ones."""
        self.draw(1)

    def draw(self, count: int) -> tuple[torch.Tensor, list[float]]:
        """Returns the first `count` images, uint8 (N, C, H, W), and no seconds, since none were generated."""
        return crop(self.images.images[:count], self.shape), []
