"""Consistency tuning of a trained diffusion model, for samples in one to four calls of the network: consistency
distillation (Song et al. 2023, arXiv 2303.01469, Algorithm 2) that starts from the weights of its teacher, as
consistency tuning does (Geng et al. 2024, arXiv 2406.14548).

Noise levels are sigma = sqrt((1 - alpha_bar) / alpha_bar) of y = x_t / alpha_t = x_0 + sigma_t eps.
"""

import math

import torch
from diffusers import ModelMixin

from genhub.objectives.diffusion import NoisePrediction, NoiseSchedule
from genhub.objectives.noising import predicted_x_0, signal_and_noise
from genhub.objectives.objective import Batch, Losses, Phase, Step


class ConsistencyTuning(NoisePrediction):
    """Makes the predicted x_0 of a diffusion network equal along each trajectory of its probability-flow ODE.

    The predicted x_0, f(x_t, t), is a consistency function as it is: without noise it is x_t (Song et al. 2023, Sec.
    3). Its target is its own value, without gradient, at a lower noise level r, to which the teacher leads x_t. Below
    `sigma_min` the target is the teacher's x_0. So the network keeps its class, its file and the meaning of its
    prediction, `diffusers.LCMScheduler` samples it, and it learns the teacher's guidance too (Luo et al. 2023, arXiv
    2310.04378, Sec. 4.2).

    Departures from these papers, for training in minutes: few and long steps of second order, since the errors of the
    network add up over the steps from sigma_t to 0; the squared error of v, whose gradient fades with the error; and,
    if the scheduler clips x_0, no error beyond the range where the target is its end. The clipped x_0 then has
    less noise where images are black or white.

    Args:
        unet: as in `NoisePrediction`; it starts from the weights of `teacher`.
        scheduler: any one of diffusers with `alphas_cumprod` whose `prediction_type` is v_prediction or epsilon.
        teacher: frozen diffusion network of the same kind.
        guidance_scale: of the teacher; 1 is no guidance, and dropped labels have none.
        log_sigma_mean, log_sigma_std: of ln sigma_t, which is normal (Geng et al. 2024, Sec. 4.1). Their mean, -1.1,
            is for images of standard deviation 0.5; for one of 0.7 it is -0.75.
        ratio: sigma_r / sigma_t.
        sigma_min: lowest sigma_r.
        label_dropout: as in `NoisePrediction`.
    """

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: NoiseSchedule,
        teacher: ModelMixin,
        guidance_scale: float = 1.0,
        log_sigma_mean: float = -0.75,
        log_sigma_std: float = 2.0,
        ratio: float = 0.6,
        sigma_min: float = 0.05,
        label_dropout: float = 0.0,
    ):
        super().__init__(unet, scheduler, label_dropout=label_dropout)
        if self.prediction_type == "sample":
            raise ValueError("`scheduler.prediction_type` must be v_prediction or epsilon, got 'sample'.")
        if log_sigma_std < 0:
            raise ValueError(f"`log_sigma_std` must be at least 0, got {log_sigma_std}.")
        if not 0 < ratio < 1:
            raise ValueError(f"`ratio` must lie in (0, 1), got {ratio}.")
        if sigma_min < 0:
            raise ValueError(f"`sigma_min` must be at least 0, got {sigma_min}.")
        if guidance_scale != 1 and not self.num_class_embeds:
            raise ValueError(f"`guidance_scale` must be 1 for a network without classes, got {guidance_scale}.")
        self.modules["teacher"] = teacher
        self.phases = (Phase("unet", self.consistency_loss),)
        self.guidance_scale, self.ratio, self.sigma_min = guidance_scale, ratio, sigma_min
        self.log_sigma_mean, self.log_sigma_std = log_sigma_mean, log_sigma_std
        self.sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()  # (T,)
        clips = scheduler.config.get("clip_sample")
        self.limit = scheduler.config.get("clip_sample_range", 1.0) if clips else math.inf

    def check_labels(self, images) -> None:
        """Requires a null class for guidance, too."""
        super().check_labels(images)
        self.check_null_class("guidance_scale", self.guidance_scale != 1, images.shape.num_classes)

    def consistency_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the mean of (f(x_t, t) - f(x_r, r))^2 / (1 - alpha_bar_t), without gradient through the second f,
        which is clipped as the scheduler does; where it is, f(x_t, t) may lie beyond it.

        A step of the teacher solves dy / d ln sigma = y - x_0 (Karras et al. 2022, arXiv 2206.00364, Eq. 1) for the
        mean of its x_0 at both ends: y_r = y_t sigma_r / sigma_t + x_0 (1 - sigma_r / sigma_t).
        """
        x_0 = batch["sample"]  # (B, C, H, W)
        t, r = self.draw_pairs(step)  # (B,) each
        labels = self.drop_labels(batch["labels"], step) if self.num_class_embeds else None
        alpha_t, sigma_t = signal_and_noise(self.alphas_cumprod, t, x_0)
        x_t = alpha_t * x_0 + sigma_t * self.draw_noise(x_0, step)

        with torch.no_grad():
            alpha_r, sigma_r = signal_and_noise(self.alphas_cumprod, r.clamp(min=0), x_0)
            rest = sigma_r / alpha_r / (sigma_t / alpha_t)  # of the noise
            clean = self.guided_x_0(x_t, t, labels)
            euler = alpha_r * (rest * x_t / alpha_t + (1 - rest) * clean)
            mean = (clean + self.guided_x_0(euler, r.clamp(min=0), labels)) / 2
            x_r = alpha_r * (rest * x_t / alpha_t + (1 - rest) * mean)
            earlier = self.predict_x_0("unet", x_r, r.clamp(min=0), labels)
            target = torch.where(r.view(-1, 1, 1, 1) < 0, clean, earlier).clamp(-self.limit, self.limit)
        error = (self.predict_x_0("unet", x_t, t, labels) - target) / sigma_t
        is_clipped = (target.abs() == self.limit) & (error * target > 0)
        return {"loss": (error**2).masked_fill(is_clipped, 0.0).mean()}

    def draw_pairs(self, step: Step) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws t, and for it r < t, (B,) each; r = -1 is the clean image."""
        drawn = (self.log_sigma_mean + self.log_sigma_std * step.random.randn()).exp()  # (B,)
        sigmas = self.sigmas.to(drawn.device)
        t = torch.searchsorted(sigmas, drawn).clamp(max=len(sigmas) - 1)
        lower = self.ratio * sigmas[t]
        r = torch.minimum(torch.searchsorted(sigmas, lower, right=True) - 1, t - 1)
        return t, torch.where(lower < self.sigma_min, -1, r)

    def guided_x_0(self, x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Returns the teacher's x_0, extrapolated from that of the null class (Ho & Salimans 2022, arXiv 2207.12598,
        Eq. 6, where `guidance_scale` is 1 + w)."""
        x_0 = self.predict_x_0("teacher", x_t, t, labels)
        if self.guidance_scale == 1 or labels is None:
            return x_0
        null_class = torch.full_like(labels, self.num_class_embeds - 1)
        unconditional = self.predict_x_0("teacher", x_t, t, null_class)
        return unconditional + self.guidance_scale * (x_0 - unconditional)

    def predict_x_0(self, name: str, x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Returns the x_0 that the module `name` predicts at x_t, float (B, C, H, W)."""
        inputs = {} if labels is None else {"class_labels": labels}
        prediction = self.modules[name](sample=x_t, timestep=t, **inputs).sample.float()
        alpha, sigma = signal_and_noise(self.alphas_cumprod, t, x_t)
        return predicted_x_0(prediction, x_t, alpha, sigma, self.prediction_type)
