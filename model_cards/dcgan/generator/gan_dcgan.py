"""The deep convolutional GAN (Radford et al. 2015, arXiv 1511.06434) as in Géron, *Hands-On Machine Learning*, 3rd
ed., ch. 17, Deep Convolutional GANs, whose layers are the default.

Of the 2n + 3 rows and columns of a transposed convolution of kernel 5 and stride 2, Keras's padding "same" removes
one at the start and two at the end, PyTorch's with `output_padding` two and one: the mirror image. The same holds for
the padding of a strided convolution. Both networks therefore compute on mirrored feature maps, and flip the images.

Departures from the text: the discriminator returns the logit of its sigmoid. Weights are initialised as in Keras
(Glorot & Bengio 2010, Eq. 16, biases zero). `num_class_embeds` is the text's conditional GAN (Mirza & Osindero 2014,
arXiv 1411.1784): the class is concatenated with the latents and, as maps, with the image. Ours: `has_projection`
(Miyato & Koyama 2018, arXiv 1802.05637, Eq. 3) and minibatch discrimination (Salimans et al. 2016, arXiv 1606.03498,
Sec. 3.2).
"""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import nn


@dataclass
class DCGANGeneratorOutput(BaseOutput):
    """Output of `DCGANGenerator`.

    Args:
        sample: (B, C, H, W) in [-1, 1].
    """

    sample: torch.Tensor


@dataclass
class DCGANDiscriminatorOutput(BaseOutput):
    """Output of `DCGANDiscriminator`.

    Args:
        logits: (B,), above 0 for images that look real.
    """

    logits: torch.Tensor


class DCGANGenerator(ModelMixin, ConfigMixin):
    """Maps latents (B, L) to images (B, C, H, W) in [-1, 1].

    Args:
        block_out_channels: channels of the feature maps, from the smallest; each doubles the size of the one before,
            and the image that of the last.
        latent_channels: L; latents are standard normal.
        num_class_embeds: number of classes; None for an unconditional network.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()
    noise_size = 0  # the image depends on latents and class only
    has_normalized_latents = False

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        out_channels: int = 1,
        block_out_channels: tuple[int, ...] = (128, 64),
        latent_channels: int = 100,
        num_class_embeds: int | None = None,
    ):
        super().__init__()
        height, width = check_size(sample_size, block_out_channels)
        if latent_channels < 1:
            raise ValueError(f"`latent_channels` must be at least 1, got {latent_channels}.")
        check_classes(num_class_embeds)
        halvings = len(block_out_channels)
        self.smallest = (block_out_channels[0], height >> halvings, width >> halvings)
        self.from_latents = nn.Linear(latent_channels + (num_class_embeds or 0), math.prod(self.smallest))
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, eps=1e-3, momentum=0.01) for c in block_out_channels)
        widths = (*block_out_channels, out_channels)
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=1)
            for before, after in itertools.pairwise(widths)
        )
        init_like_keras(self.from_latents, *self.layers)

    def forward(
        self, latents: torch.Tensor, class_labels: torch.Tensor | None = None, return_dict: bool = True
    ) -> DCGANGeneratorOutput | tuple:
        """Generates images from `latents`, of `class_labels` (B,) if the network is conditional."""
        classes = one_hot(class_labels, self.config["num_class_embeds"], latents.dtype)
        if classes is not None:
            latents = torch.cat([latents, classes], 1)  # (B, L + K)
        sample = self.from_latents(latents).unflatten(1, self.smallest)  # (B, C0, h, w)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            sample = layer(norm(sample))  # (B, C, 2 h, 2 w)
            sample = torch.tanh(sample) if layer is self.layers[-1] else F.relu(sample)
        sample = sample.flip(2, 3)
        return DCGANGeneratorOutput(sample) if return_dict else (sample,)


class DCGANDiscriminator(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to logits (B,): whether they are real, and of the class `class_labels`.

    Args:
        block_out_channels: channels of the feature maps, each of half the size of the one before.
        dropout: probability of dropping an activation in training.
        num_class_embeds: number of classes; None for an unconditional network.
        has_projection: whether the class enters by the inner product of its embedding and the features, instead of
            maps beside the image.
        num_minibatch_kernels: number of statistics that compare an image with the others of its batch; 0 for none.
        minibatch_kernel_size: number of features that each of them compares.
        has_batch_norm: whether maps but the first are normalised over the batch, which the text found unstable.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        block_out_channels: tuple[int, ...] = (64, 128),
        dropout: float = 0.4,
        num_class_embeds: int | None = None,
        has_projection: bool = False,
        num_minibatch_kernels: int = 0,
        minibatch_kernel_size: int = 5,
        has_batch_norm: bool = False,
    ):
        super().__init__()
        height, width = check_size(sample_size, block_out_channels)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must lie in [0, 1), got {dropout}.")
        check_classes(num_class_embeds)
        if has_projection and num_class_embeds is None:
            raise ValueError("`has_projection` must be false without `num_class_embeds`: there is nothing to project.")
        check_kernels(num_minibatch_kernels, minibatch_kernel_size)
        widths = (in_channels + (0 if has_projection else num_class_embeds or 0), *block_out_channels)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 5, stride=2, padding=2) for before, after in itertools.pairwise(widths)
        )
        counts = [c * (height >> depth) * (width >> depth) for depth, c in enumerate(block_out_channels, 1)]
        self.noise_size = sum(counts) if dropout else 0  # one value per activation that may be dropped
        self.has_batch_statistics = num_minibatch_kernels > 0 or has_batch_norm
        normed = block_out_channels[1:] if has_batch_norm else ()
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, eps=1e-3, momentum=0.01) for c in normed)
        self.similarity = self.class_embedding = None
        if num_minibatch_kernels:
            self.similarity = MinibatchDiscrimination(counts[-1], num_minibatch_kernels, minibatch_kernel_size)
        self.to_logit = nn.Linear(counts[-1] + num_minibatch_kernels, 1)
        init_like_keras(*self.layers, self.to_logit)
        if has_projection and num_class_embeds is not None:
            self.class_embedding = nn.Embedding(num_class_embeds, block_out_channels[-1])
            nn.init.xavier_uniform_(self.class_embedding.weight)

    def forward(
        self,
        sample: torch.Tensor,
        class_labels: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> DCGANDiscriminatorOutput | tuple:
        """Computes the logits of `sample`.

        Args:
            noise: (B, `noise_size`), uniform in [0, 1); a value below `dropout` drops an activation. None for no
                dropout.
        """
        classes = one_hot(class_labels, self.config["num_class_embeds"], sample.dtype)
        if classes is not None and self.class_embedding is None:
            maps = classes[:, :, None, None].expand(-1, -1, *sample.shape[2:])
            sample = torch.cat([sample, maps], 1)  # (B, C + K, H, W)
        sample, rate = sample.flip(2, 3), self.config["dropout"]
        for depth, layer in enumerate(self.layers):
            sample = layer(sample)  # (B, C, H / 2, W / 2)
            sample = F.leaky_relu(self.norms[depth - 1](sample) if depth and self.norms else sample, 0.2)
            if noise is not None:
                chance, noise = noise.tensor_split([sample.shape[1:].numel()], 1)
                sample = sample * (chance.view(sample.shape) >= rate) / (1 - rate)
        features = sample.flatten(1)
        if self.similarity is not None:
            features = torch.cat([features, self.similarity(features)], 1)
        logits = self.to_logit(features).squeeze(1)
        if self.class_embedding is not None:
            logits = logits + (self.class_embedding(class_labels) * sample.sum((2, 3))).sum(1)
        return DCGANDiscriminatorOutput(logits) if return_dict else (logits,)


class MinibatchDiscrimination(nn.Module):
    """Computes the similarity of each image to the others of its batch, (B, A) -> (B, K) (Salimans et al. 2016, Sec.
    3.2)."""

    def __init__(self, in_features: int, num_kernels: int, kernel_size: int):
        super().__init__()
        self.kernels = nn.Linear(in_features, num_kernels * kernel_size, bias=False)  # the tensor T
        self.shape = (num_kernels, kernel_size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        rows = self.kernels(features).float().unflatten(1, self.shape)  # M, (B, K, D)
        distance = (rows[:, None] - rows[None]).abs().sum(3)  # (B, B, K)
        return ((-distance).exp().sum(1) - 1).to(features.dtype)  # (B, K); 1 is the similarity to itself


def check_size(sample_size: int | tuple[int, int], block_out_channels: tuple[int, ...]) -> tuple[int, int]:
    """Returns the height and width of the images, which must be halved once per block."""
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    if not block_out_channels or min(block_out_channels) < 1:
        raise ValueError(f"`block_out_channels` must be at least 1, and one or more, got {block_out_channels}.")
    factor = 2 ** len(block_out_channels)
    if min(height, width) < factor or height % factor or width % factor:
        raise ValueError(f"`sample_size` must be divisible by {factor} (one halving a block), got {sample_size}.")
    return height, width


def check_classes(num_class_embeds: int | None):
    """Raises ValueError for a number of classes below 1."""
    if num_class_embeds is not None and num_class_embeds < 1:
        raise ValueError(f"`num_class_embeds` must be at least 1 or None, got {num_class_embeds}.")


def check_kernels(number: int, size: int):
    """Raises ValueError for kernels of minibatch discrimination that cannot be."""
    if number < 0 or size < 1:
        rule = "`num_minibatch_kernels` must be at least 0 and `minibatch_kernel_size` at least 1"
        raise ValueError(f"{rule}, got {number} and {size}.")


def init_like_keras(*layers: nn.Module):
    """Initialises weights as Keras does."""
    for layer in layers:
        nn.init.xavier_uniform_(layer.get_parameter("weight"))
        nn.init.zeros_(layer.get_parameter("bias"))


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
