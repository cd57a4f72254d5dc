"""Components that are loaded whole, frozen, or meet latents of the images."""

import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from tiny import MODELS

from genhub import recipes
from genhub.data import Shape
from genhub.recipes.recipe import FROM_DATA, Recipe
from genhub.recipes.sections import merge
from genhub.recipes.yaml import read_yaml

SHAPE = Shape(1, 8, 8, tuple("0123456789"), num_classes=10)
LATENTS = Shape(4, 4, 4, SHAPE.class_names, num_classes=10)
UNET = {key: value for key, value in MODELS["LeanUNet2DModel"].arguments.items() if key not in FROM_DATA}
SMALL_VAE = {"block_out_channels": [4], "norm_num_groups": 2, "latent_channels": 4}
TEXT_TO_IMAGE = """
data: {encode: vae}
components:
  vae: {class: diffusers.AutoencoderKL, block_out_channels: [4], norm_num_groups: 2}
  unet:
    class: diffusers.UNet2DConditionModel
    block_out_channels: [8, 8]
    norm_num_groups: 4
    down_block_types: [CrossAttnDownBlock2D, DownBlock2D]
    up_block_types: [UpBlock2D, CrossAttnUpBlock2D]
    cross_attention_dim: 8
  text_encoder: {class: transformers.CLIPTextModel, vocab_size: 16, hidden_size: 8, intermediate_size: 8,
                 num_hidden_layers: 1, num_attention_heads: 2, frozen: true}
  tokenizer: {from: user/repository/tokenizer}
  scheduler: {class: diffusers.PNDMScheduler, skip_prk_steps: true, steps_offset: 1}
objective: {class: genhub.objectives.NoisePrediction}
optimizers: {unet: {class: torch.optim.AdamW}}
pipeline: {class: diffusers.StableDiffusionPipeline, requires_safety_checker: false}
"""


def latent(vae, **changes):
    """A diffusion recipe with a variational autoencoder between the images and the network."""
    unconditional = {"components.unet.num_class_embeds": None, "objective.label_dropout": 0.0}
    tiny = {f"components.unet.{key}": value for key, value in UNET.items()}
    sections = recipes.load("ddpm-quick", tiny | unconditional).sections
    sections |= {"pipeline": {"class": "diffusers.LDMPipeline"}, "data": {"encode": "vqvae"}}
    sections["components"] = {"vqvae": vae} | sections["components"]
    return Recipe(merge(sections, changes), "mine")


def test_a_component_may_be_loaded_whole_and_is_never_filled():
    recipe = latent({"from": "runs/vae/vae", "frozen": True})
    vae = AutoencoderKL(**SMALL_VAE)

    components = recipe.build_components(SHAPE, LATENTS, loaded={"vqvae": vae})

    assert (recipe.pretrained, recipe.frozen, recipe.weights) == ({"vqvae": "runs/vae/vae"}, {"vqvae"}, {})
    assert list(components) == ["vqvae", "unet", "scheduler"]
    assert components["vqvae"] is vae
    assert recipe.build_pipeline(components).vqvae is vae
    assert recipe.sections["components"]["vqvae"] == {"from": "runs/vae/vae", "frozen": True}
    assert "vqvae" not in recipe.components


def test_the_encoder_fits_the_images_and_the_others_its_latents():
    recipe = latent({"class": "diffusers.AutoencoderKL", **SMALL_VAE, "weights": "runs/vae/vae", "frozen": True})

    components = recipe.build_components(SHAPE, LATENTS)

    written = yaml.safe_load(recipe.text)["components"]
    assert (written["vqvae"]["in_channels"], written["vqvae"]["sample_size"]) == (1, 8)
    assert (written["unet"]["in_channels"], written["unet"]["sample_size"]) == (4, 4)
    assert components["unet"](torch.zeros(1, 4, 4, 4), 0).sample.shape == (1, 4, 4, 4)
    assert (recipe.weights, recipe.frozen) == ({"vqvae": "runs/vae/vae"}, {"vqvae"})
    assert recipe.build_component("vqvae", SHAPE).config.in_channels == 1


def test_a_component_that_no_objective_and_no_encoder_meets_is_not_filled():
    recipe = latent({"class": "diffusers.AutoencoderKL", **SMALL_VAE}, data={"encode": None})

    components = recipe.build_components(SHAPE)

    assert components["vqvae"].config.in_channels == 3
    assert recipe.sections["components"]["vqvae"].keys() == {"class", *SMALL_VAE}
    assert components["unet"].config.in_channels == 1


@pytest.mark.parametrize(
    ("shapes", "loaded", "message"),
    [
        ((SHAPE, LATENTS), {}, "`loaded` must hold vqvae, which the recipe does not build"),
        ((SHAPE,), {"vqvae": None}, "`latent_shape` must be set: `data.encode` is vqvae"),
    ],
)
def test_what_is_loaded_and_the_shape_of_latents_must_be_passed(shapes, loaded, message):
    with pytest.raises(ValueError, match=message):
        latent({"from": "runs/vae/vae"}).build_components(*shapes, loaded=loaded)


@pytest.mark.parametrize(
    ("vae", "changes", "message"),
    [
        (
            {"from": "runs/vae/vae", "class": "diffusers.AutoencoderKL"},
            {},
            "no `components.vqvae.class`.*: from, frozen",
        ),
        ({"from": "vae"}, {}, "`components.vqvae.from` must be FOLDER/COMPONENT or .*, got 'vae'"),
        ({"from": None}, {}, "`components.vqvae.from` must be FOLDER/COMPONENT or .*, got None"),
        ({"from": "a/b", "frozen": "yes"}, {}, "`components.vqvae.frozen` must be true or false, got 'yes'"),
        (
            {"class": "diffusers.AutoencoderKL", "weights": 5},
            {},
            "`components.vqvae.weights` must be FOLDER/COMPONENT",
        ),
        ({"class": "diffusers.AutoencoderKL", "weights": ["a/b"]}, {}, "`components.vqvae.weights` must be FOLDER"),
        ({"class": "diffusers.DDPMScheduler", "weights": "a/b"}, {}, "weights` must be left out: diffusers.DDPMSched"),
        (
            {"from": "a/b"},
            {"data": {"encode": "vae"}},
            "`data.encode` must be a component, got 'vae' .did you mean 'vq",
        ),
        ({"from": "a/b"}, {"data": {"encode": "scheduler"}}, "`data.encode` must be a model, got 'scheduler'"),
        (
            {"from": "a/b"},
            {"components": {"unet": {"frozen": True}}},
            "`optimizers.unet` must be left out: the component is frozen",
        ),
    ],
)
def test_a_mistake_in_what_is_loaded_or_frozen_is_named(vae, changes, message):
    with pytest.raises(ValueError, match=message):
        latent(vae, **changes)


def test_a_text_to_image_pipeline_can_be_written_without_its_optional_parts():
    recipe = Recipe(read_yaml(TEXT_TO_IMAGE), "mine")

    components = recipe.build_components(SHAPE, LATENTS, loaded={"tokenizer": None})
    pipeline = recipe.build_pipeline(components)

    assert pipeline.unet.config.in_channels == 4
    assert pipeline.vae.config.in_channels == 1
    assert pipeline.text_encoder.config.hidden_size == 8
    assert pipeline.safety_checker is None


@pytest.mark.parametrize("name", ["self", "../x", "a b", "", 1, None, "a" * 101, "unet\n"])
def test_a_component_has_a_name_that_a_parameter_and_a_folder_may_have(name):
    sections = yaml.safe_load(recipes.path("ddpm-quick").read_text())
    sections["components"][name] = {"class": "diffusers.DDPMScheduler"}

    with pytest.raises(ValueError, match="`components` must have names of letters, digits and '_'"):
        Recipe(sections, "name")
