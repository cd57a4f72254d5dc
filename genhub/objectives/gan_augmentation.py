"""Differentiable augmentation of all images that a discriminator sees, real and fake alike.

Each operation is applied to an image with probability p, so that it does not leak into the generated images while p
stays well below 1 (Karras et al. 2020, arXiv 2006.06676, Sec. 2.2). The operations follow DiffAugment (Zhao et al.
2020, arXiv 2006.10738, Sec. 3.2), without its saturation, since images may be grey, and padded with black instead of
zero. Images are never mirrored: data need not be symmetric.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from genhub.objectives.objective import Step


def jitter_colour(sample: torch.Tensor, step: Step) -> torch.Tensor:
    """Shifts the brightness of each image by up to 1/2 and scales its contrast by 1/2 to 3/2."""
    brightness, contrast = step.random.rand(2, 1, 1, 1).unbind(1)  # (B, 1, 1, 1) each
    mean = sample.mean((1, 2, 3), keepdim=True)
    return (sample - mean) * (contrast + 0.5) + mean + (brightness - 0.5)


def translate(sample: torch.Tensor, step: Step) -> torch.Tensor:
    """Moves each image by up to an eighth of its size in each direction, onto black (-1)."""
    height, width = sample.shape[2:]
    rows, columns = max(height // 8, 1), max(width // 8, 1)
    top, left = step.random.randint(2 * rows + 1), step.random.randint(2 * columns + 1)
    return crop_padded(sample, top, left, (rows, columns))


def crop_padded(sample: torch.Tensor, top: torch.Tensor, left: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
    """Pads images (B, C, H, W) with black (-1) and crops each to its former size.

    Args:
        top, left: (B,), first row and column of each crop; equal to `padding`, they leave the image in place.
        padding: rows and columns that are added at each side.
    """
    height, width = sample.shape[2:]
    vertical, horizontal = padding
    padded = F.pad(sample, (horizontal, horizontal, vertical, vertical), value=-1.0)
    rows = top[:, None] + torch.arange(height, device=sample.device)  # (B, H)
    columns = left[:, None] + torch.arange(width, device=sample.device)  # (B, W)
    images = torch.arange(len(sample), device=sample.device)[:, None, None]
    return padded[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)


def cut_out(sample: torch.Tensor, step: Step) -> torch.Tensor:
    """Sets a square of half the image's size, anywhere on it, to grey (0)."""
    hole = torch.ones_like(sample[:, :1, :, :])
    for dim in (2, 3):
        size = sample.shape[dim]
        shape = [1, 1, 1, 1]
        shape[dim] = size
        centre = step.random.rand(1, 1, 1) * size  # (B, 1, 1, 1)
        distance = (torch.arange(size, device=sample.device).view(shape) + 0.5 - centre).abs()
        hole = hole * (distance < size / 4)
    return sample * (1 - hole)


OPERATIONS: dict[str, Callable[[torch.Tensor, Step], torch.Tensor]] = {
    "colour": jitter_colour,
    "translation": translate,
    "cutout": cut_out,
}


class Augmentation:
    """Applies operations with a probability, which may adapt: it rises while the discriminator calls more than
    `target` of the real images real, a sign of overfitting (Karras et al. 2020, Eq. 1), and falls otherwise.

    Args:
        names: of `OPERATIONS`, in order.
        probability: initial probability of each operation; None for 0 if it adapts, 1 if not.
        target: for the mean sign of the scores of real images; None for a constant probability.
        images: number of images in which the probability can go from 0 to 1 (Karras et al.: 500,000).
    """

    adapt_every = 4  # steps

    def __init__(
        self, names: tuple[str, ...], probability: float | None, target: float | None, images: float = 500_000
    ):
        for name in names:
            if name not in OPERATIONS:
                raise ValueError(f"`augmentations` must be of {', '.join(OPERATIONS)}, got {name!r}.")
        if probability is None:
            probability = 1.0 if target is None else 0.0
        if not 0 <= probability <= 1:
            raise ValueError(f"`augmentation_probability` must lie in [0, 1], got {probability}.")
        if target is not None and not (names and 0 < target < 1):
            raise ValueError(f"`augmentation_target` must lie in (0, 1), with `augmentations`, got {target}.")
        self.operations = [OPERATIONS[name] for name in names]
        self.probability, self.target, self.images = probability, target, images
        self.signs: list[torch.Tensor] = []  # of the steps since the last adaptation, on the device

    def __call__(self, sample: torch.Tensor, step: Step) -> torch.Tensor:
        """Returns images (B, C, H, W) with each operation applied to some of them."""
        for operation in self.operations:
            changed = operation(sample, step)
            if self.probability < 1 or self.target is not None:
                is_changed = step.random.rand(1, 1, 1) < self.probability
                changed = torch.where(is_changed, changed, sample)
            sample = changed
        return sample

    def adapt(self, sign: torch.Tensor, batch_size: int) -> None:
        """Updates the probability, once in `adapt_every` steps: the only time that the device is waited for.

        Args:
            sign: mean sign of the scores of the step's `batch_size` real images, a scalar on the device.
        """
        if self.target is None:
            return
        self.signs.append(sign)
        if len(self.signs) < self.adapt_every:
            return
        mean = sum(torch.stack(self.signs).tolist()) / self.adapt_every
        direction = 1 if mean > self.target else -1
        probability = self.probability + direction * self.adapt_every * batch_size / self.images
        self.probability, self.signs = min(max(probability, 0.0), 1.0), []

    def state_dict(self) -> dict:
        signs = torch.stack(self.signs).tolist() if self.signs else []
        return {"probability": self.probability, "signs": signs}

    def load_state_dict(self, state: dict, device: torch.device | str = "cpu") -> None:
        self.probability = state["probability"]
        self.signs = [torch.tensor(sign, device=device) for sign in state["signs"]]
