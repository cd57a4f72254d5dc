"""Changes to images that a discriminator sees, real and fake alike, through which gradients pass.

Each operation is applied to an image with probability p, so that what it does does not leak into what the generator
makes while p stays well below 1 (Karras et al. 2020, arXiv 2006.06676, Sec. 2.2). The operations follow DiffAugment
(Zhao et al. 2020, arXiv 2006.10738, Sec. 3.2), without its saturation, as images may be grey, and with black where it
pads with its zero. Images are never mirrored: data need not be symmetric.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from genhub.objectives.objective import Step


def coloured(sample: torch.Tensor, step: Step) -> torch.Tensor:
    """Adds up to 1/2 to all pixels, or takes it away, and stretches contrast by 1/2 to 3/2."""
    brightness, contrast = step.random.rand(2, 1, 1, 1).unbind(1)  # (B, 1, 1, 1) each
    mean = sample.mean((1, 2, 3), keepdim=True)
    return (sample - mean) * (contrast + 0.5) + mean + (brightness - 0.5)


def translated(sample: torch.Tensor, step: Step) -> torch.Tensor:
    """Moves each image by up to an eighth of its size in each direction, onto black (-1)."""
    height, width = sample.shape[2:]
    down, right = max(height // 8, 1), max(width // 8, 1)
    return moved(sample, step.random.randint(2 * down + 1), step.random.randint(2 * right + 1), (down, right))


def moved(sample: torch.Tensor, top: torch.Tensor, left: torch.Tensor, most: tuple[int, int]) -> torch.Tensor:
    """Cuts images (B, C, H, W) out of themselves on black (-1), with `most` rows and columns around them.

    Args:
        top, left: (B,), where the cut begins in each; `most` moves nothing.
    """
    height, width = sample.shape[2:]
    padded = F.pad(sample, (most[1], most[1], most[0], most[0]), value=-1.0)
    rows = top[:, None] + torch.arange(height, device=sample.device)  # (B, H)
    columns = left[:, None] + torch.arange(width, device=sample.device)  # (B, W)
    each = torch.arange(len(sample), device=sample.device)[:, None, None]
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)


def cut_out(sample: torch.Tensor, step: Step) -> torch.Tensor:
    """Sets a square of half the image's size, anywhere on it, to grey (0)."""
    keep = torch.ones_like(sample[:, :1, :, :])
    for dim in (2, 3):
        size = sample.shape[dim]
        shape = [1, 1, 1, 1]
        shape[dim] = size
        middle = step.random.rand(1, 1, 1) * size  # (B, 1, 1, 1)
        distance = (torch.arange(size, device=sample.device).view(shape) + 0.5 - middle).abs()
        keep = keep * (distance < size / 4)
    return sample * (1 - keep)


OPERATIONS: dict[str, Callable[[torch.Tensor, Step], torch.Tensor]] = {
    "colour": coloured,
    "translation": translated,
    "cutout": cut_out,
}


class Augmentation:
    """Applies operations with a probability, which may adapt: it rises while the discriminator calls more than
    `target` of the real images real, by which it shows that it learns them by heart (Karras et al. 2020, Eq. 1).

    Args:
        names: of `OPERATIONS`, in order.
        probability: at the start.
        target: for the mean sign of the scores of real images; None leaves the probability as it is.
        images: in which an adapting probability goes from 0 to 1 at most (Karras et al.: 500,000).
    """

    every = 4  # steps between two adaptions

    def __init__(self, names: tuple[str, ...], probability: float, target: float | None, images: float = 500_000):
        for name in names:
            if name not in OPERATIONS:
                raise ValueError(f"`augmentations` must be of {', '.join(OPERATIONS)}, got {name!r}.")
        if not 0 <= probability <= 1:
            raise ValueError(f"`augmentation_probability` must lie in [0, 1], got {probability}.")
        if target is not None and not (names and 0 < target < 1):
            raise ValueError(f"`augmentation_target` must lie in (0, 1), with `augmentations`, got {target}.")
        self.operations = [OPERATIONS[name] for name in names]
        self.probability, self.target, self.images = probability, target, images
        self.signs, self.steps = 0.0, 0

    def __call__(self, sample: torch.Tensor, step: Step) -> torch.Tensor:
        for operation in self.operations:
            changed = operation(sample, step)
            if self.probability < 1 or self.target is not None:
                chosen = step.random.rand(1, 1, 1) < self.probability
                changed = torch.where(chosen, changed, sample)
            sample = changed
        return sample

    def observe(self, sign: float, images: int):
        """Adapts after a step of `images` real images, whose scores have the mean `sign`."""
        if self.target is None:
            return
        self.signs, self.steps = self.signs + sign, self.steps + 1
        if self.steps == self.every:
            way = 1 if self.signs / self.every > self.target else -1
            moved = self.probability + way * self.every * images / self.images
            self.probability, self.signs, self.steps = min(max(moved, 0.0), 1.0), 0.0, 0

    def state_dict(self) -> dict:
        return {"probability": self.probability, "signs": self.signs, "steps": self.steps}

    def load_state_dict(self, state: dict):
        self.probability, self.signs, self.steps = state["probability"], state["signs"], state["steps"]
