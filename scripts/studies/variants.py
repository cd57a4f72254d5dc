"""Variants of the objective of diffusion that studies compare with the one that genhub keeps."""

import math

import torch
import torch.nn.functional as F

from genhub.objectives import NoisePrediction
from genhub.objectives.noising import signal_and_noise, target
from genhub.objectives.objective import Batch, Losses, Step


class ImmiscibleNoise(NoisePrediction):
    """Takes for each image the nearest of `candidates` noises (Li et al. 2024, *Immiscible Diffusion*, arXiv
    2406.12303, with the nearest of k in place of an assignment)."""

    def __init__(self, unet, scheduler, candidates: int = 4, label_dropout: float = 0.0):
        super().__init__(unet, scheduler, "mse", "stratified", label_dropout)
        self.candidates = candidates

    def draw_noise(self, x_0: torch.Tensor, step: Step) -> torch.Tensor:
        drawn = step.random.randn(self.candidates, *x_0.shape[1:])  # (B, K, C, H, W)
        nearest = (drawn - x_0[:, None]).flatten(2).square().sum(2).argmin(1)
        return drawn[torch.arange(len(x_0)), nearest]


class LogNormalLevels(NoisePrediction):
    """Draws ln sigma from a normal distribution (Karras et al. 2022, arXiv 2206.00364, Table 1), stratified."""

    def __init__(self, unet, scheduler, mean: float = -0.85, std: float = 1.3, label_dropout: float = 0.0):
        super().__init__(unet, scheduler, "mse", label_dropout=label_dropout)
        self.mean, self.std = mean, std

    def draw_timesteps(self, step: Step) -> torch.Tensor:
        share = (step.random.permutation() + step.random.rand()) / step.random.total
        log_sigma = self.mean + self.std * math.sqrt(2) * torch.erfinv((2 * share - 1).clamp(-0.9999, 0.9999))
        levels = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().log()  # (T,), rising
        return torch.searchsorted(levels, log_sigma).clamp(0, len(levels) - 1)


class PositivePixels(NoisePrediction):
    """Diffuses images in [0, 1] in place of [-1, 1], so that its pipeline makes images in [0, 1], too."""

    def denoising_loss(self, batch: Batch, step: Step) -> Losses:
        return super().denoising_loss(batch | {"sample": (batch["sample"] + 1) / 2}, step)


class WeightedLevels(NoisePrediction):
    """Weighs the squared error of v by the noise level.

    Args:
        weighting: "epsilon" or "sample", which make it the error of the predicted noise or x_0; or "min-snr", that of
            x_0 times min(SNR, 5) (Hang et al. 2023, arXiv 2303.09556).
    """

    def __init__(self, unet, scheduler, weighting: str = "epsilon", label_dropout: float = 0.0):
        super().__init__(unet, scheduler, "mse", "stratified", label_dropout)
        self.weighting = weighting

    def denoising_loss(self, batch: Batch, step: Step) -> Losses:
        x_0 = batch["sample"]
        timesteps, eps = self.draw_timesteps(step), self.draw_noise(x_0, step)
        alpha, sigma = signal_and_noise(self.alphas_cumprod, timesteps, like=x_0)
        prediction = self.predict(alpha * x_0 + sigma * eps, timesteps, batch, step)
        error = F.mse_loss(prediction, target(x_0, eps, alpha, sigma, "v_prediction"), reduction="none")
        weight = {
            "epsilon": alpha**2,
            "sample": sigma**2,
            "min-snr": sigma**2 * ((alpha / sigma) ** 2).clamp(max=5),
        }
        return {"loss": (weight[self.weighting] * error).mean()}
