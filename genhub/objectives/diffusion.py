"""The training objective of denoising diffusion (Ho et al. 2020, arXiv 2006.11239, Sec. 3.4, Algorithm 1)."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers import ModelMixin

from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step

LOSSES = {"huber": F.huber_loss, "mse": F.mse_loss}
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


class NoiseScheduler(Protocol):
    """The part of a scheduler, such as `DDPMScheduler`, that adds noise in training."""

    @property
    def config(self) -> Mapping[str, Any]: ...

    def __len__(self) -> int: ...

    def add_noise(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, /
    ) -> torch.Tensor: ...

    def get_velocity(self, sample: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, /) -> torch.Tensor: ...


class NoisePrediction(Objective):
    """Predicts the noise, or the target of the scheduler's `prediction_type`, at a random noise level.

    Args:
        unet: any network called by the keywords `sample`, `timestep` and, if its config has `num_class_embeds`,
            `class_labels`; returns `sample`. One class embedding more than the data set has classes is the null
            class, the last one.
        loss: "huber" (delta = 1, as in the book) or "mse" (Ho et al. 2020, Eq. 14).
        label_dropout: probability of replacing a label by the null class (Ho & Salimans 2022, arXiv 2207.12598,
            Algorithm 1).
    """

    def __init__(self, unet: ModelMixin, scheduler: NoiseScheduler, loss: str = "huber", label_dropout: float = 0.0):
        if loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {', '.join(LOSSES)}, got {loss!r}.")
        if not 0 <= label_dropout < 1:
            raise ValueError(f"`label_dropout` must lie in [0, 1), got {label_dropout}.")
        prediction_type = scheduler.config.get("prediction_type")
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"`scheduler.prediction_type` must be one of {', '.join(PREDICTION_TYPES)}, got {prediction_type!r}."
            )
        self.num_class_embeds = unet.config.get("num_class_embeds")
        if label_dropout and not self.num_class_embeds:
            raise ValueError("`label_dropout` must be 0 for a network without `num_class_embeds`.")
        self.modules = {"unet": unet}
        self.phases = (Phase("unet", self.denoising_loss),)
        self.scheduler, self.prediction_type = scheduler, prediction_type
        self.loss, self.label_dropout = LOSSES[loss], label_dropout

    def check_labels(self, images) -> None:
        """Compares the network's classes with the labels, and requires a null class for `label_dropout`.

        Raises:
            ValueError: the network does not know all classes, or has no null class to drop labels to.
        """
        super().check_labels(images)
        num_classes = images.shape.num_classes
        if self.label_dropout and (num_classes is None or self.num_class_embeds != num_classes + 1):
            raise ValueError(
                "`components.unet.num_class_embeds` must be one more than the number of classes with "
                f"`label_dropout`, for the null class, got {self.num_class_embeds} and {num_classes} classes."
            )

    def denoising_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns L_simple (Ho et al. 2020, Eq. 14) with the chosen distance and target."""
        x_0 = batch["sample"]  # (B, C, H, W)
        timesteps = step.random.randint(len(self.scheduler))  # (B,)
        eps = step.random.randn(*x_0.shape[1:])
        x_t = self.scheduler.add_noise(x_0, eps, timesteps)

        inputs = {"class_labels": self.drop_labels(batch["labels"], step)} if self.num_class_embeds else {}
        prediction = self.modules["unet"](sample=x_t, timestep=timesteps, **inputs).sample

        return {"loss": self.loss(prediction.float(), self.target(x_0, eps, timesteps))}

    def target(self, x_0: torch.Tensor, eps: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Returns the correct prediction: eps, x_0 or the velocity (Salimans & Ho 2022, arXiv 2202.00512, Sec. 4)."""
        if self.prediction_type == "epsilon":
            return eps
        if self.prediction_type == "sample":
            return x_0
        return self.scheduler.get_velocity(x_0, eps, timesteps)

    def drop_labels(self, labels: torch.Tensor, step: Step) -> torch.Tensor:
        """Replaces labels (B,) by the null class with probability `label_dropout`."""
        if not self.label_dropout:
            return labels
        null_class = self.num_class_embeds - 1
        return torch.where(step.random.rand() < self.label_dropout, null_class, labels)
