"""The pipelines as they are installed: each is the class of its file, which travels alone with the weights, and loads
its parts from the installed packages by their names."""

import os
from pathlib import Path

from diffusers.pipelines import pipeline_loading_utils

from genhub.pipelines import (
    pipeline_autoencoder,
    pipeline_classifier,
    pipeline_cosine_ddpm,
    pipeline_gan,
    pipeline_vae,
)
from genhub.repository.load import DOWNLOAD_ARGUMENTS, download, resolve

# The name under which `save_pretrained` records our classes; without it, it would write where they are defined.
# LOADABLE_CLASSES is private in diffusers: this is the one place that uses it, and a test watches it.
pipeline_loading_utils.LOADABLE_CLASSES.setdefault("genhub", {})


class InstalledClasses:
    """Makes `from_pretrained` of a pipeline take its classes from genhub and diffusers as installed, by their
    names."""

    is_installed = True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Loads a pipeline as in diffusers, and never a pickle."""
        return super().from_pretrained(pretrained_model_name_or_path, **{**kwargs, "use_safetensors": True})

    @classmethod
    def download(cls, pretrained_model_name, **kwargs):
        """Downloads a repository without its source files."""
        given = {k: kwargs[k] for k in DOWNLOAD_ARGUMENTS if kwargs.get(k) is not None}
        return str(download(pretrained_model_name, **given))

    @classmethod
    def load_config(cls, pretrained_model_name_or_path, **kwargs):
        """Reads model_index.json, checks the weights that it records, and names the installed classes."""
        loaded = super().load_config(pretrained_model_name_or_path, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        if os.path.isdir(pretrained_model_name_or_path) and "_class_name" in config:
            resolve(Path(pretrained_model_name_or_path), config)
        return loaded


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
