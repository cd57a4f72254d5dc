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
    from genhub.models.unet_patch import PatchUNet2DModel
    from genhub.pipelines import (
        AutoencoderPipeline,
        CosineDDPMPipeline,
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
    "DenseAutoencoder": "genhub.models.autoencoder_dense",
    "DenseClassifier": "genhub.models.classifier",
    "DenseVAE": "genhub.models.autoencoder_vae_dense",
    "DiffusionPipeline": "diffusers",
    "FeatureAutoencoder": "genhub.models.autoencoder_features",
    "ImageClassificationPipeline": "genhub.pipelines",
    "ImageClassifier": "genhub.models.classifier",
    "ModelMixin": "diffusers",
    "PatchUNet2DModel": "genhub.models.unet_patch",
    "RecurrentAutoencoder": "genhub.models.autoencoder_recurrent",
    "SchedulerMixin": "diffusers",
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
    "DenseAutoencoder",
    "DenseClassifier",
    "DenseVAE",
    "DiffusionPipeline",
    "FeatureAutoencoder",
    "ImageClassificationPipeline",
    "ImageClassifier",
    "ModelMixin",
    "PatchUNet2DModel",
    "RecurrentAutoencoder",
    "SchedulerMixin",
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
