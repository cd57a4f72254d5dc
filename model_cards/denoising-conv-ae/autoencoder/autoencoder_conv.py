"""A convolutional autoencoder (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17, Convolutional Autoencoders).

The encoder halves the image by max pooling after each convolution; the code is the average of the last feature maps
(Lin et al. 2013, arXiv 1312.4400, Sec. 3.2). The decoder doubles the size by transposed convolutions, to the sizes of
the encoder: from n to 2n + 1 is Keras's padding "valid". From n to 2n is its "same", which removes the last row and
column of 2n + 1; PyTorch removes the first, the mirror image, twice as fast as slicing would. The decoder therefore
computes on mirrored feature maps, and flips the image at the end. The other decoder repeats each pixel and convolves
(Odena et al. 2016, Deconvolution and Checkerboard Artifacts): the chapter names it, and each pixel then is a sum of as
many terms as its neighbours are, where a kernel of 3 and a stride of 2 give one, two or four.

Departures from the text: none; weights are initialised as in Keras (Glorot & Bengio 2010, Eq. 16, biases zero).
"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


@dataclass
class ConvAutoencoderOutput(BaseOutput):
    """Reconstructions `sample` (B, C, H, W) and codes `latents` (B, L)."""

    sample: torch.Tensor
    latents: torch.Tensor | None = None  # accelerate needs the default under mixed precision


class ConvAutoencoder(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to codes (B, L) and back; the layers see pixels in [0, 1].

    Args:
        block_out_channels: channels of the encoder's convolutions, each followed by max pooling.
        latent_channels: L, channels of the encoder's last convolution.
        decoder_channels: input channels of the decoder's convolutions, one for each halving.
        upsampling: "transposed" convolutions, or "nearest" neighbours before convolutions.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()
    _group_offload_block_modules = ("from_code",)

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        block_out_channels: tuple[int, ...] = (16, 32, 64),
        latent_channels: int = 30,
        decoder_channels: tuple[int, ...] = (16, 32, 16),
        upsampling: str = "transposed",
    ):
        super().__init__()
        if upsampling not in ("transposed", "nearest"):
            raise ValueError(f"`upsampling` must be transposed or nearest, got {upsampling!r}.")
        if not block_out_channels or len(decoder_channels) != len(block_out_channels):
            raise ValueError(
                "`block_out_channels` and `decoder_channels` must have one entry for each halving, got "
                f"{len(block_out_channels)} and {len(decoder_channels)}."
            )
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        halvings = len(block_out_channels)
        if min(height, width) < 2**halvings:
            raise ValueError(
                f"`sample_size` must be at least {2**halvings} (it is halved {halvings} times), got {sample_size}."
            )
        if latent_channels < 1:
            raise ValueError(f"`latent_channels` must be at least 1, got {latent_channels}.")
        self.sizes = [(height >> k, width >> k) for k in range(halvings + 1)]

        widths = (in_channels, *block_out_channels, latent_channels)
        self.encoder = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in itertools.pairwise(widths)
        )
        height, width = self.sizes[-1]
        self.from_code = nn.Linear(latent_channels, decoder_channels[0] * height * width)
        self.decoder = make_decoder((*decoder_channels, in_channels), self.sizes[-2::-1], upsampling)
        for part in (*self.encoder, self.from_code, *self.decoder):
            nn.init.xavier_uniform_(part.get_parameter("weight"))
            nn.init.zeros_(part.get_parameter("bias"))

    @apply_forward_hook
    def encode(self, sample: torch.Tensor) -> torch.Tensor:
        """Maps images (B, C, H, W) to codes (B, L)."""
        maps = (sample + 1) / 2
        for convolution in self.encoder[:-1]:
            # (B, K, H, W) -> (B, K, H / 2, W / 2); the ReLU after pooling is a quarter of the work, with equal results
            maps = F.relu(F.max_pool2d(convolution(maps), 2))
        return F.relu(self.encoder[-1](maps)).mean((2, 3))  # (B, L, H / 8, W / 8) -> (B, L)

    @apply_forward_hook
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Maps codes (B, L) to images (B, C, H, W)."""
        maps = self.from_code(latents).unflatten(1, (-1, *self.sizes[-1]))  # (B, K, H / 8, W / 8)
        is_transposed = self.config["upsampling"] == "transposed"
        for size, part in zip(self.sizes[-2::-1], self.decoder, strict=True):
            # (B, K, H, W) -> (B, K, 2H or 2H + 1, 2W or 2W + 1)
            maps = part(maps if is_transposed else F.interpolate(maps, size=size))
            maps = maps if part is self.decoder[-1] else F.relu(maps)
        return 2 * (maps.flip(2, 3) if is_transposed else maps) - 1

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> ConvAutoencoderOutput | tuple:
        """Reconstructs `sample`."""
        latents = self.encode(sample)
        sample = self.decode(latents)
        return ConvAutoencoderOutput(sample, latents) if return_dict else (sample, latents)


def make_decoder(widths: tuple[int, ...], sizes: list[tuple[int, int]], upsampling: str) -> nn.ModuleList:
    """Makes the convolutions between maps of `widths` channels, the first of which ends at the first of `sizes`."""
    layers = nn.ModuleList()
    for (before, after), (height, width) in zip(itertools.pairwise(widths), sizes, strict=True):
        even = (int(height % 2 == 0), int(width % 2 == 0))
        layers.append(
            nn.ConvTranspose2d(before, after, 3, stride=2, padding=even, output_padding=even)
            if upsampling == "transposed"
            else nn.Conv2d(before, after, 3, padding=1)
        )
    return layers
