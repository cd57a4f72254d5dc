"""Latents of images, and what is lost in them, which bounds what is generated in them."""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from torch import nn

from genhub.data import Images
from genhub.evaluation.protocol import to_bytes
from genhub.repository.capabilities import is_conditional


def find_autoencoder(parts: Iterable[Any]) -> nn.Module | None:
    """Returns the autoencoder among the parts of a pipeline, one of the class that Stable Diffusion has."""
    return next((part for part in parts if isinstance(part, nn.Module) and _is_autoencoder(part)), None)


def _is_autoencoder(part: nn.Module) -> bool:
    config = getattr(part, "config", None)
    return isinstance(config, dict) and {"latent_channels", "use_quant_conv"} <= config.keys()


def reconstruct_by(autoencoder: nn.Module, images: Images, padding: int = 0, batch_size: int = 250) -> torch.Tensor:
    """Returns what an autoencoder makes of the modes of the posteriors of images, uint8 (N, C, H, W).

    Args:
        padding: black pixels that are put around the images, and cut off again.
    """
    model, copies = cast(Any, autoencoder), []
    shape = images.shape
    for start in range(0, len(images), batch_size):
        sample = images.sample(slice(start, start + batch_size)).to(model.device, model.dtype)
        with torch.no_grad():
            latents = model.encode(F.pad(sample, (padding,) * 4, value=-1)).latent_dist.mode()
            copy = F.pad(model.decode(latents).sample, (-padding,) * 4)
        copies.append(
            to_bytes((copy.float().cpu() / 2 + 0.5).clamp(0, 1), (shape.channels, shape.height, shape.width))
        )
    return torch.cat(copies)


def compute_codes(
    pipeline: DiffusionPipeline, images: Images, batch_size: int = 250, padding: int = 0
) -> torch.Tensor:
    """Returns the codes of `images` with `padding` black pixels around them, (N, L)."""
    has_classes = is_conditional(pipeline)
    codes = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        sample = F.pad((batch.sample(slice(None)) + 1) / 2, (padding,) * 4)
        arguments = {"class_labels": batch.labels} if has_classes else {}
        codes.append(pipeline.encode(sample, **arguments).flatten(1).float().cpu())
    return torch.cat(codes)
