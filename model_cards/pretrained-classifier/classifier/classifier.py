"""Small image classifiers: the feature space of evaluation, and the networks that pretraining starts.

`ImageClassifier`: five times convolution, batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167), ReLU; then
global average pooling (Lin et al. 2013, arXiv 1312.4400, Sec. 3.2) and a linear layer. `DenseClassifier`: dense
layers. All but the last layer have the names of those in `FeatureAutoencoder` and `DenseAutoencoder`, and so can be
initialised from them (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17, Unsupervised Pretraining Using Stacked
Autoencoders).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import nn


@dataclass
class ImageClassifierOutput(BaseOutput):
    """Output of `ImageClassifier` and `DenseClassifier`.

    Args:
        logits: (B, `num_classes`).
        features: (B, K), input of the last layer; K is the last of `block_out_channels` or `hidden_sizes`.
    """

    logits: torch.Tensor
    features: torch.Tensor | None = None  # accelerate needs the default under mixed precision


class ImageClassifier(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to features and class logits.

    Args:
        block_out_channels: channels of the 3 x 3 convolutions.
        strides: their strides.
        mean, std: of pixels in [0, 1], by which the images are normalised; Fashion MNIST's by default.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()

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
        """Computes the logits of `sample` and the features before the last layer."""
        sample = ((sample + 1) / 2 - self.config["mean"]) / self.config["std"]
        features = self.body(sample).mean((2, 3))  # (B, C, H, W) -> (B, K, H / 4, W / 4) -> (B, K)
        logits = self.head(features)
        return ImageClassifierOutput(logits, features) if return_dict else (logits, features)


def convolution(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Returns a 3 x 3 convolution with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class DenseClassifier(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to features and class logits; the layers see pixels in [0, 1].

    Args:
        hidden_sizes: units of the hidden layers, each followed by a ReLU.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ()
    _supports_group_offloading = False  # its hooks see calls, and a layer is not called

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
        layers = nn.ModuleList(
            nn.ModuleDict({"encoder": nn.Linear(before, after)}) for before, after in itertools.pairwise(sizes)
        )
        self.layers = cast("Sequence[nn.ModuleDict]", layers)
        self.head = nn.Linear(sizes[-1], num_classes)
        for layer in (*(layer["encoder"] for layer in self.layers), self.head):  # as in Keras (Glorot & Bengio 2010)
            nn.init.xavier_uniform_(layer.get_parameter("weight"))
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> ImageClassifierOutput | tuple:
        """Computes the logits of `sample` and the features before the last layer."""
        features = ((sample + 1) / 2).flatten(1)  # (B, C, H, W) -> (B, C H W)
        for layer in self.layers:
            features = layer["encoder"](features).relu()
        logits = self.head(features)
        return ImageClassifierOutput(logits, features) if return_dict else (logits, features)
