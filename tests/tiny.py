"""Tiny constructor arguments and inputs of every public model and scheduler: the only such list."""

from collections.abc import Callable
from dataclasses import dataclass, field

import diffusers
import torch

import genhub


@dataclass(frozen=True)
class Tiny:
    """How to build a model class small, how to call it, and what it gives back.

    Args:
        arguments: the smallest model of the class that still has all of its parts.
        inputs: (config, batch size, source of randomness) -> arguments of `forward`.
        shapes: (config, batch size) -> the shape of each field of the output.
        variants: name -> changes of `arguments` for which the contract holds as well.
        refused: (changes of `arguments`, what the error says).
    """

    arguments: dict
    inputs: Callable[[dict, int, torch.Generator], dict]
    shapes: Callable[[dict, int], dict]
    variants: dict[str, dict] = field(default_factory=lambda: {"plain": {}})
    refused: tuple[tuple[dict, str], ...] = ()


def image_shape(config, batch_size: int) -> tuple[int, ...]:
    size = config["sample_size"]
    return (batch_size, config["in_channels"], *([size] * 2 if isinstance(size, int) else size))


def denoiser_inputs(config, batch_size: int, generator: torch.Generator) -> dict:
    inputs = {
        "sample": torch.randn(image_shape(config, batch_size), generator=generator),
        "timestep": torch.randint(4000, (batch_size,), generator=generator),
    }
    if config["num_class_embeds"]:
        inputs["class_labels"] = torch.randint(config["num_class_embeds"], (batch_size,), generator=generator)
    return inputs


def denoiser_shapes(config, batch_size: int) -> dict:
    return {"sample": image_shape(config, batch_size)}


DENOISER = {
    "sample_size": 8,
    "in_channels": 1,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}
DENOISER_VARIANTS = {
    "plain": {},
    "colour": {"in_channels": 3},
    "wide": {"sample_size": [8, 16]},
    "conditional": {"num_class_embeds": 4},
}


def image_inputs(config, batch_size: int, generator: torch.Generator) -> dict:
    return {"sample": torch.rand(batch_size, config["in_channels"], 8, 8, generator=generator) * 2 - 1}


def classifier_shapes(config, batch_size: int) -> dict:
    return {
        "logits": (batch_size, config["num_classes"]),
        "features": (batch_size, (config.get("block_out_channels") or config["hidden_sizes"])[-1]),
    }


def autoencoder_inputs(config, batch_size: int, generator: torch.Generator) -> dict:
    """Images, one draw of each posterior for a model that has one, and a class for each image if it knows classes."""
    inputs = {"sample": torch.rand(image_shape(config, batch_size), generator=generator) * 2 - 1}
    if "likelihood" in config:
        inputs["noise"] = torch.randn(batch_size, config["latent_channels"], generator=generator)
    if config.get("num_class_embeds"):
        inputs["class_labels"] = torch.randint(config["num_class_embeds"], (batch_size,), generator=generator)
    return inputs


def autoencoder_shapes(config, batch_size: int) -> dict:
    latents = (batch_size, config["latent_channels"])
    return {"sample": image_shape(config, batch_size), "latents": latents}


def vae_shapes(config, batch_size: int) -> dict:
    shapes = autoencoder_shapes(config, batch_size)
    shapes |= {"mean": shapes["latents"], "logvar": shapes["latents"]}
    return shapes | ({"logits": shapes["sample"]} if config["likelihood"] == "bernoulli" else {})


AUTOENCODER = {"sample_size": 8, "in_channels": 1, "latent_channels": 4}
AUTOENCODER_VARIANTS = {"plain": {}, "colour": {"in_channels": 3}, "wide": {"sample_size": [8, 16]}}
VAE_VARIANTS = AUTOENCODER_VARIANTS | {
    "bernoulli": {"likelihood": "bernoulli"},
    "gaussian": {"likelihood": "gaussian", "sigma": 0.1},
    "conditional": {"num_class_embeds": 4},
    "colour of a class": {"in_channels": 3, "num_class_embeds": 4, "sample_size": [16, 8]},
}
VAE_REFUSED = (
    ({"num_class_embeds": 0}, "`num_class_embeds` must be at least 1 or None, got 0"),
    ({"likelihood": "laplace"}, "`likelihood` must be one of gaussian, bernoulli, got 'laplace'"),
    ({"sigma": 0.0}, "`sigma` must be above 0 and finite, got 0.0"),
    ({"sigma": float("inf")}, "`sigma` must be above 0 and finite, got inf"),
    ({"sigma": float("nan")}, "`sigma` must be above 0 and finite, got nan"),
    ({"latent_channels": 0}, "`latent_channels` must be at least 1, got"),
)


def latent_inputs(config, batch_size: int, generator: torch.Generator) -> dict:
    """Latents, and what else a generator takes: a class, noise, second latents, the share of its newest level."""
    inputs = {"latents": torch.randn(batch_size, config["latent_channels"], generator=generator)}
    if config.get("num_class_embeds"):
        inputs["class_labels"] = torch.randint(config["num_class_embeds"], (batch_size,), generator=generator)
    if "base_size" in config:
        inputs["alpha"] = torch.rand(batch_size, generator=generator)
    if "num_mapping_layers" in config:
        sizes = [config["base_size"] * 2**depth for depth in range(len(config["block_out_channels"]))]
        inputs["noise"] = torch.randn(batch_size, sum(2 * size**2 for size in sizes), generator=generator)
        inputs["mixing_latents"] = torch.randn(batch_size, config["latent_channels"], generator=generator)
        inputs["mixing_layer"] = torch.randint(1, 4, (batch_size,), generator=generator)
    return inputs


def generator_shapes(config, batch_size: int) -> dict:
    return {"sample": image_shape(config | {"in_channels": config["out_channels"]}, batch_size)}


def judged_inputs(config, batch_size: int, generator: torch.Generator) -> dict:
    """Images, and what else a discriminator takes: a class, numbers for dropout, the share of its newest level."""
    inputs = autoencoder_inputs(config, batch_size, generator)
    if "base_size" in config:
        inputs["alpha"] = torch.rand(batch_size, generator=generator)
    if config.get("dropout"):
        (height, width), widths = image_shape(config, 1)[2:], config["block_out_channels"]
        places = sum(c * (height >> depth) * (width >> depth) for depth, c in enumerate(widths, start=1))
        inputs["noise"] = torch.rand(batch_size, places, generator=generator)
    return inputs


def discriminator_shapes(config, batch_size: int) -> dict:
    return {"logits": (batch_size,)}


GENERATOR = {"sample_size": 8, "out_channels": 1, "latent_channels": 4}
GENERATOR_VARIANTS = {"plain": {}, "colour": {"out_channels": 3}, "wide": {"sample_size": [8, 16]}}
GROWING = {"block_out_channels": [4, 8], "base_size": 4}
GROWING_VARIANTS = {"margin": {"sample_size": [6, 8]}}
UNREACHED = (  # sizes and levels of networks that grow
    ({"sample_size": 4}, "`sample_size` must be even, above 4 and at most 8, .*, got 4"),
    ({"sample_size": 10}, "`sample_size` must be even, above 4 and at most 8, .*, got 10"),
    ({"sample_size": 7}, "`sample_size` must be even, .*, got 7"),
    ({"level": 2}, "`level` must lie in 0..1, got 2"),
    ({"block_out_channels": []}, "`block_out_channels` and `base_size` must be at least 1"),
)

MODELS = {
    "DCGANDiscriminator": Tiny(
        arguments={"sample_size": 8, "in_channels": 1, "block_out_channels": [4, 8]},
        inputs=judged_inputs,
        shapes=discriminator_shapes,
        variants=AUTOENCODER_VARIANTS
        | {
            "no dropout": {"dropout": 0.0},
            "conditional": {"num_class_embeds": 4},
            "projection": {"num_class_embeds": 4, "has_projection": True},
            "minibatch discrimination": {"num_minibatch_kernels": 3},
            "batch norm": {"has_batch_norm": True},
        },
        refused=(
            ({"sample_size": 10}, "`sample_size` must be divisible by 4 .*, got 10"),
            ({"block_out_channels": []}, "`block_out_channels` must be at least 1, and one or more"),
            ({"dropout": 1.0}, r"`dropout` must lie in \[0, 1\), got 1.0"),
            ({"num_class_embeds": 0}, "`num_class_embeds` must be at least 1 or None, got 0"),
            ({"has_projection": True}, "`has_projection` must be false without `num_class_embeds`"),
            ({"num_minibatch_kernels": -1}, "`num_minibatch_kernels` must be at least 0 .*, got -1 and 5"),
        ),
    ),
    "DCGANGenerator": Tiny(
        arguments=GENERATOR | {"block_out_channels": [8, 4]},
        inputs=latent_inputs,
        shapes=generator_shapes,
        variants=GENERATOR_VARIANTS | {"conditional": {"num_class_embeds": 4}},
        refused=(
            ({"sample_size": 10}, "`sample_size` must be divisible by 4 .*, got 10"),
            ({"sample_size": 2}, "`sample_size` must be divisible by 4 .*, got 2"),
            ({"latent_channels": 0}, "`latent_channels` must be at least 1, got 0"),
            ({"num_class_embeds": 0}, "`num_class_embeds` must be at least 1 or None, got 0"),
        ),
    ),
    "DenseDiscriminator": Tiny(
        arguments={"sample_size": 8, "in_channels": 1, "hidden_sizes": [12, 8]},
        inputs=judged_inputs,
        shapes=discriminator_shapes,
        variants=AUTOENCODER_VARIANTS,
        refused=(({"hidden_sizes": [0]}, "`sample_size` and `hidden_sizes` must be at least 1, got .*0"),),
    ),
    "DenseGenerator": Tiny(
        arguments=GENERATOR | {"hidden_sizes": [8, 12]},
        inputs=latent_inputs,
        shapes=generator_shapes,
        variants=GENERATOR_VARIANTS,
        refused=(({"latent_channels": 0}, "`latent_channels`, .* must be at least 1, got .0"),),
    ),
    "ProgressiveDiscriminator": Tiny(
        arguments={"sample_size": 8, "in_channels": 1} | GROWING,
        inputs=judged_inputs,
        shapes=discriminator_shapes,
        variants={
            "plain": {},
            "colour": {"in_channels": 3},
            "without its parts": {"is_equalized": False, "has_minibatch_deviation": False},
        }
        | GROWING_VARIANTS,
        refused=UNREACHED,
    ),
    "ProgressiveGenerator": Tiny(
        arguments=GENERATOR | GROWING,
        inputs=latent_inputs,
        shapes=generator_shapes,
        variants={
            "plain": {},
            "colour": {"out_channels": 3},
            "without its parts": {"is_equalized": False, "has_pixel_norm": False},
        }
        | GROWING_VARIANTS,
        refused=(*UNREACHED, ({"latent_channels": 0}, "`latent_channels` must be at least 1, got 0")),
    ),
    "StyleGANGenerator": Tiny(
        arguments=GENERATOR | GROWING | {"num_mapping_layers": 2},
        inputs=latent_inputs,
        shapes=generator_shapes,
        variants={"plain": {}, "colour": {"out_channels": 3}} | GROWING_VARIANTS,
        refused=(
            *UNREACHED,
            ({"num_mapping_layers": 0}, "`num_mapping_layers` must be at least 1, got 0"),
            ({"base_size": 1, "sample_size": 2}, "`base_size` must be at least 2, got 1"),
            ({"mapping_rate": 0.0}, "`mapping_rate` must be above 0 .*, got 0.0"),
        ),
    ),
    "ConvAutoencoder": Tiny(
        arguments=AUTOENCODER | {"block_out_channels": [4, 8], "decoder_channels": [4, 8]},
        inputs=autoencoder_inputs,
        shapes=autoencoder_shapes,
        variants=AUTOENCODER_VARIANTS
        | {
            "odd": {"sample_size": [7, 9]},
            "one halving": {"block_out_channels": [4], "decoder_channels": [4]},
            "three halvings": {"block_out_channels": [4, 4, 4], "decoder_channels": [4, 8, 4]},
            "nearest": {"sample_size": [7, 9], "upsampling": "nearest"},
        },
        refused=(
            ({"upsampling": "bilinear"}, "`upsampling` must be transposed or nearest, got 'bilinear'"),
            ({"decoder_channels": [4]}, "`block_out_channels` and `decoder_channels` must .*, got 2 and 1"),
            ({"block_out_channels": [], "decoder_channels": []}, "`block_out_channels` and .* must .*, got 0 and 0"),
            ({"sample_size": 3}, "`sample_size` must be at least 4"),
            ({"sample_size": [8, 3]}, "`sample_size` must be at least 4 .*, got .8, 3."),
            ({"latent_channels": 0}, "`latent_channels` must be at least 1, got 0"),
        ),
    ),
    "ConvVAE": Tiny(
        arguments=AUTOENCODER | {"block_out_channels": [4, 8], "decoder_channels": [4, 8, 4]},
        inputs=autoencoder_inputs,
        shapes=vae_shapes,
        variants=VAE_VARIANTS
        | {
            "hidden layers": {"hidden_sizes": [16, 12]},
            "one doubling": {"decoder_channels": [4, 4]},
            "hidden layers of a class": {"hidden_sizes": [8], "num_class_embeds": 4, "likelihood": "gaussian"},
        },
        refused=VAE_REFUSED
        + (
            ({"sample_size": 10}, "`sample_size` must be divisible by 4 .*, got 10"),
            ({"sample_size": [8, 10]}, r"`sample_size` must be divisible by 4 .*, got \[8, 10\]"),
            ({"decoder_channels": [4]}, "`decoder_channels` must be at least 2"),
            ({"sample_size": 4}, "`sample_size` must be larger for 2 convolutions, got 4"),
            ({"hidden_sizes": [0]}, "`hidden_sizes` and .* must be at least 1"),
            ({"block_out_channels": []}, "`block_out_channels`, .* must be at least 1"),
            ({"decoder_channels": [0, 4, 4]}, "`decoder_channels` must be at least 1, got .*0, 4, 4"),
        ),
    ),
    "DeepBeliefNet": Tiny(
        arguments=AUTOENCODER,
        inputs=autoencoder_inputs,
        shapes=autoencoder_shapes,
        variants=AUTOENCODER_VARIANTS | {"deep": {"hidden_sizes": [12, 8]}},
        refused=(
            ({"latent_channels": 0}, r"`latent_channels` must be at least 1, got \(64, 0\)"),
            ({"hidden_sizes": [12, 0]}, r"`hidden_sizes` .* must be at least 1, got \(64, 12, 0, 4\)"),
        ),
    ),
    "DenseAutoencoder": Tiny(
        arguments=AUTOENCODER | {"hidden_sizes": [12]},
        inputs=autoencoder_inputs,
        shapes=autoencoder_shapes,
        variants=AUTOENCODER_VARIANTS
        | {
            "tied": {"is_tied": True},
            "tied colour": {"is_tied": True, "in_channels": 3, "hidden_sizes": [12, 8]},
            "linear": {"hidden_sizes": [], "latent_activation": "linear"},
            "deep": {"hidden_sizes": [16, 12, 8]},
            "sigmoid code": {"latent_activation": "sigmoid"},
            "sigmoid": {"activation": "sigmoid", "latent_activation": "sigmoid"},
        },
        refused=(
            ({"activation": "tanh"}, "`activation` must be one of relu, sigmoid, linear, got 'tanh'"),
            ({"latent_activation": "selu"}, "`latent_activation` must be one of relu, sigmoid, linear, got 'selu'"),
            ({"latent_channels": 0}, r"`latent_channels` must be at least 1, got \(64, 12, 0\)"),
            ({"hidden_sizes": [12, 0]}, r"`hidden_sizes` .* must be at least 1, got \(64, 12, 0, 4\)"),
            ({"sample_size": 0}, r"`sample_size`, .* must be at least 1, got \(0, 12, 4\)"),
        ),
    ),
    "DenseVAE": Tiny(
        arguments=AUTOENCODER | {"hidden_sizes": [16, 12]},
        inputs=autoencoder_inputs,
        shapes=vae_shapes,
        variants=VAE_VARIANTS | {"shallow": {"hidden_sizes": []}, "one hidden layer": {"hidden_sizes": [12]}},
        refused=VAE_REFUSED
        + (({"hidden_sizes": [12, 0]}, "`hidden_sizes` and `latent_channels` must be at least 1, got .*12, 0"),),
    ),
    "RecurrentAutoencoder": Tiny(
        arguments=AUTOENCODER | {"hidden_size": 12},
        inputs=autoencoder_inputs,
        shapes=autoencoder_shapes,
        variants=AUTOENCODER_VARIANTS | {"one row": {"sample_size": [1, 8]}},
        refused=(
            ({"hidden_size": 0}, "`hidden_size` must be at least 1, got 0"),
            ({"latent_channels": -1}, "`latent_channels` must be at least 1, got -1"),
        ),
    ),
    "DenseClassifier": Tiny(
        arguments={"sample_size": 8, "in_channels": 1, "num_classes": 3, "hidden_sizes": [12, 4]},
        inputs=autoencoder_inputs,
        shapes=classifier_shapes,
        variants=AUTOENCODER_VARIANTS | {"one layer": {"hidden_sizes": [12]}},
        refused=(
            ({"hidden_sizes": []}, r"`hidden_sizes` must be at least 1, and one layer or more, got \(64,\)"),
            ({"hidden_sizes": [12, 0]}, r"`hidden_sizes` must be at least 1, .*, got \(64, 12, 0\)"),
            ({"sample_size": 0}, r"`sample_size` and `hidden_sizes` must be at least 1, .*, got \(0, 12, 4\)"),
            ({"num_classes": 1}, "`num_classes` must be at least 2, got 1"),
        ),
    ),
    "FeatureAutoencoder": Tiny(
        arguments={"sample_size": 8, "in_channels": 1, "block_out_channels": [4, 8], "strides": [1, 2]}
        | {"latent_channels": 32, "decoder_channels": 4},
        inputs=autoencoder_inputs,
        shapes=autoencoder_shapes,
        variants={
            "plain": {},
            "colour": {"in_channels": 3},
            "wide": {"sample_size": [8, 16]},
            "three convolutions": {"block_out_channels": [4, 8, 8], "strides": [1, 2, 2], "latent_channels": 8},
        },
        refused=(
            ({"strides": [1]}, "`block_out_channels` and `strides` must .*, got 2 and 1"),
            ({"block_out_channels": [], "strides": []}, "`block_out_channels` and `strides` must .*, got 0 and 0"),
            ({"sample_size": 9}, "`sample_size` must be divisible by 2, the strides' product, got 9"),
            ({"sample_size": [8, 9]}, r"`sample_size` must be divisible by 2, the strides' product, got \[8, 9\]"),
            ({"latent_channels": 30}, "`latent_channels` must be a multiple of the 16 positions of the map, got 30"),
            ({"latent_channels": 0}, "`latent_channels` must be a multiple of the 16 positions of the map, got 0"),
            ({"std": 0.0}, "`std` must be above 0, got 0.0"),
        ),
    ),
    "ImageClassifier": Tiny(
        arguments={"in_channels": 1, "num_classes": 3, "block_out_channels": [4, 8], "strides": [1, 2]},
        inputs=image_inputs,
        shapes=classifier_shapes,
        variants={
            "plain": {},
            "colour": {"in_channels": 3},
            "one convolution": {"block_out_channels": [4], "strides": [2]},
            "three convolutions": {"block_out_channels": [4, 8, 8], "strides": [1, 2, 2]},
        },
        refused=(
            ({"strides": [1]}, "`block_out_channels` and `strides` must .*, got 2 and 1"),
            ({"block_out_channels": [], "strides": []}, "`block_out_channels` and `strides` must .*, got 0 and 0"),
            ({"num_classes": 1}, "`num_classes` must be at least 2, got 1"),
            ({"std": 0.0}, "`std` must be above 0, got 0.0"),
            ({"std": -0.5}, "`std` must be above 0, got -0.5"),
        ),
    ),
    "PatchUNet2DModel": Tiny(
        arguments=DENOISER | {"patch_size": 2},
        inputs=denoiser_inputs,
        shapes=denoiser_shapes,
        variants=DENOISER_VARIANTS | {"patches of one pixel": {"patch_size": 1}},
        refused=(
            ({"patch_size": 0}, "`patch_size` must be at least 1, got 0"),
            ({"sample_size": 10}, "`sample_size` must be divisible by 4 .*, got 10"),
            ({"sample_size": [8, 10]}, r"`sample_size` must be divisible by 4 .*, got \[8, 10\]"),
            ({"sample_size": 0}, "`sample_size` must .*, got 0"),
            ({"patch_size": 8}, "`sample_size` must be divisible by 16 .*, got 8"),
            ({"attention_head_dim": 32}, "`attention_head_dim` must .*, got 32"),
            ({"block_out_channels": [8, 16, 16], "sample_size": 16}, "`block_out_channels`"),
        ),
    ),
    "LeanUNet2DModel": Tiny(
        arguments={
            "sample_size": 8,
            "in_channels": 1,
            "block_out_channels": [8, 16],
            "layers_per_block": [1, 1],
            "embedding_channels": 8,
        },
        inputs=denoiser_inputs,
        shapes=denoiser_shapes,
        variants=DENOISER_VARIANTS
        | {
            "patches of one pixel": {"patch_size": 1},
            "one level": {"block_out_channels": [8], "layers_per_block": [2]},
            "linear schedule": {"beta_schedule": "linear"},
        },
        refused=(
            ({"patch_size": 0}, "`patch_size` must be at least 1, got 0"),
            ({"sample_size": 10}, "`sample_size` must be divisible by 4 .*, got 10"),
            ({"sample_size": [8, 10]}, r"`sample_size` must be divisible by 4 .*, got \[8, 10\]"),
            ({"layers_per_block": [1]}, r"`layers_per_block` must have one number for each of 2 levels, got \[1\]"),
            ({"data_std": 0.0}, "`data_std` must be above 0, got 0.0"),
            ({"data_std": float("nan")}, "`data_std` must be above 0, got nan"),
        ),
    ),
    # A class of diffusers that recipes name
    "UNet2DModel": Tiny(DENOISER | {"out_channels": 1}, denoiser_inputs, denoiser_shapes),
}


PATCH_UNET = {  # as a recipe writes it; none of its layers starts at 0
    "class": "genhub.PatchUNet2DModel",
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}


@dataclass(frozen=True)
class TinyScheduler:
    """How to build a scheduler class with few noise levels.

    Args:
        arguments: few noise levels, and what the class cannot do without.
        variants: name -> changes of `arguments` for which the contract holds as well.
        refused: (changes of `arguments`, what the error says).
    """

    arguments: dict
    variants: dict[str, dict] = field(default_factory=lambda: {"plain": {}})
    refused: tuple[tuple[dict, str], ...] = ()


SCHEDULERS = {
    "CosineDDPMScheduler": TinyScheduler(
        arguments={"num_train_timesteps": 50},
        variants={
            "plain": {},
            "offset": {"s": 0.05},
            "cap": {"beta_max": 0.9},
            "offset and cap": {"s": 0.0, "beta_max": 0.99},
            "levels of its own": {"trained_betas": [0.01 + 0.002 * t for t in range(50)]},
            "velocity": {"prediction_type": "v_prediction", "variance_type": "fixed_large", "clip_sample": False},
            "trailing": {"timestep_spacing": "trailing"},
        },
        refused=(
            ({"num_train_timesteps": 0}, "`num_train_timesteps` must be at least 1, got 0"),
            ({"prediction_type": "score"}, "`prediction_type` must be one of .*, got 'score'"),
            ({"timestep_spacing": "karras"}, "`timestep_spacing` must be one of .*, got 'karras'"),
        ),
    ),
}


def model_class(name: str) -> type[diffusers.ModelMixin]:
    return getattr(genhub if name in genhub.__all__ else diffusers, name)


def tiny_model(name: str, variant: str = "plain", seed: int = 0, **changes) -> diffusers.ModelMixin:
    """Returns a tiny model of class `name`, whose weights are a function of `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model_class(name)(**MODELS[name].arguments | MODELS[name].variants[variant] | changes).eval()


def tiny_inputs(name: str, model: diffusers.ModelMixin, batch_size: int = 2, seed: int = 0) -> dict:
    """Returns arguments for the `forward` of a tiny model of class `name`."""
    return MODELS[name].inputs(model.config, batch_size, torch.Generator().manual_seed(seed))


def tiny_scheduler(name: str, variant: str = "plain", **changes) -> diffusers.SchedulerMixin:
    """Returns a scheduler of class `name` with few noise levels."""
    return getattr(genhub, name)(**SCHEDULERS[name].arguments | SCHEDULERS[name].variants[variant] | changes)
