"""The first stage of latent diffusion: an autoencoder with small and smooth latents (Rombach et al. 2022, arXiv
2112.10752, Sec. 3.1). Errors are those of pixels in [-1, 1]."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import nn

from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step

DEVIATION, REACH = 1.5, 5  # of the Gaussian window of SSIM, in pixels: 11 x 11
STABILITY = (0.01, 0.03)  # K_1 and K_2 of SSIM


class Compression(nn.Module):
    """The pass of images through an `AutoencoderKL`, which returns what its loss is made of.

    Args:
        factor: by which latents are also decoded smaller; 1 does not.
    """

    def __init__(self, vae: ModelMixin, factor: int):
        super().__init__()
        self.vae: Any = vae
        self.config, self.factor = vae.config, factor

    def forward(
        self, sample: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Returns reconstructions (B, C, H, W), decoded small latents (B, C, H / factor, W / factor), and KL(q(z|x) ||
        p(z)) in nats per latent, (B,)."""
        posterior = self.vae.encode(sample).latent_dist
        latents = posterior.mean + posterior.std * noise
        small = self.vae.decode(F.avg_pool2d(latents, self.factor)).sample if self.factor > 1 else None
        return self.vae.decode(latents).sample, small, posterior.kl() / latents.shape[1:].numel()


class PerceptualCompression(Objective):
    """Reconstructs images from latents close to N(0, I), and smaller images from smaller latents.

    The distance of images is |x - y| + (1 - SSIM(x, y)) / 2, so no other network's features decide what matters.

    Args:
        autoencoder: an `AutoencoderKL`.
        ssim_weight: of 1 - SSIM (Wang et al. 2004, Eq. 13).
        kl_weight: of the divergence in nats per latent.
        scale_weight: of the distance between images made smaller and what their latents, made smaller, are decoded to
            (Skorokhodov et al. 2025, arXiv 2502.14831, Sec. 3.3): latents without the high frequencies that images do
            not have are easier to model.
        factor: by which images and latents are made smaller for it.
    """

    def __init__(
        self,
        autoencoder: ModelMixin,
        ssim_weight: float = 0.5,
        kl_weight: float = 1e-4,
        scale_weight: float = 0.25,
        factor: int = 2,
    ):
        for name, weight in (("ssim_weight", ssim_weight), ("kl_weight", kl_weight), ("scale_weight", scale_weight)):
            if not 0 <= weight < math.inf:
                raise ValueError(f"`{name}` must be at least 0 and finite, got {weight}.")
        if factor < 2:
            raise ValueError(f"`factor` must be at least 2, got {factor}.")
        self.modules = {"autoencoder": Compression(autoencoder, factor if scale_weight else 1)}
        self.phases = (Phase("autoencoder", self.compression_loss),)
        self.ssim_weight, self.kl_weight, self.scale_weight, self.factor = ssim_weight, kl_weight, scale_weight, factor
        self.latent_channels = autoencoder.config["latent_channels"]
        self.ratio = 2 ** (len(autoencoder.config["block_out_channels"]) - 1)  # of the sides of images and latents

    def check(self, shape) -> None:
        """Compares the model with the shape of the images.

        Raises:
            ValueError: the number of channels differs, or the size cannot be halved as often as the model does.
        """
        super().check(shape)
        divisor = self.ratio * (self.factor if self.scale_weight else 1)
        if shape.height % divisor or shape.width % divisor:
            raise ValueError(
                f"The images must have sides that are divisible by {divisor}, got {shape.height} x {shape.width}."
            )

    def compression_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the weighted terms."""
        sample = batch["sample"]
        reconstruction, small, kl = self.modules["autoencoder"](sample, self.draw_noise(sample, step))
        losses = self.distances(reconstruction, sample) | {"kl": self.kl_weight * kl.mean()}
        if small is not None:
            distances = self.distances(small, F.avg_pool2d(sample, self.factor))
            losses["scale"] = self.scale_weight * torch.stack([*distances.values()]).sum()
        return losses

    def draw_noise(self, sample: torch.Tensor, step: Step) -> torch.Tensor:
        """Draws the noise of the latents of images (B, C, H, W)."""
        height, width = (side // self.ratio for side in sample.shape[2:])
        return step.random.randn(self.latent_channels, height, width)

    def distances(self, sample: torch.Tensor, other: torch.Tensor) -> Losses:
        """Returns the terms of the distance between images."""
        sample, losses = sample.float(), {}
        losses["l1"] = (sample - other).abs().mean()
        if self.ssim_weight:
            losses["ssim"] = self.ssim_weight * (1 - structural_similarity(sample, other).mean())
        return losses

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns the training loss, and the squared error and SSIM of reconstructions from the modes of q(z|x)."""
        losses, sample = self.compression_loss(batch, step), batch["sample"]
        vae: Any = self.modules["autoencoder"].vae
        reconstruction = vae.decode(vae.encode(sample).latent_dist.mode()).sample.float()
        return {
            "loss": torch.stack([*losses.values()]).sum(),
            "mse": F.mse_loss(reconstruction, sample) / 4,
            "ssim": structural_similarity(reconstruction, sample).mean(),
        }


def structural_similarity(sample: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns the SSIM (Wang et al. 2004, *Image quality assessment*, Eq. 13) of images (B, C, H, W) in [-1, 1], (B,):
    the mean over positions and channels; images are reflected at their edges."""
    reach = min(REACH, *(side - 1 for side in sample.shape[2:]))
    positions = torch.arange(-reach, reach + 1, device=sample.device)
    weights = F.softmax(-(positions**2) / (2 * DEVIATION**2), 0)

    def blur(images: torch.Tensor) -> torch.Tensor:
        images = F.pad(images, (reach,) * 4, mode="reflect").flatten(0, 1)[:, None]  # (B C, 1, H + 2 r, W + 2 r)
        images = F.conv2d(F.conv2d(images, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
        return images.view(len(sample), -1, *images.shape[2:])

    mean, mean_other = blur(sample), blur(other)
    variance, variance_other = blur(sample**2) - mean**2, blur(other**2) - mean_other**2
    covariance = blur(sample * other) - mean * mean_other
    luminance, contrast = ((2 * k) ** 2 for k in STABILITY)  # the range of pixels is 2
    ratio = (2 * mean * mean_other + luminance) / (mean**2 + mean_other**2 + luminance)
    ratio = ratio * (2 * covariance + contrast) / (variance + variance_other + contrast)
    return ratio.flatten(1).mean(1)
