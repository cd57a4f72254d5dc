"""A convolutional variational autoencoder (Kingma & Welling 2013, arXiv 1312.6114; the TensorFlow tutorial
*Convolutional Variational Autoencoder*, whose network is the default).

p(z) = N(0, I); q(z|x) = N(mean, exp(logvar)); p(x|z) is Bernoulli, or Gaussian with a fixed sigma (Kingma & Welling
2013, App. C). Convolutions of the encoder have no padding. Of the 2n + 1 rows and columns of a transposed convolution
of stride 2, Keras's padding "same" removes the last, PyTorch's the first, the mirror image; the decoder therefore
computes on mirrored feature maps, and flips the image at the end.

Departures from the tutorial: none; weights are initialised as in Keras (Glorot & Bengio 2010, Eq. 16, biases zero).
Ours: `hidden_sizes`; and with `num_class_embeds`, the class is concatenated as maps with the image and as a one-hot
vector with the latents (Sohn et al. 2015, Sec. 4.1).
"""

import itertools
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
    """Output of `ConvVAE`.

    Args:
        sample: (B, C, H, W) in [-1, 1], the mean of p(x|z).
        latents: (B, L), the sampled z.
        mean, logvar: (B, L), of q(z|x).
        logits: (B, C, H, W), of a Bernoulli p(x|z); None for a Gaussian one.
    """

    sample: torch.Tensor
    latents: torch.Tensor | None = None  # accelerate needs the default under mixed precision
    mean: torch.Tensor | None = None
    logvar: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class ConvVAE(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to a Gaussian over latents (B, L), and latents to images; the layers see
    pixels in [0, 1].

    Args:
        block_out_channels: channels of the encoder's convolutions of stride 2.
        hidden_sizes: units of dense layers between the last convolution and the latents; the decoder has them in
            reverse order.
        latent_channels: L.
        decoder_channels: channels of the decoder's smallest map and of its transposed convolutions of stride 2.
        likelihood: p(x|z), "gaussian" or "bernoulli".
        sigma: of a Gaussian p(x|z), for pixels in [0, 1].
        num_class_embeds: number of classes; None for an unconditional model.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()
    _group_offload_block_modules = ("to_moments", "to_pixels")

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
        check_distributions(likelihood, sigma, latent_channels, num_class_embeds)
        widths = (block_out_channels, hidden_sizes, decoder_channels)
        if not block_out_channels or min(itertools.chain(*widths)) < 1:
            raise ValueError(
                f"`block_out_channels`, `hidden_sizes` and `decoder_channels` must be at least 1, got {widths}."
            )
        encoded, smallest = map_sizes(sample_size, len(block_out_channels), len(decoder_channels) - 1)

        classes, features = num_class_embeds or 0, block_out_channels[-1] * math.prod(encoded)
        convolutions = convolve(in_channels + classes, *block_out_channels)
        self.encoder = nn.Sequential(*convolutions, nn.Flatten(), *dense(features, *hidden_sizes))
        self.to_moments = nn.Linear([features, *hidden_sizes][-1], 2 * latent_channels)

        self.smallest = (decoder_channels[0], *smallest)
        self.from_latents = dense(latent_channels + classes, *hidden_sizes[::-1], math.prod(self.smallest))
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)
            for before, after in itertools.pairwise(decoder_channels)
        )
        self.to_pixels = nn.ConvTranspose2d(decoder_channels[-1], in_channels, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.get_parameter("bias"))

    @apply_forward_hook
    def encode(
        self, sample: torch.Tensor, class_labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the mean and logvar of q(z|x), (B, L) each."""
        pixels, classes = (sample + 1) / 2, one_hot(class_labels, self.config["num_class_embeds"], sample.dtype)
        if classes is not None:
            maps = classes[:, :, None, None].expand(-1, -1, *pixels.shape[2:])
            pixels = torch.cat([pixels, maps], 1)  # (B, C + K, H, W)
        return self.to_moments(self.encoder(pixels)).chunk(2, 1)

    @apply_forward_hook
    def decode(self, latents: torch.Tensor, class_labels: torch.Tensor | None = None) -> torch.Tensor:
        """Maps latents to p(x|z), (B, C, H, W): the mean in [-1, 1] of a Gaussian, or the logits of a Bernoulli."""
        classes = one_hot(class_labels, self.config["num_class_embeds"], latents.dtype)
        latents = latents if classes is None else torch.cat([latents, classes], 1)
        maps = self.from_latents(latents).unflatten(1, self.smallest)  # (B, K, H / 4, W / 4)
        for transposed in self.decoder:
            maps = F.relu(transposed(maps))  # (B, K, H, W) -> (B, K, 2H, 2W)
        pixels = self.to_pixels(maps).flip(2, 3)
        return pixels if self.config["likelihood"] == "bernoulli" else 2 * pixels - 1

    def forward(
        self,
        sample: torch.Tensor,
        class_labels: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> ConvVAEOutput | tuple:
        """Reconstructs `sample` from z = mean + exp(logvar / 2) noise (Kingma & Welling 2013, Eq. 10), with `noise`
        (B, L), or from the mean without."""
        mean, logvar = self.encode(sample, class_labels)
        latents = mean if noise is None else mean + (logvar / 2).exp() * noise
        decoded = self.decode(latents, class_labels)
        logits = decoded if self.config["likelihood"] == "bernoulli" else None
        sample = decoded if logits is None else 2 * torch.sigmoid(logits) - 1
        output = ConvVAEOutput(sample, latents, mean, logvar, logits)
        return output if return_dict else output.to_tuple()


def map_sizes(
    sample_size: int | tuple[int, int], halvings: int, doublings: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the sizes of the encoder's last feature map and of the decoder's first.

    Raises:
        ValueError: the decoder does not double, or an image of `sample_size` cannot be halved or doubled so often.
    """
    if doublings < 1:
        raise ValueError(f"`decoder_channels` must be at least 2, the smallest map's first, got {doublings + 1}.")
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    if height % 2**doublings or width % 2**doublings:
        raise ValueError(
            f"`sample_size` must be divisible by {2**doublings} (the decoder doubles {doublings} times), got "
            f"{sample_size}."
        )
    smallest = (height >> doublings, width >> doublings)
    for _ in range(halvings):  # a convolution of kernel 3 and stride 2 without padding
        height, width = (height - 3) // 2 + 1, (width - 3) // 2 + 1
    if min(height, width) < 1:
        raise ValueError(f"`sample_size` must be larger for {halvings} convolutions, got {sample_size}.")
    return (height, width), smallest


def convolve(*channels: int) -> list[nn.Module]:
    """Returns convolutions of stride 2 between `channels`, each followed by a ReLU."""
    pairs = itertools.pairwise(channels)
    return [layer for pair in pairs for layer in (nn.Conv2d(*pair, 3, stride=2), nn.ReLU())]


# Same as genhub.models.autoencoder_vae_dense.dense
def dense(*sizes: int) -> nn.Sequential:
    """Returns linear layers of `sizes`, each followed by a ReLU."""
    layers = itertools.pairwise(sizes)
    return nn.Sequential(*(part for pair in layers for part in (nn.Linear(*pair), nn.ReLU())))


# Same as genhub.models.autoencoder_vae_dense.check_distributions
def check_distributions(likelihood: str, sigma: float, latent_channels: int, num_class_embeds: int | None):
    """Raises ValueError if an argument that describes z or p(x|z) is out of range."""
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"`likelihood` must be one of {', '.join(LIKELIHOODS)}, got {likelihood!r}.")
    if not 0 < sigma < math.inf:
        raise ValueError(f"`sigma` must be above 0 and finite, got {sigma}.")
    if latent_channels < 1:
        raise ValueError(f"`latent_channels` must be at least 1, got {latent_channels}.")
    if num_class_embeds is not None and num_class_embeds < 1:
        raise ValueError(f"`num_class_embeds` must be at least 1 or None, got {num_class_embeds}.")


# Same as genhub.models.gan_dcgan.one_hot
def one_hot(class_labels: torch.Tensor | None, num_classes: int | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Returns labels (B,) as vectors (B, num_classes), None for an unconditional network.

    Raises:
        ValueError: a conditional network got no labels, or an unconditional one did.
    """
    if (class_labels is None) != (num_classes is None):
        rule = "unset: the network is unconditional" if num_classes is None else "given: the network is conditional"
        raise ValueError(f"`class_labels` must be {rule}.")
    if class_labels is None or num_classes is None:
        return None
    return F.one_hot(class_labels, num_classes).to(dtype)
