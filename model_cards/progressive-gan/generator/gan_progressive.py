"""Progressive growing of GANs (Karras et al. 2017, arXiv 1710.10196; Géron, *Hands-On Machine Learning*, 3rd ed., ch.
17, Progressive Growing of GANs), at the size of small images: 4 x 4 -> 8 x 8 -> 16 x 16 -> 32 x 32.

Both networks see full-size images at every level, as in the authors' code. The generator upsamples its images and
crops their margin; the discriminator restores the margin by repeating the edge, and downsamples, which undoes the
former exactly while a level's pixels are larger than the margin. Where the book has slips, we follow the paper: normal
weights are *multiplied* by He's constant (Sec. 4.1), and the standard deviation over the minibatch is computed per
channel and pixel before it is averaged (Sec. 3).

Departures from the paper: fewer channels and levels; the margin, for sizes that are not 4 times a power of two.
"""

import itertools
import math
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import nn


@dataclass
class ProgressiveGeneratorOutput(BaseOutput):
    """Output of `ProgressiveGenerator`.

    Args:
        sample: (B, C, H, W) in [-1, 1] or slightly beyond, since the last layer is linear.
    """

    sample: torch.Tensor


@dataclass
class ProgressiveDiscriminatorOutput(BaseOutput):
    """Output of `ProgressiveDiscriminator`.

    Args:
        logits: (B,), above 0 for images that look real.
    """

    logits: torch.Tensor


class ProgressiveGenerator(ModelMixin, ConfigMixin):
    """Maps latents (B, L), normalised to length sqrt(L), to images (B, C, H, W) in [-1, 1].

    Args:
        block_out_channels: channels of each level, from the smallest, `base_size` pixels wide.
        latent_channels: L.
        level: level of the images, from 0; None for the last one. `grow` changes it.
        is_equalized: whether weights are scaled at run time (Sec. 4.1); else they are drawn so scaled.
        has_pixel_norm: whether features are normalised in each pixel (Sec. 4.2); latents always are.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()
    _supports_group_offloading = False  # its hooks see calls, and a block is not called
    not_averaged = ("alpha",)  # buffers that a moving average copies
    noise_size = 0  # the image depends on the latents only
    has_normalized_latents = True

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        out_channels: int = 1,
        block_out_channels: tuple[int, ...] = (64, 64, 32, 16),
        latent_channels: int = 64,
        base_size: int = 4,
        level: int | None = None,
        is_equalized: bool = True,
        has_pixel_norm: bool = True,
    ):
        super().__init__()
        self.margin = compute_margin(sample_size, block_out_channels, base_size)
        if latent_channels < 1:
            raise ValueError(f"`latent_channels` must be at least 1, got {latent_channels}.")
        first, pairs = block_out_channels[0], itertools.pairwise(block_out_channels)
        self.from_latents = EqualizedLinear(latent_channels, first * base_size**2)
        blocks = nn.ModuleList(
            [
                nn.ModuleList([EqualizedConv2d(first, first, 3)]),
                *(nn.ModuleList([EqualizedConv2d(a, b, 3), EqualizedConv2d(b, b, 3)]) for a, b in pairs),
            ]
        )
        self.blocks = cast("Sequence[nn.ModuleList]", blocks)
        self.to_image = nn.ModuleList(EqualizedConv2d(c, out_channels, 1, gain=1.0) for c in block_out_channels)
        if not is_equalized:
            scale_weights(self)
        self.register_buffer("alpha", torch.ones(()))  # weight of the newest level in the image
        self.grow(len(block_out_channels) - 1 if level is None else level)

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
        return ("from_latents", *blocks, *outputs)

    def forward(
        self, latents: torch.Tensor, alpha: torch.Tensor | None = None, return_dict: bool = True
    ) -> ProgressiveGeneratorOutput | tuple:
        """Generates images from `latents`.

        Args:
            alpha: weight (B,) or (1,) in [0, 1] of the newest level against the one below (Sec. 3, Fig. 2); None for
                that of the last training step.
        """
        alpha = resolve_alpha(self, alpha)
        size, normalize = self.config["base_size"], pixel_norm if self.config["has_pixel_norm"] else nn.Identity()
        sample = self.from_latents(pixel_norm(latents)).unflatten(1, (-1, size, size))  # (B, C0, 4, 4)
        sample = normalize(F.leaky_relu(sample, 0.2))
        for depth in range(self.level + 1):
            before = sample
            sample = sample if depth == 0 else upsample(sample, 2)
            for layer in self.blocks[depth]:
                sample = normalize(F.leaky_relu(layer(sample), 0.2))
        image = self.to_image[self.level](sample)
        if self.level:
            image = torch.lerp(upsample(self.to_image[self.level - 1](before), 2), image, alpha.to(image.dtype))
        image = upsample(image, 2 ** (len(self.blocks) - 1 - self.level))
        top, left = self.margin
        image = image[:, :, top : image.shape[2] - top, left : image.shape[3] - left]
        return ProgressiveGeneratorOutput(image) if return_dict else (image,)


class ProgressiveDiscriminator(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to logits (B,): whether they are real.

    Args:
        block_out_channels: channels of each level, from the smallest, `base_size` pixels wide.
        level: level of the images, from 0; None for the last one. `grow` changes it.
        is_equalized: whether weights are scaled at run time (Sec. 4.1); else they are drawn so scaled.
        has_minibatch_deviation: whether the last block sees how far the images of a batch differ (Sec. 3).
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()
    _supports_group_offloading = False  # its hooks see calls, and a block is not called
    not_averaged = ("alpha",)
    noise_size = 0

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        block_out_channels: tuple[int, ...] = (64, 64, 32, 16),
        base_size: int = 4,
        level: int | None = None,
        is_equalized: bool = True,
        has_minibatch_deviation: bool = True,
    ):
        super().__init__()
        self.margin = compute_margin(sample_size, block_out_channels, base_size)
        self.has_batch_statistics = has_minibatch_deviation
        first, pairs = block_out_channels[0], itertools.pairwise(block_out_channels)
        self.from_image = nn.ModuleList(EqualizedConv2d(in_channels, c, 1) for c in block_out_channels)
        blocks = nn.ModuleList(
            [
                nn.ModuleList([EqualizedConv2d(first + has_minibatch_deviation, first, 3)]),
                *(nn.ModuleList([EqualizedConv2d(b, b, 3), EqualizedConv2d(b, a, 3)]) for a, b in pairs),
            ]
        )
        self.blocks = cast("Sequence[nn.ModuleList]", blocks)
        self.to_features = EqualizedLinear(first * base_size**2, first)
        self.to_logit = EqualizedLinear(first, 1, gain=1.0)
        if not is_equalized:
            scale_weights(self)
        self.register_buffer("alpha", torch.ones(()))  # weight of the newest level
        self.grow(len(block_out_channels) - 1 if level is None else level)

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
        inputs = [f"from_image.{depth}" for depth in range(max(self.level - 1, 0), self.level + 1)]
        return (*inputs, *blocks, "to_features", "to_logit")

    def forward(
        self, sample: torch.Tensor, alpha: torch.Tensor | None = None, return_dict: bool = True
    ) -> ProgressiveDiscriminatorOutput | tuple:
        """Computes the logits of `sample`.

        Args:
            alpha: weight (B,) or (1,) in [0, 1] of the newest level; None for that of the last training step.
        """
        alpha = resolve_alpha(self, alpha)
        top, left = self.margin
        image = F.pad(sample, (left, left, top, top), mode="replicate")
        image = downsample(image, 2 ** (len(self.blocks) - 1 - self.level))  # (B, C, 4 2^level, 4 2^level)
        sample = F.leaky_relu(self.from_image[self.level](image), 0.2)
        for depth in range(self.level, 0, -1):
            for layer in self.blocks[depth]:
                sample = F.leaky_relu(layer(sample), 0.2)
            sample = downsample(sample, 2)
            if depth == self.level:
                before = F.leaky_relu(self.from_image[depth - 1](downsample(image, 2)), 0.2)
                sample = torch.lerp(before, sample, alpha.to(sample.dtype))
        sample = append_minibatch_deviation(sample) if self.has_batch_statistics else sample
        sample = F.leaky_relu(self.blocks[0][0](sample), 0.2)
        features = F.leaky_relu(self.to_features(sample.flatten(1)), 0.2)
        logits = self.to_logit(features).squeeze(1)
        return ProgressiveDiscriminatorOutput(logits) if return_dict else (logits,)


class EqualizedConv2d(nn.Conv2d):
    """A convolution with padding whose weights are drawn from N(0, 1) and scaled at run time (Sec. 4.1), so that
    a step of Adam, as large for each weight, moves wide layers and narrow ones alike."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, gain: float = math.sqrt(2)):
        super().__init__(in_channels, out_channels, kernel_size, padding="same")
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)

    def reset_parameters(self):
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.get_parameter("bias"))

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return F.conv2d(sample, self.weight * self.scale, self.bias, padding=self.padding)


class EqualizedLinear(nn.Linear):
    """A linear layer whose weights are drawn from N(0, 1) and scaled at run time (Sec. 4.1)."""

    def __init__(self, in_features: int, out_features: int, gain: float = math.sqrt(2)):
        super().__init__(in_features, out_features)
        self.scale = gain / math.sqrt(in_features)

    def reset_parameters(self):
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return F.linear(sample, self.weight * self.scale, self.bias)


def scale_weights(module: nn.Module):
    """Scales the weights of equalized layers once, by He's constant (He et al. 2015), and no more at run time."""
    for layer in module.modules():
        if isinstance(layer, EqualizedConv2d | EqualizedLinear):
            with torch.no_grad():
                layer.weight.mul_(layer.scale)
            layer.scale = 1.0


def pixel_norm(sample: torch.Tensor) -> torch.Tensor:
    """Scales the vector of channels (B, C, ...) of each pixel to length sqrt(C) (Sec. 4.2)."""
    return sample * (sample.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def append_minibatch_deviation(sample: torch.Tensor) -> torch.Tensor:
    """Appends to maps (B, C, H, W) the standard deviation over the batch, averaged over channels and pixels (Sec.
    3)."""
    # each channel by itself: over channels and batch at once, equal images with unlike channels would look varied
    variance = sample.float().var(0, correction=0)  # (C, H, W)
    deviation = (variance + 1e-8).sqrt().mean().to(sample.dtype)
    return torch.cat([sample, deviation.expand(sample.shape[0], 1, *sample.shape[2:])], 1)


def upsample(sample: torch.Tensor, factor: int) -> torch.Tensor:
    """Repeats each pixel `factor` times in both directions."""
    return sample if factor == 1 else F.interpolate(sample, scale_factor=float(factor), mode="nearest")


def downsample(sample: torch.Tensor, factor: int) -> torch.Tensor:
    """Averages squares of `factor` times `factor` pixels."""
    return sample if factor == 1 else F.avg_pool2d(sample, factor)


def resolve_alpha(module: ModelMixin, alpha: torch.Tensor | None) -> torch.Tensor:
    """Returns alpha, or the stored one for None, as (B or 1, 1, 1, 1); training stores its mean."""
    if alpha is None:
        return module.alpha.view(1, 1, 1, 1)
    if module.training:
        with torch.no_grad():
            module.alpha.copy_(alpha.mean())
    return alpha.view(-1, 1, 1, 1)


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


def check_level(level: int, blocks: Sized) -> int:
    """Returns `level` if the network has it."""
    if not 0 <= level < len(blocks):
        raise ValueError(f"`level` must lie in 0..{len(blocks) - 1}, got {level}.")
    return level
