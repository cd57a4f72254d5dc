"""A convolutional variational autoencoder (Kingma & Welling 2013, arXiv 1312.6114; the TensorFlow tutorial
*Convolutional Variational Autoencoder*, whose network is the default).

p(z) = N(0, I); q(z|x) = N(mean, exp(logvar)); p(x|z) is Bernoulli, or Gaussian of a fixed sigma (Kingma & Welling
2013, App. C). Convolutions of the encoder have no padding. Of the 2n + 1 rows and columns of a transposed convolution
of stride 2, Keras's padding "same" cuts off the last, PyTorch's the first, which is the same in a mirror: the decoder
works on mirrored maps and turns the image around at the end.

Departures from the tutorial: none but the mirror, which weights learn; they start as in Keras (Glorot & Bengio 2010,
Eq. 16, biases zero). Ours: `hidden_sizes`, and with `num_class_embeds` the class as maps beside the image and as a
one-hot vector beside the latents (Sohn et al. 2015, Sec. 4.1).
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

LIKELIHOODS = ("gaussian", "bernoulli")


@dataclass
class ConvVAEOutput(BaseOutput):
    """What a variational autoencoder makes of B images.

    Args:
        sample: (B, C, H, W) in [-1, 1], the mean of p(x|z).
        latents: (B, L), the z that were decoded.
        mean, logvar: (B, L), of q(z|x).
        logits: (B, C, H, W), of a Bernoulli p(x|z); None for a Gaussian one.
    """

    sample: torch.Tensor
    latents: torch.Tensor | None = None  # a default, or accelerate could not rebuild it under mixed precision
    mean: torch.Tensor | None = None
    logvar: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class ConvVAE(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to a Gaussian over latents (B, L), and latents to images; within, pixels lie
    in [0, 1].

    Args:
        block_out_channels: channels of the encoder's convolutions of stride 2.
        hidden_sizes: units of dense layers between the last convolution and the latents; the decoder has them in the
            opposite order.
        latent_channels: L.
        decoder_channels: channels of the decoder's smallest map and of its transposed convolutions of stride 2.
        likelihood: p(x|z), "gaussian" or "bernoulli".
        sigma: of a Gaussian p(x|z), of pixels in [0, 1].
        num_class_embeds: number of classes that encoder and decoder are conditioned on, None for none.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        block_out_channels: tuple[int, ...] = (32, 64),
        hidden_sizes: tuple[int, ...] = (),
        latent_channels: int = 2,
        decoder_channels: tuple[int, ...] = (32, 64, 32),
        likelihood: str = "bernoulli",
        sigma: float = math.sqrt(0.5),
        num_class_embeds: int | None = None,
    ):
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"`likelihood` must be one of {', '.join(LIKELIHOODS)}, got {likelihood!r}.")
        if not 0 < sigma < math.inf:
            raise ValueError(f"`sigma` must be above 0 and finite, got {sigma}.")
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        doublings = len(decoder_channels) - 1
        if doublings < 1:
            raise ValueError(
                f"`decoder_channels` must be at least 2, the smallest map's first, got {decoder_channels}."
            )
        if height % 2**doublings or width % 2**doublings:
            raise ValueError(
                f"`sample_size` must be divisible by {2**doublings} (the decoder doubles {doublings} times), "
                f"got {sample_size}."
            )
        last = [height, width]  # of the encoder's last map
        for _ in block_out_channels:
            last = [(size - 3) // 2 + 1 for size in last]
        if min(last) < 1:
            raise ValueError(
                f"`sample_size` must be larger for {len(block_out_channels)} convolutions, got {sample_size}."
            )
        if not block_out_channels or min(*block_out_channels, *hidden_sizes, *decoder_channels) < 1:
            raise ValueError("`block_out_channels`, `hidden_sizes` and `decoder_channels` must be at least 1.")
        if latent_channels < 1:
            raise ValueError(f"`latent_channels` must be at least 1, got {latent_channels}.")
        if num_class_embeds is not None and num_class_embeds < 1:
            raise ValueError(f"`num_class_embeds` must be at least 1 or None, got {num_class_embeds}.")
        classes = num_class_embeds or 0

        widths = (in_channels + classes, *block_out_channels)
        self.encoder = nn.Sequential(
            *(
                part
                for before, after in zip(widths, widths[1:], strict=False)
                for part in (nn.Conv2d(before, after, 3, stride=2), nn.ReLU())
            ),
            nn.Flatten(),
            *dense(widths[-1] * last[0] * last[1], *hidden_sizes),
        )
        features = [widths[-1] * last[0] * last[1], *hidden_sizes][-1]
        self.to_moments = nn.Linear(features, 2 * latent_channels)

        self.smallest = (decoder_channels[0], height >> doublings, width >> doublings)
        self.from_latents = dense(latent_channels + classes, *hidden_sizes[::-1], math.prod(self.smallest))
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)
            for before, after in zip(decoder_channels, decoder_channels[1:], strict=False)
        )
        self.to_pixels = nn.ConvTranspose2d(decoder_channels[-1], in_channels, 3, padding=1)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)

    @apply_forward_hook
    def encode(
        self, sample: torch.Tensor, class_labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns mean and logvar of q(z|x), (B, L) each."""
        pixels, one_hot = (sample + 1) / 2, self._one_hot(class_labels, sample.dtype)
        if one_hot is not None:
            maps = one_hot[:, :, None, None].expand(-1, -1, *pixels.shape[2:])
            pixels = torch.cat([pixels, maps], 1)  # (B, C + K, H, W)
        return self.to_moments(self.encoder(pixels)).chunk(2, 1)

    @apply_forward_hook
    def decode(self, latents: torch.Tensor, class_labels: torch.Tensor | None = None) -> torch.Tensor:
        """Returns what p(x|z) is made of, (B, C, H, W): the mean in [-1, 1] of a Gaussian, the logits of a
        Bernoulli."""
        one_hot = self._one_hot(class_labels, latents.dtype)
        latents = latents if one_hot is None else torch.cat([latents, one_hot], 1)
        maps = self.from_latents(latents).unflatten(1, self.smallest)  # (B, K, H / 4, W / 4)
        for transposed in self.decoder:
            maps = F.relu(transposed(maps))  # (B, K, H, W) -> (B, K, 2H, 2W)
        pixels = self.to_pixels(maps).flip(2, 3)
        return pixels if self.config.likelihood == "bernoulli" else 2 * pixels - 1

    def forward(
        self,
        sample: torch.Tensor,
        class_labels: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> ConvVAEOutput | tuple:
        """Reconstructs `sample` from z = mean + exp(logvar / 2) noise (Kingma & Welling 2013, Eq. 10); from the mean
        where there is no `noise` (B, L)."""
        mean, logvar = self.encode(sample, class_labels)
        latents = mean if noise is None else mean + (logvar / 2).exp() * noise
        decoded = self.decode(latents, class_labels)
        logits = decoded if self.config.likelihood == "bernoulli" else None
        sample = decoded if logits is None else 2 * torch.sigmoid(logits) - 1
        output = ConvVAEOutput(sample, latents, mean, logvar, logits)
        return output if return_dict else output.to_tuple()

    def _one_hot(self, class_labels: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
        classes = self.config.num_class_embeds
        if (class_labels is None) != (classes is None):
            must = "unset: the network is unconditional" if classes is None else "given: the network is conditional"
            raise ValueError(f"`class_labels` must be {must}.")
        return None if classes is None else F.one_hot(class_labels, classes).to(dtype)


# Same as genhub.models.autoencoder_vae_dense.dense
def dense(*sizes: int) -> nn.Sequential:
    """Returns linear layers of `sizes`, each with a ReLU."""
    layers = zip(sizes, sizes[1:], strict=False)
    return nn.Sequential(*(part for pair in layers for part in (nn.Linear(*pair), nn.ReLU())))
