"""Published networks with one part changed, which only studies train: `class: networks.NAME` in their recipes."""

import functools

import torch
from torch import nn

from genhub.models.autoencoder_dense import DenseAutoencoder
from genhub.models.autoencoder_vae_conv import ConvVAE
from genhub.models.autoencoder_vae_dense import DenseVAE
from genhub.models.gan_dcgan import DCGANDiscriminator


class OldDenseAutoencoder(DenseAutoencoder):
    """Its weights start as was common before Glorot & Bengio (2010, Eq. 1), uniform within 1/sqrt(inputs)."""

    @functools.wraps(DenseAutoencoder.__init__)
    def __init__(self, *args, **arguments):
        super().__init__(*args, **arguments)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()  # PyTorch's default is that start
                nn.init.zeros_(layer.bias)


class DeviationVAE(DenseVAE):
    """Its encoder outputs sigma in place of gamma = log sigma^2; only |sigma| matters."""

    def encode(
        self, sample: torch.Tensor, class_labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mean, sigma = super().encode(sample, class_labels)
        return mean, sigma.square().log()


class NormalizedConvVAE(ConvVAE):
    """With batch normalisation (Ioffe & Szegedy 2015, Keras's constants) between each convolution and its ReLU."""

    @functools.wraps(ConvVAE.__init__)
    def __init__(self, *args, **arguments):
        super().__init__(*args, **arguments)
        for layers in (self.encoder, self.decoder):
            for depth, layer in enumerate(layers):
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    norm = nn.BatchNorm2d(layer.out_channels, eps=1e-3, momentum=0.01)
                    layers[depth] = nn.Sequential(layer, norm)


class PositiveDCGANDiscriminator(DCGANDiscriminator):
    """Sees pixels in [0, 1]. The fakes of `DCGANGenerator`, so seen, are sigmoid(2 y) of its last outputs y."""

    def forward(self, sample: torch.Tensor, *args, **arguments):
        return super().forward((sample + 1) / 2, *args, **arguments)
