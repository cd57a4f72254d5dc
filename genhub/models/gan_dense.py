"""The dense generative adversarial network (Goodfellow et al. 2014, arXiv 1406.2661) of Géron, *Hands-On Machine
Learning*, 3rd ed., ch. 17, Generative Adversarial Networks, whose layers are the default.

Both compute on pixels in [0, 1]. Departure from the text: the discriminator returns the logit of its sigmoid. Layers
with a ReLU are initialised by He et al. 2015 (arXiv 1502.01852, Eq. 10), truncated at two standard deviations as in
Keras; the last ones by Glorot & Bengio 2010, Eq. 16; biases are zero.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import nn

TRUNCATED_STD = 0.87962566103423978  # of a standard normal variable truncated to [-2, 2]


@dataclass
class DenseGeneratorOutput(BaseOutput):
    """Output of `DenseGenerator`.

    Args:
        sample: (B, C, H, W) in [-1, 1].
    """

    sample: torch.Tensor


@dataclass
class DenseDiscriminatorOutput(BaseOutput):
    """Output of `DenseDiscriminator`.

    Args:
        logits: (B,), above 0 for images that look real.
    """

    logits: torch.Tensor


class DenseGenerator(ModelMixin, ConfigMixin):
    """Maps latents (B, L) to images (B, C, H, W) in [-1, 1].

    Args:
        hidden_sizes: units of the hidden layers.
        latent_channels: L; latents are standard normal.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()
    noise_size = 0  # the image depends on the latents only
    has_normalized_latents = False

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        out_channels: int = 1,
        hidden_sizes: tuple[int, ...] = (100, 150),
        latent_channels: int = 30,
    ):
        super().__init__()
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        sizes = (latent_channels, *hidden_sizes, out_channels * height * width)
        if min(sizes) < 1:
            raise ValueError(f"`latent_channels`, `hidden_sizes` and `sample_size` must be at least 1, got {sizes}.")
        self.layers = dense(*sizes)

    def forward(self, latents: torch.Tensor, return_dict: bool = True) -> DenseGeneratorOutput | tuple:
        """Generates images from `latents`."""
        pixels = torch.sigmoid(self.layers(latents))  # (B, L) -> (B, C H W)
        size = self.config["sample_size"]
        sample = (2 * pixels - 1).unflatten(1, (-1, *((size, size) if isinstance(size, int) else size)))
        return DenseGeneratorOutput(sample) if return_dict else (sample,)


class DenseDiscriminator(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to logits (B,): whether they are real.

    Args:
        hidden_sizes: units of the hidden layers.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()
    noise_size = 0
    has_batch_statistics = False

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        hidden_sizes: tuple[int, ...] = (150, 100),
    ):
        super().__init__()
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        sizes = (in_channels * height * width, *hidden_sizes, 1)
        if min(sizes) < 1:
            raise ValueError(f"`sample_size` and `hidden_sizes` must be at least 1, got {sizes}.")
        self.layers = dense(*sizes)

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> DenseDiscriminatorOutput | tuple:
        """Computes the logits of `sample`."""
        pixels = ((sample + 1) / 2).flatten(1)  # (B, C, H, W) -> (B, C H W)
        logits = self.layers(pixels).squeeze(1)
        return DenseDiscriminatorOutput(logits) if return_dict else (logits,)


def dense(*sizes: int) -> nn.Sequential:
    """Returns linear layers of `sizes` with ReLUs in between."""
    *hidden, last = (nn.Linear(*pair) for pair in itertools.pairwise(sizes))
    for layer in hidden:
        std = math.sqrt(2 / layer.in_features) / TRUNCATED_STD
        nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.xavier_uniform_(last.weight)
    for layer in (*hidden, last):
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*(part for layer in hidden for part in (layer, nn.ReLU())), last)
