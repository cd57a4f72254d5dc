"""The training objective of denoising diffusion (Ho et al. 2020, arXiv 2006.11239, Sec. 3.4, Algorithm 1)."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers import ModelMixin

from genhub.objectives.noising import PREDICTION_TYPES, signal_and_noise, target
from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step

LOSSES = {"huber": F.huber_loss, "mse": F.mse_loss, "mae": F.l1_loss}
TIMESTEPS = ("uniform", "stratified")


class NoiseSchedule(Protocol):
    """The part of a scheduler, of any class that samples from alpha_bar_1..alpha_bar_T, that training needs."""

    alphas_cumprod: torch.Tensor  # (T,)

    @property
    def config(self) -> Mapping[str, Any]: ...


class NoisePrediction(Objective):
    """Predicts the noise, or the target of the scheduler's `prediction_type`, at a random noise level.

    Args:
        unet: any network called by the keywords `sample`, `timestep` and, if its config has `num_class_embeds`,
            `class_labels`; returns `sample`. One class embedding more than the data set has classes is the null
            class, the last one.
        loss: "huber" (delta = 1, as in the book), "mse" (Ho et al. 2020, Eq. 14) or "mae".
        timesteps: "uniform", drawn one by one, or "stratified", one in each of B equal parts of 0..T-1, so that every
            batch meets all noise levels (Kingma et al. 2021, arXiv 2107.00630, App. I.1).
        label_dropout: probability of replacing a label by the null class (Ho & Salimans 2022, arXiv 2207.12598,
            Algorithm 1), for a network that knows classes.
    """

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: NoiseSchedule,
        loss: str = "huber",
        timesteps: str = "uniform",
        label_dropout: float = 0.0,
    ):
        for name, value, known in (("loss", loss, LOSSES), ("timesteps", timesteps, TIMESTEPS)):
            if value not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {value!r}.")
        if not 0 <= label_dropout < 1:
            raise ValueError(f"`label_dropout` must lie in [0, 1), got {label_dropout}.")
        prediction_type = scheduler.config.get("prediction_type")
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"`scheduler.prediction_type` must be one of {', '.join(PREDICTION_TYPES)}, got {prediction_type!r}."
            )
        self.num_class_embeds = unet.config.get("num_class_embeds")
        self.modules = {"unet": unet}
        self.phases = (Phase("unet", self.denoising_loss),)
        self.alphas_cumprod, self.prediction_type = scheduler.alphas_cumprod, prediction_type
        self.loss, self.timesteps, self.label_dropout = LOSSES[loss], timesteps, label_dropout

    def check_labels(self, images) -> None:
        """Compares the network's classes with the labels, and requires a null class for `label_dropout`.

        Raises:
            ValueError: the network does not know all classes, or has no null class to drop labels to.
        """
        super().check_labels(images)
        self.check_null_class("label_dropout", bool(self.label_dropout), images.shape.num_classes)

    def check_null_class(self, argument: str, is_needed: bool, num_classes: int | None) -> None:
        """Raises ValueError if the network knows classes but no null class, and an argument needs one."""
        embeds = self.num_class_embeds
        if is_needed and embeds and (num_classes is None or embeds != num_classes + 1):
            raise ValueError(
                "`components.unet.num_class_embeds` must be one more than the number of classes with "
                f"`{argument}`, for the null class, got {embeds} and {num_classes} classes."
            )

    def denoising_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns L_simple (Ho et al. 2020, Eq. 14) with the chosen distance and target."""
        x_0 = batch["sample"]  # (B, C, H, W)
        timesteps, eps = self.draw_timesteps(step), self.draw_noise(x_0, step)  # (B,), (B, C, H, W)
        alpha, sigma = signal_and_noise(self.alphas_cumprod, timesteps, like=x_0)
        prediction = self.predict(alpha * x_0 + sigma * eps, timesteps, batch, step)
        return {"loss": self.loss(prediction, target(x_0, eps, alpha, sigma, self.prediction_type))}

    def predict(self, x_t: torch.Tensor, timesteps: torch.Tensor, batch: Batch, step: Step) -> torch.Tensor:
        """Returns the network's prediction (B, C, H, W), with labels dropped at random."""
        inputs = {"class_labels": self.drop_labels(batch["labels"], step)} if self.num_class_embeds else {}
        return self.modules["unet"](sample=x_t, timestep=timesteps, **inputs).sample.float()

    def draw_timesteps(self, step: Step) -> torch.Tensor:
        """Returns a timestep in 0..T-1 for each image, (B,)."""
        count = len(self.alphas_cumprod)
        timesteps = step.random.randint(count)
        if self.timesteps == "stratified":  # in integers: rounded up, the last part's would be T
            timesteps = (step.random.permutation() * count + timesteps) // step.random.total
        return timesteps

    def draw_noise(self, x_0: torch.Tensor, step: Step) -> torch.Tensor:
        """Returns eps, shaped like x_0."""
        return step.random.randn(*x_0.shape[1:])

    def drop_labels(self, labels: torch.Tensor, step: Step) -> torch.Tensor:
        """Replaces labels (B,) by the null class with probability `label_dropout`."""
        if not self.label_dropout:
            return labels
        null_class = self.num_class_embeds - 1
        return torch.where(step.random.rand() < self.label_dropout, null_class, labels)
