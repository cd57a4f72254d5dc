"""A tiny instance of every pipeline: each public class, and mixtures with classes of diffusers and transformers."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tiny import tiny_model
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import genhub


@dataclass
class TinyPipeline:
    """How to make a pipeline, and how to ask it for two images.

    Args:
        arguments: of its call; "image" is the shape of the images that it is called with.
        is_plain: plain diffusers has all classes, of its own or of transformers.
    """

    make: Callable[[], DiffusionPipeline]
    arguments: dict = field(default_factory=lambda: {"batch_size": 2})
    is_plain: bool = False


# Python for any interpreter, with or without genhub
CALL = '''
import torch

def call(pipe, arguments, seeds=(0, 1), **options):
    """Calls a pipeline with a generator for each image, or with images from black to white, and returns its output."""
    pipe.set_progress_bar_config(disable=True)
    if "image" in arguments:
        shape = torch.Size(arguments["image"])
        arguments = arguments | {"image": torch.linspace(0, 1, shape.numel()).reshape(shape)}
    else:
        arguments = arguments | {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}
    return pipe(**arguments, **options)

def tensor(pipe, arguments, seeds=(0, 1)):
    """Returns the images or probabilities of a call."""
    if "classifier" in pipe.components:
        return call(pipe, arguments).probabilities
    return call(pipe, arguments, seeds, output_type="pt").images
'''
exec(CALL)


def brighter(model):
    """Returns a variational autoencoder whose images differ and fill [0, 1]."""
    with torch.no_grad():
        model.to_pixels.weight.mul_(4)
        model.to_pixels.bias.fill_(0.0 if model.config.likelihood == "bernoulli" else 0.5)
    return model


def heavier(model):
    """Returns a Boltzmann machine whose units depend on each other."""
    for layer in model.layers:
        layer.pairs.weight.data.mul_(50)
    return model


def with_mean_style(model):
    """Returns a style-based generator that has a mean style, and whose noise leaves a trace."""
    model.mean_style.copy_(torch.linspace(-1, 1, 4))
    for name, parameter in model.named_parameters():
        if name.endswith("noise_scale"):
            parameter.data.fill_(0.5)
    return model


def tiny_vae() -> AutoencoderKL:
    """Returns an autoencoder that halves images of three channels once, to one channel."""
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderKL(**blocks, latent_channels=1, block_out_channels=[8, 8], norm_num_groups=2).eval()


def lively(model):
    """Returns a model in which no layer starts at 0, so that each leaves a trace."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def tiny_stable_diffusion() -> StableDiffusionPipeline:
    """Returns a text-to-image pipeline of random weights, whose tokenizer knows the letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=4,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            in_channels=1,
            out_channels=1,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            sample_size=16,
        )
        config = CLIPTextConfig(
            vocab_size=len(tokens),
            max_position_embeddings=16,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
        text_encoder = CLIPTextModel(config)
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=CLIPTokenizer({token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=16),
        unet=unet.eval(),
        scheduler=DDIMScheduler(num_train_timesteps=20, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def diffusion(network, scheduler, **options):
    return genhub.CosineDDPMPipeline(network, scheduler, num_inference_steps=4, **options)


OF_GENHUB = {
    "AutoencoderPipeline": TinyPipeline(
        lambda: genhub.AutoencoderPipeline(tiny_model("DenseAutoencoder", "tied")), {"image": (2, 1, 8, 8)}
    ),
    "AutoencoderPipeline, colour": TinyPipeline(
        lambda: genhub.AutoencoderPipeline(tiny_model("ConvAutoencoder", "colour")), {"image": (2, 3, 8, 8)}
    ),
    "BoltzmannPipeline": TinyPipeline(
        lambda: genhub.BoltzmannPipeline(
            heavier(tiny_model("DeepBeliefNet", latent_channels=16)), num_inference_steps=4
        )
    ),
    "CosineDDPMPipeline": TinyPipeline(
        lambda: diffusion(tiny_model("PatchUNet2DModel", "colour"), genhub.CosineDDPMScheduler())
    ),
    "CosineDDPMPipeline, null class": TinyPipeline(
        lambda: diffusion(tiny_model("PatchUNet2DModel", "conditional"), genhub.CosineDDPMScheduler(), num_classes=3),
        {"class_labels": [0, 2], "guidance_scale": 2.0},
    ),
    "CosineDDPMPipeline, guide": TinyPipeline(
        lambda: diffusion(
            lively(tiny_model("LeanUNet2DModel", "conditional")),
            genhub.CosineDDPMScheduler(prediction_type="v_prediction"),
            guidance_scale=2.0,
            guide=lively(tiny_model("LeanUNet2DModel", "conditional", seed=1)),
        ),
        {"class_labels": [0, 2]},
    ),
    "GANPipeline": TinyPipeline(lambda: genhub.GANPipeline(tiny_model("DenseGenerator"))),
    "GANPipeline, styles": TinyPipeline(
        lambda: genhub.GANPipeline(with_mean_style(tiny_model("StyleGANGenerator", "colour"))),
        {"batch_size": 2, "truncation": 0.5},
    ),
    "GANPipeline, classes": TinyPipeline(
        lambda: genhub.GANPipeline(tiny_model("DCGANGenerator", "conditional")), {"class_labels": [0, 3]}
    ),
    "ImageClassificationPipeline": TinyPipeline(
        lambda: genhub.ImageClassificationPipeline(tiny_model("ImageClassifier", "colour")), {"image": (2, 3, 8, 8)}
    ),
    "VAEPipeline": TinyPipeline(lambda: genhub.VAEPipeline(brighter(tiny_model("ConvVAE", "bernoulli")))),
    "VAEPipeline, classes": TinyPipeline(
        lambda: genhub.VAEPipeline(brighter(tiny_model("DenseVAE", "colour of a class"))), {"class_labels": [0, 3]}
    ),
}
MIXTURES = {
    "DDPMPipeline, network of genhub": TinyPipeline(
        lambda: DDPMPipeline(tiny_model("PatchUNet2DModel"), DDPMScheduler(num_train_timesteps=20)),
        {"batch_size": 2, "num_inference_steps": 3},
    ),
    "DDPMPipeline, scheduler of genhub": TinyPipeline(
        lambda: DDPMPipeline(tiny_model("UNet2DModel"), genhub.CosineDDPMScheduler(num_train_timesteps=20)),
        {"batch_size": 2, "num_inference_steps": 3},
    ),
    "DDIMPipeline, network of genhub": TinyPipeline(
        lambda: DDIMPipeline(tiny_model("PatchUNet2DModel"), DDIMScheduler(num_train_timesteps=20)),
        {"batch_size": 2, "num_inference_steps": 3},
    ),
    "CosineDDPMPipeline, parts of diffusers": TinyPipeline(
        lambda: diffusion(tiny_model("UNet2DModel"), DDIMScheduler(num_train_timesteps=20))
    ),
    "CosineDDPMPipeline, as diffusers has it": TinyPipeline(
        lambda: diffusion(tiny_model("UNet2DModel"), genhub.CosineDDPMScheduler(num_train_timesteps=20)),
        {"batch_size": 2, "num_inference_steps": 4},
        is_plain=True,
    ),
    "DDPMPipeline": TinyPipeline(
        lambda: DDPMPipeline(tiny_model("UNet2DModel"), DDPMScheduler(num_train_timesteps=20)),
        {"batch_size": 2, "num_inference_steps": 3},
        is_plain=True,
    ),
    "StableDiffusionPipeline": TinyPipeline(
        tiny_stable_diffusion,
        {"prompt": ["a shirt", "bag"], "num_inference_steps": 2, "height": 16, "width": 16},
        is_plain=True,
    ),
}
PIPELINES = OF_GENHUB | MIXTURES
OF_GENHUB_OR_LATENT = OF_GENHUB | {
    "CosineDDPMPipeline, latents": TinyPipeline(
        lambda: diffusion(
            tiny_model("PatchUNet2DModel"), genhub.CosineDDPMScheduler(clip_sample=False), vae=tiny_vae()
        )
    ),
}
