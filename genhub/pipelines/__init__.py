"""The pipelines as they are installed: each is the class of its file, which travels alone with the weights, and loads
its parts from the installed packages by their names."""

from genhub.hub import InstalledClasses
from genhub.pipelines import (
    pipeline_autoencoder,
    pipeline_classifier,
    pipeline_cosine_ddpm,
    pipeline_gan,
    pipeline_vae,
)


class AutoencoderPipeline(InstalledClasses, pipeline_autoencoder.AutoencoderPipeline):
    __doc__ = pipeline_autoencoder.AutoencoderPipeline.__doc__


class CosineDDPMPipeline(InstalledClasses, pipeline_cosine_ddpm.CosineDDPMPipeline):
    __doc__ = pipeline_cosine_ddpm.CosineDDPMPipeline.__doc__


class GANPipeline(InstalledClasses, pipeline_gan.GANPipeline):
    __doc__ = pipeline_gan.GANPipeline.__doc__


class ImageClassificationPipeline(InstalledClasses, pipeline_classifier.ImageClassificationPipeline):
    __doc__ = pipeline_classifier.ImageClassificationPipeline.__doc__


class VAEPipeline(InstalledClasses, pipeline_vae.VAEPipeline):
    __doc__ = pipeline_vae.VAEPipeline.__doc__
