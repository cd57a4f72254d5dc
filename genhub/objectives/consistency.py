"""Consistency tuning of a trained diffusion model (Geng et al. 2024, *Consistency Models Made Easy*, arXiv
2406.14548), for samples in one to four calls of the network.

Noise levels are sigma = sqrt((1 - alpha_bar) / alpha_bar) of x_t / alpha_t = x_0 + sigma_t eps.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from diffusers import ModelMixin

from genhub.objectives.diffusion import NoisePrediction, NoiseSchedule
from genhub.objectives.noising import predicted_x_0, signal_and_noise
from genhub.objectives.objective import Batch, Losses, Phase, Step


class ConsistencyTuning(NoisePrediction):
    """Makes the predicted x_0 of a diffusion network equal along each trajectory of the probability-flow ODE.

    The predicted x_0, f(x_t, t), is a consistency function as it is: without noise it is x_t (Song et al. 2023, arXiv
    2303.01469, Sec. 3). Its target is its own value, without gradient, at a lower noise level r. So the network keeps
    its class, its file and the meaning of its prediction, and `diffusers.LCMScheduler` samples it.

    Without a teacher, x_r has the image and the noise of x_t (Geng et al. 2024, Sec. 3). With one, a DDIM step along
    its guided prediction leads from x_t to x_r (Luo et al. 2023, arXiv 2310.04378, Eq. 14-15), and the tuned network
    needs no guidance. Departures from both: t and r are timesteps of the scheduler, r < t, or the clean image; and the
    clean image takes the place of an x_r of a lower noise level than `sigma_min`. It anchors the others: without it a
    short training at a high rate lets the predictions of low noise levels drift away, and with them all that follow.

    Args:
        unet: as in `NoisePrediction`; it starts from the weights of a diffusion model.
        scheduler: any one of diffusers with `alphas_cumprod` whose `prediction_type` is v_prediction or epsilon.
        teacher: frozen diffusion network of the same kind; None for none.
        guidance_scale: of the teacher; 1 is no guidance, and dropped labels have none.
        log_sigma_mean, log_sigma_std: of ln sigma_t, which is normal. The mean of the paper, -1.1, is for images of
            standard deviation 0.5; for one of 0.7 it is -0.75.
        q, stages: the gap between sigma_r and sigma_t shrinks by the factor q after each of `stages` equal parts of
            training.
        sigma_min: noise level below which an image counts as clean; 0 as in the paper.
        huber_constant: c of the distance sqrt(|d|^2 + c^2) - c between images (Song & Dhariwal 2023, arXiv
            2310.14189, Sec. 3.3).
        label_dropout: as in `NoisePrediction`.
    """

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: NoiseSchedule,
        teacher: ModelMixin | None = None,
        guidance_scale: float = 1.0,
        log_sigma_mean: float = -0.75,
        log_sigma_std: float = 2.0,
        q: float = 2.0,
        stages: int = 8,
        sigma_min: float = 0.0,
        huber_constant: float = 0.0,
        label_dropout: float = 0.0,
    ):
        super().__init__(unet, scheduler, label_dropout=label_dropout)
        if self.prediction_type == "sample":
            raise ValueError("`scheduler.prediction_type` must be v_prediction or epsilon, got 'sample'.")
        if log_sigma_std < 0:
            raise ValueError(f"`log_sigma_std` must be at least 0, got {log_sigma_std}.")
        if q <= 1:
            raise ValueError(f"`q` must be above 1, got {q}.")
        if stages < 1:
            raise ValueError(f"`stages` must be at least 1, got {stages}.")
        if sigma_min < 0:
            raise ValueError(f"`sigma_min` must be at least 0, got {sigma_min}.")
        if huber_constant < 0:
            raise ValueError(f"`huber_constant` must be at least 0, got {huber_constant}.")
        if guidance_scale != 1 and teacher is None:
            raise ValueError(f"`guidance_scale` must be 1 without a teacher, got {guidance_scale}.")
        if guidance_scale != 1 and not self.num_class_embeds:
            raise ValueError(f"`guidance_scale` must be 1 for a network without classes, got {guidance_scale}.")
        if teacher is not None:
            self.modules["teacher"] = teacher
        self.phases = (Phase("unet", self.consistency_loss),)
        self.guidance_scale, self.huber_constant = guidance_scale, huber_constant
        self.log_sigma_mean, self.log_sigma_std = log_sigma_mean, log_sigma_std
        self.q, self.stages, self.sigma_min = q, stages, sigma_min
        sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()
        self.sigmas = torch.cat([torch.zeros(1), sigmas])  # (T + 1,); that of timestep t at t + 1

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns the loss of the end of training, when r is nearest to t."""
        return self.consistency_loss(batch, replace(step, progress=1.0))

    def consistency_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the mean of |f(x_t, t) - f(x_r, r)| / (alpha_t (sigma_t - sigma_r)), without gradient through the
        second f. Departure from the paper: alpha_t, with which an error of v weighs alike at all noise levels."""
        x_0 = batch["sample"]  # (B, C, H, W)
        t, r, gap = self.draw_pairs(step)  # (B,) each
        eps = self.draw_noise(x_0, step)
        labels = self.drop_labels(batch["labels"], step) if self.num_class_embeds else None
        alpha, sigma = signal_and_noise(self.alphas_cumprod, t, x_0)
        x_t = alpha * x_0 + sigma * eps

        with torch.no_grad():
            clean = self.guided_x_0(x_t, t, labels) if "teacher" in self.modules else x_0
            eps = (x_t - alpha * clean) / sigma
            alpha, sigma = signal_and_noise(self.alphas_cumprod, r.clamp(min=0), x_0)
            earlier = self.predict_x_0("unet", alpha * clean + sigma * eps, r.clamp(min=0), labels)
            target = torch.where(r.view(-1, 1, 1, 1) < 0, clean, earlier)
        error = (self.predict_x_0("unet", x_t, t, labels) - target).flatten(1)  # (B, C H W)

        c = self.huber_constant  # as one more coordinate: a norm has a gradient at 0, a root has none
        distance = torch.linalg.vector_norm(F.pad(error, (0, 1), value=c), dim=1) - c  # (B,)
        return {"loss": (distance * (1 + self.sigmas.to(t.device)[t + 1] ** 2).sqrt() / gap).mean()}  # 1 / alpha_t

    def draw_pairs(self, step: Step) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draws t, and for it r < t and sigma_t - sigma_r, (B,) each; r = -1 is the clean image, of sigma 0."""
        drawn = (self.log_sigma_mean + self.log_sigma_std * step.random.randn()).exp()  # (B,)
        sigmas = self.sigmas.to(drawn.device)
        t = torch.searchsorted(sigmas[1:].contiguous(), drawn).clamp(max=len(sigmas) - 2)
        earlier = self.earlier_sigma(sigmas[t + 1], step.progress)
        r = torch.minimum(torch.searchsorted(sigmas, earlier, right=True) - 2, t - 1)
        return t, r, sigmas[t + 1] - sigmas[r + 1]

    def earlier_sigma(self, sigma: torch.Tensor, progress: float) -> torch.Tensor:
        """Returns sigma_r = sigma_t (1 - n(sigma_t) / q^(stage + 1)), n(sigma) = 1 + 8 sigmoid(-sigma), or 0 if that
        is negative or below `sigma_min`."""
        stage = min(int(self.stages * progress), self.stages - 1)
        n = 1 + 8 * torch.sigmoid(-sigma)
        earlier = sigma * (1 - n / self.q ** (stage + 1))
        return earlier * (earlier >= self.sigma_min)

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
