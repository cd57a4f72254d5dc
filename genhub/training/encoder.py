"""The encoder of latent diffusion: its latents, brought to mean 0 and variance 1, and what identifies it."""

from dataclasses import replace
from typing import Any

import torch

from genhub.data import Latents
from genhub.data.latents import Encoder
from genhub.utils.cache import content_hash


def encoder_of(model: Any) -> Encoder:
    """Returns the function that maps images in [-1, 1] to the latents of an autoencoder, (z - shift) scaling, and
    puts `model` into evaluation mode.

    Args:
        model: its `encode` returns a `latent_dist`, as diffusers' `AutoencoderKL`, the mean and logarithmic variance
            of z, as our VAEs, or z, as our autoencoders; a vector z, (B, L), becomes (B, L, 1, 1). Its config may have
            a `shift_factor`, 0 if it is None, and a `scaling_factor`, 1 if it is None.
    """
    model.eval()
    shift, scaling = _shift_and_scaling(model)

    def encode(sample: torch.Tensor) -> torch.Tensor:
        encoded = model.encode(sample.to(model.device, model.dtype))
        if isinstance(encoded, torch.Tensor):
            z = encoded
        elif isinstance(encoded, tuple):
            z, _ = encoded
        else:
            z = encoded.latent_dist.mode()
        z = z[:, :, None, None] if z.ndim == 2 else z
        return (z.float() - shift) * scaling

    return encode


@torch.no_grad()
def standardise(model: Any, latents: Latents) -> Latents:
    """Returns latents with channels of mean 0 and variance 1 over all, as `model`, the `AutoencoderKL` that made them,
    does from now on (Rombach et al. 2022, App. G).

    The scaling goes into its config. The shift goes into the biases of the 1 x 1 convolutions before and after the
    latents: Stable Diffusion's pipelines do not read a `shift_factor`.

    Args:
        model: one that `check_standardisable` takes.
    """
    old_shift, old_scaling = _shift_and_scaling(model)
    mean = latents.latents.mean((0, 2, 3))  # (C,)
    standardised = latents.latents - mean[:, None, None]
    std = standardised.std(correction=0)
    shift = (old_shift + mean / old_scaling).to(model.device, model.dtype)
    model.quant_conv.bias[: len(shift)] -= shift
    model.post_quant_conv.bias += model.post_quant_conv.weight[:, :, 0, 0] @ shift
    model.register_to_config(shift_factor=None, scaling_factor=old_scaling / std.item())
    return replace(latents, latents=standardised / std)


def check_standardisable(model: Any) -> None:
    """Requires what `standardise` changes.

    Raises:
        ValueError: `model` is no `AutoencoderKL`, or lacks the convolutions before and after its latents.
    """
    if not (model.config.get("use_quant_conv") and model.config.get("use_post_quant_conv")):
        raise ValueError(
            "`data.standardise` must be left out: the encoder is no `AutoencoderKL` with `use_quant_conv` and "
            "`use_post_quant_conv`, whose biases shift latents."
        )


def encoder_key(model: Any) -> str:
    """Returns a hash of a model's class, config and weights."""
    config = {name: value for name, value in model.config.items() if not name.startswith("_")}
    state = model.state_dict()
    tensors = [part for name in sorted(state) for part in (name, state[name])]
    return content_hash(type(model).__name__, repr(sorted(config.items())), *tensors)


def _shift_and_scaling(model: Any) -> tuple[float, float]:
    """Returns the factors of latents in a model's config, 0 and 1 if it has none."""
    return model.config.get("shift_factor") or 0.0, model.config.get("scaling_factor") or 1.0
