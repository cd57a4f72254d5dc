"""A variational autoencoder of dense layers (Kingma & Welling 2013, arXiv 1312.6114; Géron, *Hands-On Machine
Learning*, 3rd ed., ch. 17, Variational Autoencoders).

p(z) = N(0, I); q(z|x) = N(mean, exp(logvar)), where the text writes gamma for logvar; p(x|z) is Gaussian with a fixed
sigma, or Bernoulli (Kingma & Welling 2013, App. C). The book's loss, MSE + KL / 784, is the negative bound of a
Gaussian with sigma^2 = 1/2, in nats per pixel and without a constant: hence the default.

Departures from the text: none; weights are initialised as in Keras. Ours: with `num_class_embeds`, the inputs of
encoder and decoder are concatenated with the class as a one-hot vector (Sohn et al. 2015, Sec. 4.1).
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
class DenseVAEOutput(BaseOutput):
    """Output of `DenseVAE`.

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


class DenseVAE(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to a Gaussian over latents (B, L), and latents to images; the layers see
    pixels in [0, 1].

    Args:
        hidden_sizes: units of the encoder's hidden layers; the decoder has them in reverse order.
        latent_channels: L.
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
        hidden_sizes: tuple[int, ...] = (150, 100),
        latent_channels: int = 10,
        likelihood: str = "gaussian",
        sigma: float = math.sqrt(0.5),
        num_class_embeds: int | None = None,
    ):
        super().__init__()
        check_distributions(likelihood, sigma, latent_channels, num_class_embeds)
        self.height, self.width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        pixels, classes = in_channels * self.height * self.width, num_class_embeds or 0
        sizes = (pixels, *hidden_sizes, latent_channels)
        if min(sizes) < 1:
            raise ValueError(f"`sample_size`, `hidden_sizes` and `latent_channels` must be at least 1, got {sizes}.")
        self.encoder = dense(pixels + classes, *hidden_sizes)
        self.to_moments = nn.Linear([pixels + classes, *hidden_sizes][-1], 2 * latent_channels)
        self.decoder = dense(latent_channels + classes, *hidden_sizes[::-1])
        self.to_pixels = nn.Linear([latent_channels + classes, *hidden_sizes[::-1]][-1], pixels)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        for head in self.to_moments.weight.data.chunk(2):  # two layers in the text, each with its own fan-out
            nn.init.xavier_uniform_(head)

    @apply_forward_hook
    def encode(
        self, sample: torch.Tensor, class_labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the mean and logvar of q(z|x), (B, L) each."""
        pixels = ((sample + 1) / 2).flatten(1)  # (B, C, H, W) -> (B, C H W)
        moments = self.to_moments(self.encoder(self._append_class(pixels, class_labels)))  # (B, 2L)
        return moments.chunk(2, 1)

    @apply_forward_hook
    def decode(self, latents: torch.Tensor, class_labels: torch.Tensor | None = None) -> torch.Tensor:
        """Maps latents to p(x|z), (B, C, H, W): the mean in [-1, 1] of a Gaussian, or the logits of a Bernoulli."""
        pixels = self.to_pixels(self.decoder(self._append_class(latents, class_labels)))
        pixels = pixels.unflatten(1, (-1, self.height, self.width))
        return pixels if self.config["likelihood"] == "bernoulli" else 2 * pixels - 1

    def forward(
        self,
        sample: torch.Tensor,
        class_labels: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> DenseVAEOutput | tuple:
        """Reconstructs `sample` from z = mean + exp(logvar / 2) noise (Kingma & Welling 2013, Eq. 10), with `noise`
        (B, L), or from the mean without."""
        mean, logvar = self.encode(sample, class_labels)
        latents = mean if noise is None else mean + (logvar / 2).exp() * noise
        decoded = self.decode(latents, class_labels)
        logits = decoded if self.config["likelihood"] == "bernoulli" else None
        sample = decoded if logits is None else 2 * torch.sigmoid(logits) - 1
        output = DenseVAEOutput(sample, latents, mean, logvar, logits)
        return output if return_dict else output.to_tuple()

    def _append_class(self, values: torch.Tensor, class_labels: torch.Tensor | None) -> torch.Tensor:
        """Concatenates (B, K) with the class as a one-hot vector, if the model is conditional."""
        classes = one_hot(class_labels, self.config["num_class_embeds"], values.dtype)
        return values if classes is None else torch.cat([values, classes], 1)


def dense(*sizes: int) -> nn.Sequential:
    """Returns linear layers of `sizes`, each followed by a ReLU."""
    layers = itertools.pairwise(sizes)
    return nn.Sequential(*(part for pair in layers for part in (nn.Linear(*pair), nn.ReLU())))


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
