"""A perfect denoiser, and pipelines of it and of tiny networks with every scheduler."""

import numpy as np
import pytest
import torch
from diffusers import (
    ConfigMixin,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    ModelMixin,
    UniPCMultistepScheduler,
)
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from tiny import tiny_model

from genhub import CosineDDPMPipeline, CosineDDPMScheduler

SCHEDULERS = [
    *(CosineDDPMScheduler, DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler),
    *(EulerAncestralDiscreteScheduler, HeunDiscreteScheduler, UniPCMultistepScheduler),
]
every_scheduler = pytest.mark.parametrize("scheduler", SCHEDULERS)


class Memory(ModelMixin, ConfigMixin):
    """The perfect denoiser of a data set that holds one image of each class; remembers how much noise it saw."""

    @register_to_config
    def __init__(self, in_channels=1, sample_size=4, num_class_embeds=None, prediction_type="epsilon"):
        super().__init__()
        shape = (num_class_embeds or 1, in_channels, sample_size, sample_size)
        self.images = torch.nn.Parameter(torch.rand(shape, generator=generators(9)[0]) * 0.6 - 0.3)
        alpha_bar = CosineDDPMScheduler().alphas_cumprod.double()
        self.sigmas, self.seen = (1 / alpha_bar - 1).sqrt().numpy(), []

    def forward(self, sample, timestep, class_labels=None):
        x_0 = self.images[torch.zeros(len(sample), dtype=torch.long) if class_labels is None else class_labels]
        sigma = np.interp(float(timestep), np.arange(len(self.sigmas)), self.sigmas)
        signal, noise = 1 / (1 + sigma**2) ** 0.5, sigma / (1 + sigma**2) ** 0.5
        epsilon = (sample - signal * x_0) / noise
        self.seen.append(epsilon.std().item())
        predictions = {"epsilon": epsilon, "v_prediction": signal * epsilon - noise * x_0, "sample": x_0}
        return UNet2DOutput(sample=predictions[self.config.prediction_type])


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def pipeline(unet, scheduler=CosineDDPMScheduler, num_classes=None, guidance_scale=1.0, **options):
    scheduler = scheduler.from_config(CosineDDPMScheduler(**options).config)
    pipe = CosineDDPMPipeline(unet, scheduler, 4, num_classes, guidance_scale)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_pipeline(variant="plain", scheduler=CosineDDPMScheduler, **options):
    return pipeline(tiny_model("PatchUNet2DModel", variant), scheduler, **options)


def sample(pipe, *seeds, **arguments):
    """Images (B, C, H, W) in [0, 1] of one generator, or of one generator for each image."""
    generator = generators(*seeds)
    generator = generator[0] if len(seeds) == 1 else generator
    return pipe(generator=generator, **{"output_type": "pt"} | arguments).images


def rows_seen(pipe):
    """The batch size of each call of the network from now on."""
    seen = []
    pipe.unet.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen
