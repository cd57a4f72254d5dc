"""Adversarial training of networks that grow (Karras et al. 2017, arXiv 1710.10196, Sec. 2)."""

from typing import cast

import torch
import torch.nn.functional as F
from diffusers import ModelMixin

from genhub.objectives.gan import AdversarialGame
from genhub.objectives.objective import Batch, Step


class GrowingGame(AdversarialGame):
    """The adversarial game at one level of growing networks, whose newest level fades in; one stage of training per
    level.

    Args:
        level: from 0; both networks are set to it.
        fade_in: share of the stage in which the weight of the newest level rises linearly from 0 to 1.

    The other arguments are those of `AdversarialGame`, without replay, since fakes of other levels are of no use.
    """

    def __init__(
        self,
        generator: ModelMixin,
        discriminator: ModelMixin,
        level: int,
        fade_in: float = 0.5,
        loss: str = "non_saturating",
        r1_weight: float = 0.0,
        r1_every: int = 16,
        gradient_penalty_weight: float = 0.0,
        drift_weight: float = 0.0,
        mixing: float = 0.0,
        augmentations: tuple[str, ...] = (),
        augmentation_probability: float | None = None,
        augmentation_target: float | None = None,
    ):
        if not 0 <= fade_in <= 1:
            raise ValueError(f"`fade_in` must lie in [0, 1], got {fade_in}.")
        for network in (generator, discriminator):
            network.grow(level)
        super().__init__(
            generator,
            discriminator,
            loss,
            r1_weight=r1_weight,
            r1_every=r1_every,
            gradient_penalty_weight=gradient_penalty_weight,
            drift_weight=drift_weight,
            mixing=mixing,
            augmentations=augmentations,
            augmentation_probability=augmentation_probability,
            augmentation_target=augmentation_target,
        )
        self.level, self.fade_in = level, fade_in
        last_level = len(generator.config["block_out_channels"]) - 1
        self.full_size = generator.config["base_size"] * 2**last_level  # pixels, with the margin
        self.cell_size = 2 ** (last_level - level)  # full-size pixels per pixel of this level

    def shared_inputs(self, step: Step) -> dict:
        """Returns alpha for training; in validation, the networks use their last one."""
        if not self.modules["generator"].training:
            return {}
        return {"alpha": torch.full((1,), self.alpha(step), device=step.random.device)}

    def alpha(self, step: Step) -> float:
        """Returns the weight of the newest level, in [0, 1]."""
        return 1.0 if self.level == 0 or self.fade_in == 0 else min(step.progress / self.fade_in, 1.0)

    def prepare_real(self, batch: Batch, step: Step) -> torch.Tensor:
        """Returns the real images in the resolution of the fakes: this level's, faded in from the one below."""
        generator = cast("ModelMixin", self.modules["generator"])
        alpha = self.alpha(step) if generator.training else generator.alpha.item()
        return fade_resolution(batch["sample"], self.full_size, self.cell_size, alpha)


def fade_resolution(sample: torch.Tensor, full_size: int, cell_size: int, alpha: float) -> torch.Tensor:
    """Interpolates images (B, C, H, W) between cells of `2 * cell_size` (alpha = 0) and of `cell_size` pixels (alpha =
    1)."""
    fine = pixelate(sample, full_size, cell_size)
    return fine if alpha == 1 else torch.lerp(pixelate(sample, full_size, 2 * cell_size), fine, alpha)


def pixelate(sample: torch.Tensor, full_size: int, cell_size: int) -> torch.Tensor:
    """Replaces square cells of images (B, C, H, W) by their means.

    Args:
        full_size: size to which the edges are repeated first, a multiple of `cell_size`, since cells are counted from
            the margin that both networks see.
    """
    if cell_size == 1:
        return sample
    top, left = ((full_size - size) // 2 for size in sample.shape[2:])
    padded = F.pad(sample, (left, left, top, top), mode="replicate")
    coarse = F.interpolate(F.avg_pool2d(padded, cell_size), scale_factor=float(cell_size), mode="nearest")
    return coarse[:, :, top : coarse.shape[2] - top, left : coarse.shape[3] - left]
