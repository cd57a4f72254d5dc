"""Stacked autoencoders of dense layers (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17, Stacked Autoencoders).

A stack of shallow autoencoders: layer k encodes and decodes the output of layer k - 1, so that it can also be trained
layer by layer (Hinton & Salakhutdinov 2006, Science 313, 504-507; Bengio et al. 2006). With one linear layer it finds
the principal components; with `is_tied` a layer decodes by its own matrix, transposed; with a sigmoid code it can be
sparse, or nearly binary (Salakhutdinov & Hinton 2008, semantic hashing).

Departures from the text: none; weights are initialised as in Keras (Glorot & Bengio 2010, Eq. 16, biases zero).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

ACTIVATIONS = {"relu": F.relu, "sigmoid": torch.sigmoid, "linear": lambda x: x}


@dataclass
class DenseAutoencoderOutput(BaseOutput):
    """Output of `DenseAutoencoder`.

    Args:
        sample: (B, C, H, W), the reconstructions; for a single layer (B, K), of the layer's input.
        latents: (B, L), the codes.
        target: (B, K), the input of a single layer; None for the whole stack.
    """

    sample: torch.Tensor
    latents: torch.Tensor | None = None  # accelerate needs the default under mixed precision
    target: torch.Tensor | None = None


class DenseAutoencoder(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to codes (B, L) and back; the layers see pixels in [0, 1].

    Args:
        hidden_sizes: units of the encoder's hidden layers; the decoder has them in reverse order.
        latent_channels: L, units of the code.
        activation: of the hidden layers: "relu", "sigmoid" or "linear". The output is always linear.
        latent_activation: of the code.
        is_tied: whether the decoder uses the transposed matrices of the encoder, with biases of its own.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ("DenseLayer",)
    _supports_group_offloading = False  # its hooks see calls, and a layer is not called

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        hidden_sizes: tuple[int, ...] = (100,),
        latent_channels: int = 30,
        activation: str = "relu",
        latent_activation: str = "relu",
        is_tied: bool = False,
    ):
        super().__init__()
        for name, value in (("activation", activation), ("latent_activation", latent_activation)):
            if value not in ACTIVATIONS:
                raise ValueError(f"`{name}` must be one of {', '.join(ACTIVATIONS)}, got {value!r}.")
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        sizes = (in_channels * height * width, *hidden_sizes, latent_channels)
        if min(sizes) < 1:
            raise ValueError(f"`sample_size`, `hidden_sizes` and `latent_channels` must be at least 1, got {sizes}.")
        layers = nn.ModuleList(DenseLayer(*pair, is_tied) for pair in itertools.pairwise(sizes))
        self.layers = cast("Sequence[DenseLayer]", layers)

    @apply_forward_hook
    def encode(self, sample: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Maps images (B, C, H, W) to codes (B, L); `noise` (B, K) is added to the input of the last layer."""
        code = ((sample + 1) / 2).flatten(1)  # (B, C, H, W) -> (B, C H W)
        for depth, layer in enumerate(self.layers):
            if noise is not None and depth == len(self.layers) - 1:
                code = code + noise
            code = self._activate(layer.encoder(code), depth + 1)
        return code

    @apply_forward_hook
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Maps codes (B, L) to images (B, C, H, W)."""
        pixels = latents
        for depth in reversed(range(len(self.layers))):
            pixels = self._activate(self.layers[depth].decode(pixels), depth)
        size = self.config["sample_size"]
        return (2 * pixels - 1).unflatten(1, (-1, *((size, size) if isinstance(size, int) else size)))

    def forward(
        self,
        sample: torch.Tensor,
        noise: torch.Tensor | None = None,
        layer: int | None = None,
        mask: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> DenseAutoencoderOutput | tuple:
        """Reconstructs `sample`; or, with the single layer number `layer`, the input (B, K) of that layer, from the
        input times `mask` (B, K) if it is given."""
        if layer is not None:
            target = ((sample + 1) / 2).flatten(1)
            for depth in range(layer):
                target = self._activate(self.layers[depth].encoder(target), depth + 1)
            corrupted = target if mask is None else mask * target
            latents = self._activate(self.layers[layer].encoder(corrupted), layer + 1)
            sample = self._activate(self.layers[layer].decode(latents), layer)
            return DenseAutoencoderOutput(sample, latents, target) if return_dict else (sample, latents, target)
        latents = self.encode(sample, noise)
        sample = self.decode(latents)
        return DenseAutoencoderOutput(sample, latents) if return_dict else (sample, latents)

    def _activate(self, values: torch.Tensor, depth: int) -> torch.Tensor:
        """Applies the activation at a depth: 0 are pixels, the last one is the code."""
        if depth == 0:
            return values
        is_code = depth == len(self.layers)
        return ACTIVATIONS[self.config["latent_activation"] if is_code else self.config["activation"]](values)


class DenseLayer(nn.Module):
    """A shallow autoencoder without activations: `encoder` maps (B, K) to (B, L), `decode` maps it back."""

    def __init__(self, in_features: int, out_features: int, is_tied: bool):
        super().__init__()
        self.encoder = (
            TransposableLinear(in_features, out_features) if is_tied else nn.Linear(in_features, out_features)
        )
        if is_tied:
            self.decoder_bias = nn.Parameter(torch.zeros(in_features))
        else:
            self.decoder = nn.Linear(out_features, in_features)
        for part in self.children():
            nn.init.xavier_uniform_(part.get_parameter("weight"))
            nn.init.zeros_(part.get_parameter("bias"))
        self.is_tied = is_tied

    @apply_forward_hook
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Maps (B, L) to (B, K)."""
        return self.encoder(latents, self.decoder_bias) if self.is_tied else self.decoder(latents)


class TransposableLinear(nn.Linear):
    """A linear layer that also applies its transposed matrix, within its forward: offloading and casting see no other
    use of a weight."""

    def forward(self, values: torch.Tensor, transposed_bias: torch.Tensor | None = None) -> torch.Tensor:
        """Maps (B, K) to (B, L), or with another bias (B, L) to (B, K)."""
        if transposed_bias is None:
            return super().forward(values)
        return F.linear(values, self.weight.T, transposed_bias)
