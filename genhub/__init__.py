"""The classic generative models of small images as first-class citizens of the Hugging Face ecosystem.

a recipe (recipes/*.yaml)                       one experiment: data, components, objective, optimizers, pipeline
  -> data/              images, uint8 -> [-1, 1]
  -> models/            a model computes
  -> objectives/        an objective judges
  -> training/          the loop moves the weights
  -> pipelines/         a pipeline generates
  -> hub.py             weights, source and card: a repository that loads without us
  -> evaluation/        one yardstick for all of them: figures into metrics.json and onto the card

genhub.train("ddpm-quick")                      # the same as `genhub train ddpm-quick`
pipe = genhub.AutoPipeline.from_pretrained("runs/ddpm-quick")
pipe(batch_size=16).images[0].save("one.png")
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin

    from genhub.hub import AutoPipeline, push, save_repo
    from genhub.models.autoencoder_conv import ConvAutoencoder
    from genhub.models.autoencoder_dense import DenseAutoencoder
    from genhub.models.autoencoder_features import FeatureAutoencoder
    from genhub.models.autoencoder_recurrent import RecurrentAutoencoder
    from genhub.models.autoencoder_vae_conv import ConvVAE
    from genhub.models.autoencoder_vae_dense import DenseVAE
    from genhub.models.classifier import DenseClassifier, ImageClassifier
    from genhub.models.gan_dcgan import DCGANDiscriminator, DCGANGenerator
    from genhub.models.gan_dense import DenseDiscriminator, DenseGenerator
    from genhub.models.gan_progressive import ProgressiveDiscriminator, ProgressiveGenerator
    from genhub.models.gan_stylegan import StyleGANGenerator
    from genhub.models.unet_patch import PatchUNet2DModel
    from genhub.pipelines import (
        AutoencoderPipeline,
        CosineDDPMPipeline,
        GANPipeline,
        ImageClassificationPipeline,
        VAEPipeline,
    )
    from genhub.schedulers.scheduling_cosine_ddpm import CosineDDPMScheduler
    from genhub.training.train import train

# Imported on first use: diffusers' models and pipelines take seconds to import, and not every use needs them
_PLACES = {
    "AutoPipeline": "genhub.hub",
    "AutoencoderPipeline": "genhub.pipelines",
    "ConvAutoencoder": "genhub.models.autoencoder_conv",
    "ConvVAE": "genhub.models.autoencoder_vae_conv",
    "CosineDDPMPipeline": "genhub.pipelines",
    "CosineDDPMScheduler": "genhub.schedulers.scheduling_cosine_ddpm",
    "DCGANDiscriminator": "genhub.models.gan_dcgan",
    "DCGANGenerator": "genhub.models.gan_dcgan",
    "DenseAutoencoder": "genhub.models.autoencoder_dense",
    "DenseClassifier": "genhub.models.classifier",
    "DenseDiscriminator": "genhub.models.gan_dense",
    "DenseGenerator": "genhub.models.gan_dense",
    "DenseVAE": "genhub.models.autoencoder_vae_dense",
    "DiffusionPipeline": "diffusers",
    "FeatureAutoencoder": "genhub.models.autoencoder_features",
    "GANPipeline": "genhub.pipelines",
    "ImageClassificationPipeline": "genhub.pipelines",
    "ImageClassifier": "genhub.models.classifier",
    "ModelMixin": "diffusers",
    "PatchUNet2DModel": "genhub.models.unet_patch",
    "ProgressiveDiscriminator": "genhub.models.gan_progressive",
    "ProgressiveGenerator": "genhub.models.gan_progressive",
    "RecurrentAutoencoder": "genhub.models.autoencoder_recurrent",
    "SchedulerMixin": "diffusers",
    "StyleGANGenerator": "genhub.models.gan_stylegan",
    "VAEPipeline": "genhub.pipelines",
    "push": "genhub.hub",
    "save_repo": "genhub.hub",
    "train": "genhub.training.train",
}

__all__ = [
    "AutoPipeline",
    "AutoencoderPipeline",
    "ConvAutoencoder",
    "ConvVAE",
    "CosineDDPMPipeline",
    "CosineDDPMScheduler",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DenseAutoencoder",
    "DenseClassifier",
    "DenseDiscriminator",
    "DenseGenerator",
    "DenseVAE",
    "DiffusionPipeline",
    "FeatureAutoencoder",
    "GANPipeline",
    "ImageClassificationPipeline",
    "ImageClassifier",
    "ModelMixin",
    "PatchUNet2DModel",
    "ProgressiveDiscriminator",
    "ProgressiveGenerator",
    "RecurrentAutoencoder",
    "SchedulerMixin",
    "StyleGANGenerator",
    "VAEPipeline",
    "push",
    "save_repo",
    "train",
]


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module 'genhub' has no attribute {name!r}")
    importlib.import_module("genhub.hub")  # names our classes to diffusers, before any of them is saved
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__():
    return [*globals(), *__all__]
