"""Latents in memory: images that an encoder has seen once, in place of the images (Rombach et al. 2022, Sec. 3)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from genhub.data.images import Images, InMemory
from genhub.utils.cache import cached, content_hash

Encoder = Callable[[torch.Tensor], torch.Tensor]  # images (B, C, H, W) in [-1, 1] -> latents (B, L, h, w)


@dataclass
class Latents(InMemory):
    """Latents in memory: `latents` float32 (N, C, H, W), met as they are.

    Args:
        labels: int64 (N,).
        class_names: in the order of the labels.
        input_ids: int64 (N, T), the tokens of a text for each latent.
    """

    latents: torch.Tensor
    labels: torch.Tensor | None = None
    class_names: tuple[str, ...] | None = None
    input_ids: torch.Tensor | None = None

    def __post_init__(self):
        if self.latents.dtype != torch.float32 or self.latents.ndim != 4:
            got = f"{self.latents.dtype} {tuple(self.latents.shape)}"
            raise ValueError(f"`latents` must be float32 (N, C, H, W), got {got}.")

    def __len__(self) -> int:
        return len(self.latents)

    def sample(self, index: torch.Tensor | slice) -> torch.Tensor:
        return self.latents[index]


def encode_images(images: Images, encode: Encoder, key: str, batch_size: int = 250) -> Latents:
    """Encodes each image once; the latents are cached under `key` and the content of the images.

    Args:
        encode: maps images in [-1, 1] to latents (B, C, H, W), a function of each image alone.
        key: identifies `encode`, as `encoder_key` does.

    Raises:
        ValueError: the data set is not in memory, or the latents are not finite or not (B, C, H, W).
    """
    if not isinstance(images, Images):
        raise ValueError("`data.encode` must be left out of data that are decoded while training.")

    def compute() -> dict[str, torch.Tensor]:
        parts = []
        for start in range(0, len(images), batch_size):
            sample = images.sample(slice(start, start + batch_size))
            with torch.no_grad():
                latents = encode(sample).float().cpu()
            if latents.ndim != 4 or len(latents) != len(sample):
                raise ValueError(f"`encode` must give ({len(sample)}, C, H, W), got {tuple(latents.shape)}.")
            if not latents.isfinite().all():
                raise ValueError("`encode` must give finite latents, got nan or inf.")
            parts.append(latents)
        return {"latents": torch.cat(parts).contiguous()}

    latents = cached("latents", content_hash(key, repr(batch_size), images.images), compute)["latents"]
    return Latents(latents, images.labels, images.class_names, images.input_ids)


def encoder_of(model: Any) -> Encoder:
    """Returns the function that maps images in [-1, 1] to the latents of an autoencoder, (z - shift) scaling, and
    puts `model` into evaluation mode.

    Args:
        model: its `encode` returns a `latent_dist`, as diffusers' `AutoencoderKL`, the mean and logarithmic variance
            of z, as our VAEs, or z, as our autoencoders; a vector z, (B, L), becomes (B, L, 1, 1). Its config may have
            a `shift_factor`, 0 if it is None, and a `scaling_factor`, 1 if it is None.
    """
    model.eval()
    shift, scaling = model.config.get("shift_factor") or 0.0, model.config.get("scaling_factor") or 1.0

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
    config = model.config
    old_shift, old_scaling = config.get("shift_factor") or 0.0, config.get("scaling_factor") or 1.0
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
