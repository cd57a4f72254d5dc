"""A recurrent autoencoder (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17, Recurrent Autoencoders): an image is a
sequence of rows, and its code the last state of an LSTM (Hochreiter & Schmidhuber 1997).

PyTorch's LSTM has two bias vectors where Keras has one: the second is no parameter here, and stays at zero.
Weights are initialised as in Keras (Glorot & Bengio 2010, Eq. 16; recurrent matrices orthogonal; forget gate bias 1).
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


@dataclass
class RecurrentAutoencoderOutput(BaseOutput):
    """Reconstructions `sample` (B, C, H, W) and codes `latents` (B, L)."""

    sample: torch.Tensor
    latents: torch.Tensor | None = None  # accelerate needs the default under mixed precision


class RecurrentAutoencoder(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1], read row by row, to codes (B, L) and back; the layers see pixels in [0, 1].

    Args:
        hidden_size: units of the encoder's first LSTM and of the decoder's.
        latent_channels: L, units of the encoder's second LSTM.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()
    _group_offload_block_modules = ("decoder", "to_row")

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        hidden_size: int = 100,
        latent_channels: int = 30,
    ):
        super().__init__()
        for name, value in (("hidden_size", hidden_size), ("latent_channels", latent_channels)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        self.height, self.width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        row = in_channels * self.width
        self.encoder = nn.ModuleList(
            [
                nn.LSTM(row, hidden_size, batch_first=True),
                nn.LSTM(hidden_size, latent_channels, batch_first=True),
            ]
        )
        self.decoder = nn.LSTM(latent_channels, hidden_size, batch_first=True)
        self.to_row = nn.Linear(hidden_size, row)
        for part in self.modules():
            if isinstance(part, nn.LSTM):
                init_like_keras(part)
        nn.init.xavier_uniform_(self.to_row.weight)
        nn.init.zeros_(self.to_row.bias)

    def enable_layerwise_casting(self, *args: Any, **kwargs: Any):
        """Refuses to cast: most weights would stay as they are."""
        raise ValueError("RecurrentAutoencoder does not support layerwise casting: diffusers casts no LSTM.")

    @apply_forward_hook
    def encode(self, sample: torch.Tensor) -> torch.Tensor:
        """Maps images (B, C, H, W) to codes (B, L)."""
        rows = ((sample + 1) / 2).transpose(1, 2).flatten(2)  # (B, C, H, W) -> (B, H, C W)
        states, _ = self.encoder[0](rows)  # (B, H, K)
        _, (last, _) = self.encoder[1](states)
        return last[0]

    @apply_forward_hook
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Maps codes (B, L) to images (B, C, H, W)."""
        states, _ = self.decoder(latents[:, None].expand(-1, self.height, -1))  # (B, H, K)
        rows = self.to_row(states).unflatten(2, (-1, self.width))  # (B, H, C, W)
        return (2 * rows - 1).transpose(1, 2)

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> RecurrentAutoencoderOutput | tuple:
        """Reconstructs `sample`."""
        latents = self.encode(sample)
        sample = self.decode(latents)
        return RecurrentAutoencoderOutput(sample, latents) if return_dict else (sample, latents)


def init_like_keras(lstm: nn.LSTM):
    """Initialises an LSTM of one layer as Keras does, with one bias vector; the order of the gates is i, f, g, o."""
    nn.init.xavier_uniform_(lstm.get_parameter("weight_ih_l0"))
    recurrent = lstm.get_parameter("weight_hh_l0")
    recurrent.data.copy_(nn.init.orthogonal_(torch.empty_like(recurrent, dtype=torch.float32)))  # in no other dtype
    nn.init.zeros_(lstm.get_parameter("bias_ih_l0"))
    del lstm.bias_hh_l0  # which PyTorch adds to the other one
    lstm.bias_hh_l0 = nn.Buffer(torch.zeros(4 * lstm.hidden_size))
    with torch.no_grad():
        lstm.get_parameter("bias_ih_l0")[lstm.hidden_size : 2 * lstm.hidden_size] = 1
