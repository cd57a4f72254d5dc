"""The style-based generator (Karras et al. 2018, arXiv 1812.04948; Géron, *Hands-On Machine Learning*, 3rd ed., ch.
17, StyleGANs), at the size of small images. Its opponent is `ProgressiveDiscriminator`, with which it grows.

A mapping network turns latents into a style w; each layer of the synthesis network takes its scale and shift from w
(adaptive instance normalisation, Eq. 1), noise of its own, and starts from a learned constant. Departures from the
paper: fewer channels and levels, pixels doubled by repeating them, no blur after it, and a tanh at the end, by which
black is as black in all images, although each layer scales each image by its own deviation.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


@dataclass
class StyleGANGeneratorOutput(BaseOutput):
    """Args:
    sample: (B, C, H, W) in [-1, 1].
    """

    sample: torch.Tensor


class StyleGANGenerator(ModelMixin, ConfigMixin):
    """Maps latents (B, L) to images (B, C, H, W) in [-1, 1], by way of styles (B, L).

    Args:
        block_out_channels: channels of each level's maps, from the smallest, `base_size` pixels wide; a level has two
            layers, each with a style of its own.
        latent_channels: L, of latents and of styles; latents are standard normal, and normalised. Through 8 layers of
            random weights, about L / 8 directions of styles vary, and the mapping hardly learns in a short training.
        num_mapping_layers: layers of the mapping network, which learn `mapping_rate` times as fast (Sec. C).
        style_decay: of the running mean of styles, which truncation pulls to (App. B).
        level: the level that images come from, from 0; None for the last one. `grow` sets it.
    """

    _supports_gradient_checkpointing = False
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
        self.margin = margin_of(sample_size, block_out_channels, base_size)
        counts = {"latent_channels": (latent_channels, 1), "num_mapping_layers": (num_mapping_layers, 1)}
        counts |= {"base_size": (base_size, 2)}  # a map of one pixel cannot be normalised
        for name, (count, least) in counts.items():
            if count < least:
                raise ValueError(f"`{name}` must be at least {least}, got {count}.")
        if not (mapping_rate > 0 and 0 <= style_decay < 1):
            raise ValueError(
                f"`mapping_rate` must be above 0 and `style_decay` in [0, 1), got {mapping_rate} and {style_decay}."
            )
        self.mapping = nn.ModuleList(
            EqualizedLinear(latent_channels, latent_channels, rate=mapping_rate) for _ in range(num_mapping_layers)
        )
        first, pairs = block_out_channels[0], zip(block_out_channels, block_out_channels[1:], strict=False)
        self.constant = nn.Parameter(torch.ones(1, first, base_size, base_size))
        convolutions = [[None, (first, first)], *([(a, b), (b, b)] for a, b in pairs)]
        self.blocks = nn.ModuleList(
            nn.ModuleList(StyledLayer(c, latent_channels, widths) for widths in two)
            for c, two in zip(block_out_channels, convolutions, strict=True)
        )
        self.to_image = nn.ModuleList(EqualizedConv2d(c, out_channels, 1, gain=1.0) for c in block_out_channels)
        self.num_layers = 2 * len(block_out_channels)
        sizes = [base_size * 2**depth for depth in range(len(block_out_channels)) for _ in range(2)]
        self.noise_sizes = [size**2 for size in sizes]
        self.num_noise = sum(self.noise_sizes)
        self.register_buffer("mean_style", torch.zeros(latent_channels))
        self.register_buffer("alpha", torch.ones(()))  # the newest level's share in the image
        self.grow(len(block_out_channels) - 1 if level is None else level)

    # Same as genhub.models.gan_progressive.ProgressiveGenerator.grow
    def grow(self, level: int):
        """Makes `level` the one that images come from.

        Raises:
            ValueError: the network has no such level.
        """
        self.level = level_of(level, self.blocks)
        self.register_to_config(level=level)

    @property
    def trainable_submodules(self) -> tuple[str, ...]:
        """The parts that images depend on, while the newest level fades in."""
        blocks = [f"blocks.{depth}" for depth in range(self.level + 1)]
        shown = [f"to_image.{depth}" for depth in range(max(self.level - 1, 0), self.level + 1)]
        return ("mapping", "constant", *blocks, *shown)

    @property
    def layers_in_use(self) -> int:
        """How many of the `num_layers` layers the images of this level depend on."""
        return 2 * (self.level + 1)

    @apply_forward_hook
    def map(self, latents: torch.Tensor) -> torch.Tensor:
        """Returns the styles w of `latents`, both (B, L)."""
        style = pixel_norm(latents)
        for layer in self.mapping:
            style = F.leaky_relu(layer(style), 0.2)
        return style

    @apply_forward_hook
    def synthesize(
        self, styles: torch.Tensor, noise: torch.Tensor | None = None, alpha: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the images (B, C, H, W) of `styles`, (B, `num_layers`, L): one for each layer.

        Args:
            noise: (B, `num_noise`), standard normal; None for none.
            alpha: share of the newest level, in [0, 1]; the last one that was trained with if None.
        """
        alpha = faded(self, alpha)
        noises = [None] * self.num_layers if noise is None else noise.split(self.noise_sizes, 1)
        sample = self.constant.expand(len(styles), -1, -1, -1)  # (B, C0, 4, 4)
        for depth in range(self.level + 1):
            before = sample
            sample = sample if depth == 0 else enlarged(sample, 2)
            for place, layer in enumerate(self.blocks[depth]):
                sample = layer(sample, styles[:, 2 * depth + place], noises[2 * depth + place])
        image = torch.tanh(self.to_image[self.level](sample))
        if self.level:
            coarse = torch.tanh(self.to_image[self.level - 1](before))
            image = torch.lerp(enlarged(coarse, 2), image, alpha.to(image.dtype))
        image = enlarged(image, 2 ** (len(self.blocks) - 1 - self.level))
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
        """Returns the images of `latents`.

        Args:
            noise: (B, `num_noise`), standard normal; None for none.
            mixing_latents: (B, L), whose styles the layers from `mixing_layer` (B,) on take (Sec. 3.1).
            alpha: share of the newest level, in [0, 1]; the last one that was trained with if None.
        """
        style = self.map(latents)
        if self.training:
            with torch.no_grad():
                self.mean_style.lerp_(style.mean(0).to(self.mean_style.dtype), 1 - self.config.style_decay)
        styles = style[:, None].expand(-1, self.num_layers, -1)  # (B, layers, L)
        if mixing_latents is not None:
            other = self.map(mixing_latents)[:, None]
            is_other = torch.arange(self.num_layers, device=latents.device) >= mixing_layer[:, None]  # (B, layers)
            styles = torch.where(is_other[:, :, None], other, styles)
        sample = self.synthesize(styles, noise, alpha)
        return StyleGANGeneratorOutput(sample) if return_dict else (sample,)


class StyledLayer(nn.Module):
    """A convolution, or none for a network's first layer; then noise, a ReLU that leaks, and a style (Fig. 1 b)."""

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


class EqualizedConv2d(nn.Module):
    """A convolution that keeps the size; weights are drawn from N(0, 1) and scaled at run time (Karras et al. 2017,
    Sec. 4.1)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, gain: float = math.sqrt(2), has_bias: bool = True
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if has_bias else None
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return F.conv2d(sample, self.weight * self.scale, self.bias, padding=self.weight.shape[2] // 2)


class EqualizedLinear(nn.Module):
    """A linear layer whose weights are drawn from N(0, 1) / rate and scaled at run time, so that it learns `rate`
    times as fast as others (Karras et al. 2017, Sec. 4.1; StyleGAN, Sec. C)."""

    def __init__(self, in_features: int, out_features: int, gain: float = math.sqrt(2), rate: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / rate)
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.scale, self.rate = rate * gain / math.sqrt(in_features), rate

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return F.linear(sample, self.weight * self.scale, self.bias * self.rate)


# Same as genhub.models.gan_progressive.pixel_norm
def pixel_norm(sample: torch.Tensor) -> torch.Tensor:
    """Scales the vector of channels (B, C, ...) at each place to length sqrt(C) (Sec. 4.2)."""
    return sample * (sample.square().mean(1, keepdim=True) + 1e-8).rsqrt()


# Same as genhub.models.gan_progressive.enlarged
def enlarged(sample: torch.Tensor, factor: int) -> torch.Tensor:
    """Repeats each pixel `factor` times in both directions."""
    return sample if factor == 1 else F.interpolate(sample, scale_factor=float(factor), mode="nearest")


# Same as genhub.models.gan_progressive.faded
def faded(module: nn.Module, alpha: torch.Tensor | None) -> torch.Tensor:
    """Returns alpha, (B or 1, 1, 1, 1), and keeps in training what it was."""
    if alpha is None:
        return module.alpha.view(1, 1, 1, 1)
    if module.training:
        with torch.no_grad():
            module.alpha.copy_(alpha.mean())
    return alpha.view(-1, 1, 1, 1)


# Same as genhub.models.gan_progressive.margin_of
def margin_of(sample_size: int | tuple[int, int], block_out_channels: tuple[int, ...], base_size: int) -> list[int]:
    """Returns how many rows and columns of the grown image are cut off at each side.

    Raises:
        ValueError: growth cannot reach that size.
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


# Same as genhub.models.gan_progressive.level_of
def level_of(level: int, blocks: nn.ModuleList) -> int:
    """Returns `level`, or refuses one that the network does not have."""
    if not 0 <= level < len(blocks):
        raise ValueError(f"`level` must lie in 0..{len(blocks) - 1}, got {level}.")
    return level
