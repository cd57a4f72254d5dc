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
    from genhub.models.classifier import ImageClassifier
    from genhub.models.unet_patch import PatchUNet2DModel
    from genhub.pipelines import CosineDDPMPipeline, ImageClassificationPipeline
    from genhub.schedulers.scheduling_cosine_ddpm import CosineDDPMScheduler
    from genhub.training.train import train

# Imported on first use: diffusers' models and pipelines take seconds to import, and not every use needs them
_PLACES = {
    "AutoPipeline": "genhub.hub",
    "CosineDDPMPipeline": "genhub.pipelines",
    "CosineDDPMScheduler": "genhub.schedulers.scheduling_cosine_ddpm",
    "DiffusionPipeline": "diffusers",
    "ImageClassificationPipeline": "genhub.pipelines",
    "ImageClassifier": "genhub.models.classifier",
    "ModelMixin": "diffusers",
    "PatchUNet2DModel": "genhub.models.unet_patch",
    "SchedulerMixin": "diffusers",
    "push": "genhub.hub",
    "save_repo": "genhub.hub",
    "train": "genhub.training.train",
}

__all__ = [
    "AutoPipeline",
    "CosineDDPMPipeline",
    "CosineDDPMScheduler",
    "DiffusionPipeline",
    "ImageClassificationPipeline",
    "ImageClassifier",
    "ModelMixin",
    "PatchUNet2DModel",
    "SchedulerMixin",
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
