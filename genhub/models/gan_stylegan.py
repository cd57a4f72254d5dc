"""The style-based generator (Karras et al. 2018, arXiv 1812.04948; Géron, *Hands-On Machine Learning*, 3rd ed., ch.
17, StyleGANs), at the size of small images. It is trained against `ProgressiveDiscriminator`, and grows with it.

A mapping network turns latents into a style w. The synthesis network starts from a learned constant; each layer adds
noise of its own, and takes its scale and shift from w (adaptive instance normalisation, Eq. 1). Departures from the
paper: fewer channels and levels, nearest-neighbour upsampling without a blur, and a final tanh, without which instance
normalisation would give black another value in every image.
"""

import itertools
import math
from collections.abc import Sized
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


@dataclass
class StyleGANGeneratorOutput(BaseOutput):
    """Output of `StyleGANGenerator`.

    Args:
        sample: (B, C, H, W) in [-1, 1].
    """

    sample: torch.Tensor


class StyleGANGenerator(ModelMixin, ConfigMixin):
    """Maps latents (B, L) to styles (B, L), and these to images (B, C, H, W) in [-1, 1].

    Args:
        block_out_channels: channels of each level, from the smallest, `base_size` pixels wide; a level has two layers,
            each with a style of its own.
        latent_channels: L, of latents and styles; latents are standard normal, and normalised. After 8 layers of
            random weights, styles vary in about L / 8 directions, and the mapping hardly learns in a short training.
        num_mapping_layers: number of layers of the mapping network, which learn `mapping_rate` times as fast (Sec. C).
        style_decay: of the running mean of styles, for truncation (App. B).
        level: level of the images, from 0; None for the last one. `grow` changes it.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ("StyledLayer",)
    _supports_group_offloading = False  # its hooks see `forward`, not `map` and `synthesize`
    has_normalized_latents = True
    not_averaged = ("alpha",)

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        out_channels: int = 1,
        block_out_channels: tuple[int, ...] = (64, 64, 32, 16),
        latent_channels: int = 256,
        num_mapping_layers: int = 8,
        mapping_rate: float = 0.01,
        style_decay: float = 0.995,
        base_size: int = 4,
        level: int | None = None,
    ):
        super().__init__()
        self.margin = compute_margin(sample_size, block_out_channels, base_size)
        if base_size < 2:  # instance normalisation needs more than one pixel
            raise ValueError(f"`base_size` must be at least 2, got {base_size}.")
        for name, count in (("latent_channels", latent_channels), ("num_mapping_layers", num_mapping_layers)):
            if count < 1:
                raise ValueError(f"`{name}` must be at least 1, got {count}.")
        if not (mapping_rate > 0 and 0 <= style_decay < 1):
            raise ValueError(
                f"`mapping_rate` must be above 0 and `style_decay` in [0, 1), got {mapping_rate} and {style_decay}."
            )
        self.mapping = nn.ModuleList(
            EqualizedLinear(latent_channels, latent_channels, rate=mapping_rate) for _ in range(num_mapping_layers)
        )
        first, pairs = block_out_channels[0], itertools.pairwise(block_out_channels)
        self.constant = nn.Parameter(torch.ones(1, first, base_size, base_size))
        convolutions = [[None, (first, first)], *([(a, b), (b, b)] for a, b in pairs)]
        self.blocks = nn.ModuleList(
            nn.ModuleList(StyledLayer(c, latent_channels, widths) for widths in pair)
            for c, pair in zip(block_out_channels, convolutions, strict=True)
        )
        self.to_image = nn.ModuleList(EqualizedConv2d(c, out_channels, 1, gain=1.0) for c in block_out_channels)
        self.num_layers = 2 * len(block_out_channels)
        self.noise_sizes = [(base_size * 2**depth) ** 2 for depth in range(len(block_out_channels)) for _ in range(2)]
        self.noise_size = sum(self.noise_sizes)
        self.register_buffer("mean_style", torch.zeros(latent_channels))
        self.register_buffer("alpha", torch.ones(()))  # weight of the newest level in the image
        self.grow(len(block_out_channels) - 1 if level is None else level)

    # Same as genhub.models.gan_progressive.ProgressiveGenerator.grow
    def grow(self, level: int):
        """Sets the level of the images.

        Raises:
            ValueError: the network has no such level.
        """
        self.level = check_level(level, self.blocks)
        self.register_to_config(level=level)

    @property
    def trainable_submodules(self) -> tuple[str, ...]:
        """The parts that this level uses while it fades in."""
        blocks = [f"blocks.{depth}" for depth in range(self.level + 1)]
        outputs = [f"to_image.{depth}" for depth in range(max(self.level - 1, 0), self.level + 1)]
        return ("mapping", "constant", *blocks, *outputs)

    @property
    def layers_in_use(self) -> int:
        """The number of layers that this level uses, of `num_layers`."""
        return 2 * (self.level + 1)

    @apply_forward_hook
    def map(self, latents: torch.Tensor) -> torch.Tensor:
        """Maps latents to styles w, both (B, L)."""
        style = pixel_norm(latents)
        for layer in self.mapping:
            style = F.leaky_relu(layer(style), 0.2)
        return style

    @apply_forward_hook
    def synthesize(
        self, styles: torch.Tensor, noise: torch.Tensor | None = None, alpha: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Generates images (B, C, H, W) from `styles` (B, `num_layers`, L), one per layer.

        Args:
            noise: (B, `noise_size`), standard normal; None for no noise.
            alpha: weight (B,) or (1,) in [0, 1] of the newest level; None for that of the last training step.
        """
        alpha = resolve_alpha(self, alpha)
        noises = [None] * self.num_layers if noise is None else noise.split(self.noise_sizes, 1)
        sample = self.constant.expand(styles.shape[0], -1, -1, -1)  # (B, C0, 4, 4)
        for depth in range(self.level + 1):
            before = sample
            sample = sample if depth == 0 else upsample(sample, 2)
            for index, layer in enumerate(cast("nn.ModuleList", self.blocks[depth]), start=2 * depth):
                sample = layer(sample, styles[:, index], noises[index])
        image = torch.tanh(self.to_image[self.level](sample))
        if self.level:
            coarse = torch.tanh(self.to_image[self.level - 1](before))
            image = torch.lerp(upsample(coarse, 2), image, alpha.to(image.dtype))
        image = upsample(image, 2 ** (len(self.blocks) - 1 - self.level))
        top, left = self.margin
        return image[:, :, top : image.shape[2] - top, left : image.shape[3] - left]

    def forward(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor | None = None,
        mixing_latents: torch.Tensor | None = None,
        mixing_layer: torch.Tensor | None = None,
        alpha: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> StyleGANGeneratorOutput | tuple:
        """Generates images from `latents`.

        Args:
            noise: (B, `noise_size`), standard normal; None for no noise.
            mixing_latents: (B, L), source of the styles of the layers from `mixing_layer` (B,) on (Sec. 3.1).
            alpha: weight (B,) or (1,) in [0, 1] of the newest level; None for that of the last training step.
        """
        style = self.map(latents)
        if self.training:
            with torch.no_grad():
                self.mean_style.lerp_(style.mean(0).to(self.mean_style.dtype), 1 - self.config["style_decay"])
        styles = style[:, None].expand(-1, self.num_layers, -1)  # (B, layers, L)
        if mixing_latents is not None:
            other = self.map(mixing_latents)[:, None]
            is_other = (
                torch.arange(self.num_layers, device=latents.device) >= cast("torch.Tensor", mixing_layer)[:, None]
            )  # (B, layers)
            styles = torch.where(is_other[:, :, None], other, styles)
        sample = self.synthesize(styles, noise, alpha)
        return StyleGANGeneratorOutput(sample) if return_dict else (sample,)


class StyledLayer(nn.Module):
    """A convolution (none in the first layer), noise, a leaky ReLU, and adaptive instance normalisation (Fig. 1b)."""

    def __init__(self, channels: int, style_channels: int, widths: tuple[int, int] | None):
        super().__init__()
        self.convolution = nn.Identity() if widths is None else EqualizedConv2d(*widths, 3, has_bias=False)
        self.noise_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.to_style = EqualizedLinear(style_channels, 2 * channels, gain=1.0)
        with torch.no_grad():
            self.to_style.bias[:channels] = 1.0

    def forward(self, sample: torch.Tensor, style: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        sample = self.convolution(sample)
        if noise is not None:
            sample = sample + self.noise_scale * noise.view(-1, 1, *sample.shape[2:])
        sample = F.leaky_relu(sample + self.bias, 0.2)
        scale, shift = self.to_style(style)[:, :, None, None].chunk(2, 1)  # y_s and y_b, (B, C, 1, 1)
        return scale * F.instance_norm(sample, eps=1e-5) + shift  # Eq. 1


class EqualizedConv2d(nn.Conv2d):
    """A convolution with padding whose weights are drawn from N(0, 1) and scaled at run time (Karras et al. 2017, Sec.
    4.1)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, gain: float = math.sqrt(2), has_bias: bool = True
    ):
        super().__init__(in_channels, out_channels, kernel_size, padding="same", bias=has_bias)
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)

    def reset_parameters(self):
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return F.conv2d(sample, self.weight * self.scale, self.bias, padding=self.padding)


class EqualizedLinear(nn.Linear):
    """A linear layer whose weights are drawn from N(0, 1) / rate and scaled at run time, so that it learns `rate`
    times as fast (Karras et al. 2017, Sec. 4.1; StyleGAN, Sec. C)."""

    def __init__(self, in_features: int, out_features: int, gain: float = math.sqrt(2), rate: float = 1.0):
        super().__init__(in_features, out_features)
        self.weight.data.div_(rate)
        self.scale, self.rate = rate * gain / math.sqrt(in_features), rate

    def reset_parameters(self):
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return F.linear(sample, self.weight * self.scale, self.bias * self.rate)


# Same as genhub.models.gan_progressive.pixel_norm
def pixel_norm(sample: torch.Tensor) -> torch.Tensor:
    """Scales the vector of channels (B, C, ...) of each pixel to length sqrt(C) (Sec. 4.2)."""
    return sample * (sample.square().mean(1, keepdim=True) + 1e-8).rsqrt()


# Same as genhub.models.gan_progressive.upsample
def upsample(sample: torch.Tensor, factor: int) -> torch.Tensor:
    """Repeats each pixel `factor` times in both directions."""
    return sample if factor == 1 else F.interpolate(sample, scale_factor=float(factor), mode="nearest")


# Same as genhub.models.gan_progressive.resolve_alpha
def resolve_alpha(module: ModelMixin, alpha: torch.Tensor | None) -> torch.Tensor:
    """Returns alpha, or the stored one for None, as (B or 1, 1, 1, 1); training stores its mean."""
    if alpha is None:
        return module.alpha.view(1, 1, 1, 1)
    if module.training:
        with torch.no_grad():
            module.alpha.copy_(alpha.mean())
    return alpha.view(-1, 1, 1, 1)


# Same as genhub.models.gan_progressive.compute_margin
def compute_margin(
    sample_size: int | tuple[int, int], block_out_channels: tuple[int, ...], base_size: int
) -> list[int]:
    """Returns the number of rows and columns of the full-size image that are cropped at each side.

    Raises:
        ValueError: the levels do not grow to that size.
    """
    if not block_out_channels or min(*block_out_channels, base_size) < 1:
        raise ValueError(
            f"`block_out_channels` and `base_size` must be at least 1, got {block_out_channels} and {base_size}."
        )
    grown = base_size * 2 ** (len(block_out_channels) - 1)
    sizes = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    if not all(grown / 2 < size <= grown and (grown - size) % 2 == 0 for size in sizes):
        raise ValueError(
            f"`sample_size` must be even, above {grown // 2} and at most {grown}, to which {len(block_out_channels)} "
            f"levels grow from {base_size}, got {sample_size}."
        )
    return [(grown - size) // 2 for size in sizes]


# Same as genhub.models.gan_progressive.check_level
def check_level(level: int, blocks: Sized) -> int:
    """Returns `level` if the network has it."""
    if not 0 <= level < len(blocks):
        raise ValueError(f"`level` must lie in 0..{len(blocks) - 1}, got {level}.")
    return level
