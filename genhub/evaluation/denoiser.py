"""A diffusion pipeline as a denoiser: x_t at one of the T noise levels of its schedule -> predicted x_0.

Timesteps are diffusers' indices 0..T-1: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps.
"""

from collections.abc import Callable

import torch
from diffusers import DiffusionPipeline

from genhub.data import Images
from genhub.objectives.noising import predicted_x_0
from genhub.repository.capabilities import classes_of


class Denoiser:
    """Predicts x_0 from x_t.

    Args:
        unet: network called as `unet(x_t, timestep, class_labels=...)`.
        scheduler: any with `alphas_cumprod`; its config has the network's `prediction_type`.
    """

    def __init__(self, unet: Callable, scheduler):
        self.unet, self.prediction_type = unet, scheduler.config.get("prediction_type", "epsilon")
        self.alpha_bars = scheduler.alphas_cumprod.double().cpu()  # (T,)
        self.sigmas = (1 / self.alpha_bars - 1).sqrt()  # of x_t / sqrt(alpha_bar_t) = x_0 + sigma_t eps

    def __call__(self, x_t: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the predicted x_0, (B, C, H, W), at `timesteps`, () or (B,) (Salimans & Ho 2022, Sec. 4)."""
        dtype = getattr(self.unet, "dtype", x_t.dtype)
        classes = {} if labels is None else {"class_labels": labels}
        prediction = self.unet(x_t.to(dtype), timesteps.to(x_t.device), **classes).sample.to(x_t.dtype)
        alpha_bar = at(self.alpha_bars, timesteps, x_t)
        return predicted_x_0(prediction, x_t, alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), self.prediction_type)


def at(values: torch.Tensor, timesteps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Returns `values` (T,) at `timesteps`, () or (B,), in a form that multiplies `like` (B, C, H, W)."""
    return values[timesteps.cpu()].reshape(-1, 1, 1, 1).to(like)


def check_likelihood(pipeline: DiffusionPipeline, images: Images, count: int) -> None:
    """Raises ValueError if the likelihood of `count` of the images under the pipeline cannot be measured."""
    name, components = type(pipeline).__name__, pipeline.components
    if "unet" not in components or not hasattr(components.get("scheduler"), "alphas_cumprod"):
        raise ValueError(f"`likelihood` must be off: {name} has no `unet` with a scheduler that has `alphas_cumprod`.")
    if any(components.get(name) is not None for name in ("vae", "vqvae")):
        raise ValueError(f"`likelihood` must be off: {name} denoises latents, not pixels.")
    if not 2 <= count <= len(images):
        raise ValueError(f"`likelihood` must lie between 2 and the {len(images)} test images, got {count}.")
    config, shape = pipeline.unet.config, tuple(images.images.shape[1:])
    predicted = config.get("out_channels", config["in_channels"])
    if predicted != config["in_channels"]:
        raise ValueError(
            f"`likelihood` must be off: the network predicts {predicted} channels, with a learned variance."
        )
    size = config["sample_size"]
    expected = (config["in_channels"], *((size, size) if isinstance(size, int) else size))
    if shape != expected:
        raise ValueError(f"`likelihood` needs test images like the network's, (C, H, W) = {expected}, got {shape}.")
    num_classes, has_null_class = classes_of(pipeline)
    if num_classes is None or (images.labels is None and has_null_class):
        return
    if images.labels is None or int(images.labels.max()) >= num_classes:
        raise ValueError(f"`likelihood` needs test images with labels in 0..{num_classes - 1}, the network's classes.")
