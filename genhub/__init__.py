"""The classic generative models of small images as first-class citizens of the Hugging Face ecosystem.

a recipe (recipes/*.yaml)                       one experiment: data, components, objective, optimizers, pipeline
  -> data/              images, uint8 -> [-1, 1]
  -> models/            a model computes
  -> objectives/        an objective gives the losses
  -> training/          the loop updates the weights
  -> pipelines/         a pipeline generates
  -> repository/        weights, source and card: a repository that loads without us
  -> evaluation/        one protocol for all of them: metrics into metrics.json and onto the card

genhub.train("ddpm-quick")                      # the same as `genhub train ddpm-quick`
pipe = genhub.AutoPipeline.from_pretrained("runs/ddpm-quick")
pipe(batch_size=16).images[0].save("one.png")
"""

import importlib

from genhub.version import VERSION as __version__  # noqa: F401

# Each public name and where it is defined: imported on first use, as diffusers takes seconds to import
_MODULES = {
    "AutoPipeline": "genhub.repository.load",
    "AutoencoderPipeline": "genhub.pipelines.pipeline_autoencoder",
    "BoltzmannPipeline": "genhub.pipelines.pipeline_boltzmann",
    "ConvAutoencoder": "genhub.models.autoencoder_conv",
    "ConvVAE": "genhub.models.autoencoder_vae_conv",
    "CosineDDPMPipeline": "genhub.pipelines.pipeline_cosine_ddpm",
    "CosineDDPMScheduler": "genhub.schedulers.scheduling_cosine_ddpm",
    "DCGANDiscriminator": "genhub.models.gan_dcgan",
    "DCGANGenerator": "genhub.models.gan_dcgan",
    "DeepBeliefNet": "genhub.models.boltzmann",
    "DenseAutoencoder": "genhub.models.autoencoder_dense",
    "DenseClassifier": "genhub.models.classifier",
    "DenseDiscriminator": "genhub.models.gan_dense",
    "DenseGenerator": "genhub.models.gan_dense",
    "DenseVAE": "genhub.models.autoencoder_vae_dense",
    "DiffusionPipeline": "diffusers",
    "FeatureAutoencoder": "genhub.models.autoencoder_features",
    "GANPipeline": "genhub.pipelines.pipeline_gan",
    "ImageClassificationPipeline": "genhub.pipelines.pipeline_classifier",
    "ImageClassifier": "genhub.models.classifier",
    "LeanUNet2DModel": "genhub.models.unet_lean",
    "LinearDecay": "genhub.training.optimizers",
    "ModelMixin": "diffusers",
    "Muon": "genhub.training.optimizers",
    "PatchUNet2DModel": "genhub.models.unet_patch",
    "ProgressiveDiscriminator": "genhub.models.gan_progressive",
    "ProgressiveGenerator": "genhub.models.gan_progressive",
    "RecurrentAutoencoder": "genhub.models.autoencoder_recurrent",
    "SchedulerMixin": "diffusers",
    "StyleGANGenerator": "genhub.models.gan_stylegan",
    "VAEPipeline": "genhub.pipelines.pipeline_vae",
    "demo": "genhub.commands.demo",
    "evaluate": "genhub.commands.evaluate",
    "export": "genhub.commands.export",
    "figure": "genhub.commands.figure",
    "generate": "genhub.commands.generate",
    "page": "genhub.commands.page",
    "push": "genhub.repository.push",
    "record_digests": "genhub.repository.save",
    "save_repo": "genhub.repository.save",
    "train": "genhub.training.run",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'genhub' has no attribute {name!r}")
    installed = importlib.import_module("genhub.repository.installed")  # registers genhub with diffusers
    return installed.installed(getattr(importlib.import_module(_MODULES[name]), name))


def __dir__():
    return [*globals(), *__all__]
