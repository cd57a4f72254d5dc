"""Small classifiers of images: the feature space of evaluation, and the networks of pretraining.

`ImageClassifier`: five times convolution, batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167), ReLU, with
global average pooling (Lin et al. 2013, arXiv 1312.4400, Sec. 3.2) before a linear layer. `DenseClassifier`: dense
layers under a linear one. Their lower layers bear the names that they have in `FeatureAutoencoder` and in
`DenseAutoencoder`, and so can start from these (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17, Unsupervised
Pretraining Using Stacked Autoencoders).
"""

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import nn


@dataclass
class ImageClassifierOutput(BaseOutput):
    """What a classifier says of B images.

    Args:
        logits: (B, `num_classes`).
        features: (B, K), what the last linear layer sees: K is the last of `block_out_channels` or `hidden_sizes`.
    """

    logits: torch.Tensor
    features: torch.Tensor | None = None  # a default, or accelerate could not rebuild it under mixed precision


class ImageClassifier(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to features and to the logits of their classes.

    Args:
        block_out_channels: channels of each convolution of 3 x 3.
        strides: stride of each convolution.
        mean: of the pixels in [0, 1], which is subtracted; Fashion MNIST's by default.
        std: of the pixels in [0, 1], by which is divided; Fashion MNIST's by default.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        block_out_channels: tuple[int, ...] = (32, 64, 64, 128, 128),
        strides: tuple[int, ...] = (1, 2, 1, 2, 1),
        mean: float = 0.2860,
        std: float = 0.3530,
    ):
        super().__init__()
        if not block_out_channels or len(block_out_channels) != len(strides):
            raise ValueError(
                "`block_out_channels` and `strides` must have one entry for each convolution, got "
                f"{len(block_out_channels)} and {len(strides)}."
            )
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be at least 2, got {num_classes}.")
        if std <= 0:
            raise ValueError(f"`std` must be above 0, got {std}.")
        widths = (in_channels, *block_out_channels)
        self.body = nn.Sequential(
            *(convolution(before, after, s) for before, after, s in zip(widths, widths[1:], strides, strict=False))
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> ImageClassifierOutput | tuple:
        """Returns the logits of `sample`, and the features that they are a linear function of."""
        sample = ((sample + 1) / 2 - self.config.mean) / self.config.std
        features = self.body(sample).mean((2, 3))  # (B, C, H, W) -> (B, K, H / 4, W / 4) -> (B, K)
        logits = self.head(features)
        return ImageClassifierOutput(logits, features) if return_dict else (logits, features)


def convolution(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Returns convolution, normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class DenseClassifier(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to features and to the logits of their classes; within, pixels lie in
    [0, 1].

    Args:
        hidden_sizes: units of the layers between image and head, each followed by ReLU.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        num_classes: int = 10,
        hidden_sizes: tuple[int, ...] = (100, 30),
    ):
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be at least 2, got {num_classes}.")
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        sizes = (in_channels * height * width, *hidden_sizes)
        if not hidden_sizes or min(sizes) < 1:
            raise ValueError(
                f"`sample_size` and `hidden_sizes` must be at least 1, and one layer or more, got {sizes}."
            )
        self.layers = nn.ModuleList(
            nn.ModuleDict({"encoder": nn.Linear(before, after)})
            for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self.head = nn.Linear(sizes[-1], num_classes)
        for part in (
            *(layer["encoder"] for layer in self.layers),
            self.head,
        ):  # as Keras (Glorot & Bengio 2010, Eq. 16)
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> ImageClassifierOutput | tuple:
        """Returns the logits of `sample`, and the features that they are a linear function of."""
        features = ((sample + 1) / 2).flatten(1)  # (B, C, H, W) -> (B, C H W)
        for layer in self.layers:
            features = layer["encoder"](features).relu()
        logits = self.head(features)
        return ImageClassifierOutput(logits, features) if return_dict else (logits, features)
