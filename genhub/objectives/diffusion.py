"""The training objective of denoising diffusion (Ho et al. 2020, arXiv 2006.11239, Sec. 3.4, Algorithm 1)."""

import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin
from torch import nn

from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step

LOSSES = {"huber": F.huber_loss, "mse": F.mse_loss}


class NoisePrediction(Objective):
    """Predicts the noise, or what else `scheduler.config.prediction_type` names, at a random noise level.

    Args:
        unet: any network called as `unet(sample, timestep, class_labels)`; it is conditioned on the class where its
            config has `num_class_embeds`.
        loss: "huber" (delta = 1, the book's) or "mse" (Ho et al. 2020, Eq. 14).
        label_dropout: share of images whose class is replaced by "none", the last of `num_class_embeds`
            (Ho & Salimans 2022, arXiv 2207.12598, Algorithm 1).
    """

    def __init__(self, unet: nn.Module, scheduler: SchedulerMixin, loss: str = "huber", label_dropout: float = 0.0):
        if loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {', '.join(LOSSES)}, got {loss!r}.")
        if not 0 <= label_dropout < 1:
            raise ValueError(f"`label_dropout` must lie in [0, 1), got {label_dropout}.")
        self.num_class_embeds = unet.config.get("num_class_embeds")
        if label_dropout and not self.num_class_embeds:
            raise ValueError("`label_dropout` must be 0 for a network without `num_class_embeds`.")
        self.modules = {"unet": unet}
        self.phases = (Phase("unet", self.denoising_loss),)
        self.scheduler, self.loss, self.label_dropout = scheduler, LOSSES[loss], label_dropout

    def check(self, shape):
        """Refuses what `Objective.check` refuses, and a class that stands for "none" and for images too."""
        super().check(shape)
        classes = len(shape.class_names or ())
        if self.label_dropout and self.num_class_embeds <= classes:
            raise ValueError(
                f"`components.unet.num_class_embeds` must be {classes + 1} with `label_dropout`: {classes} classes "
                f"and one that stands for none, got {self.num_class_embeds}."
            )

    def denoising_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns L_simple (Ho et al. 2020, Eq. 14) with the chosen distance and target."""
        x_0 = batch["sample"]  # (B, C, H, W)
        timesteps = step.random.randint(len(self.scheduler))  # (B,)
        eps = step.random.randn(*x_0.shape[1:])
        x_t = self.scheduler.add_noise(x_0, eps, timesteps)

        prediction = self.modules["unet"](x_t, timesteps, self.classes(batch, step)).sample

        target = {
            "epsilon": lambda: eps,
            "sample": lambda: x_0,
            "v_prediction": lambda: self.velocity(x_0, eps, timesteps),
        }
        return {"loss": self.loss(prediction.float(), target[self.scheduler.config.prediction_type]())}

    def velocity(self, x_0: torch.Tensor, eps: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Returns the target of v-prediction."""
        return self.scheduler.get_velocity(x_0, eps, timesteps)

    def classes(self, batch: Batch, step: Step) -> torch.Tensor | None:
        """Returns the class of each image, some replaced by "none"; None for an unconditional network."""
        if not self.num_class_embeds:
            return None
        if not self.label_dropout:
            return batch["labels"]
        none = self.num_class_embeds - 1
        return torch.where(step.random.rand() < self.label_dropout, none, batch["labels"])
