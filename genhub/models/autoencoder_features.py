"""A convolutional autoencoder for pretraining: its encoder is the body of `ImageClassifier`.

The body has the same layers and names (`body.0.0.weight`, ...): five times convolution, batch normalisation (Ioffe &
Szegedy 2015, arXiv 1502.03167), ReLU. A 1 x 1 convolution reduces its feature maps to the code, a few channels per
position. The decoder, two convolutions, maps the neighbourhood of a position to the patch of pixels at that position
(Shi et al. 2016, arXiv 1609.05158, Eq. 4); it is small, so that the body has to learn the representation.
Reconstruction alone would be easy; the task is to fill in masked patches (Vincent et al. 2008; He et al. 2021, arXiv
2111.06377).
"""

import math
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


@dataclass
class FeatureAutoencoderOutput(BaseOutput):
    """Reconstructions `sample` (B, C, H, W) and codes `latents` (B, L)."""

    sample: torch.Tensor
    latents: torch.Tensor | None = None  # accelerate needs the default under mixed precision


class FeatureAutoencoder(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to codes (B, L) and back.

    Args:
        block_out_channels: channels of the body's 3 x 3 convolutions.
        strides: their strides.
        latent_channels: L, length of the code over all positions: by default 8 for each of 7 x 7.
        decoder_channels: channels between the convolutions of the decoder.
        mean, std: of pixels in [0, 1], by which the images are normalised; Fashion MNIST's by default.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()
    _group_offload_block_modules = ("to_code",)

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        block_out_channels: tuple[int, ...] = (32, 64, 64, 128, 128),
        strides: tuple[int, ...] = (1, 2, 1, 2, 1),
        latent_channels: int = 392,
        decoder_channels: int = 64,
        mean: float = 0.2860,
        std: float = 0.3530,
    ):
        super().__init__()
        if not block_out_channels or len(block_out_channels) != len(strides):
            raise ValueError(
                "`block_out_channels` and `strides` must have one entry for each convolution, got "
                f"{len(block_out_channels)} and {len(strides)}."
            )
        if std <= 0:
            raise ValueError(f"`std` must be above 0, got {std}.")
        stride = math.prod(strides)
        self.map_size = map_size(sample_size, stride)
        channels, rest = divmod(latent_channels, math.prod(self.map_size))
        if rest or channels < 1:
            raise ValueError(
                f"`latent_channels` must be a multiple of the {math.prod(self.map_size)} positions of the map, got "
                f"{latent_channels}."
            )

        widths = (in_channels, *block_out_channels)
        self.body = nn.Sequential(
            *(convolution(before, after, s) for before, after, s in zip(widths, widths[1:], strides, strict=False))
        )
        self.to_code = nn.Conv2d(widths[-1], channels, 1)
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, decoder_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(decoder_channels, in_channels * stride**2, 1),
            nn.PixelShuffle(stride),
        )

    @apply_forward_hook
    def encode(self, sample: torch.Tensor) -> torch.Tensor:
        """Maps images (B, C, H, W) to codes (B, L)."""
        sample = ((sample + 1) / 2 - self.config["mean"]) / self.config["std"]
        maps = self.body(sample)  # (B, C, H, W) -> (B, K, H / 4, W / 4)
        return self.to_code(maps).flatten(1)  # (B, L)

    @apply_forward_hook
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Maps codes (B, L) to images (B, C, H, W)."""
        return self.decoder(latents.unflatten(1, (-1, *self.map_size)))

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> FeatureAutoencoderOutput | tuple:
        """Reconstructs `sample`."""
        latents = self.encode(sample)
        sample = self.decode(latents)
        return FeatureAutoencoderOutput(sample, latents) if return_dict else (sample, latents)


def map_size(sample_size: int | tuple[int, int], stride: int) -> tuple[int, int]:
    """Returns the size of the feature map of the body, whose strides multiply to `stride`."""
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    if height % stride or width % stride:
        raise ValueError(f"`sample_size` must be divisible by {stride}, the strides' product, got {sample_size}.")
    return height // stride, width // stride


# Same as genhub.models.classifier.convolution
def convolution(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Returns a 3 x 3 convolution with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
