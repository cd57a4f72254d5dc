"""Components of other repositories, frozen ones, and training on latents."""

import json

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, LDMPipeline
from worlds import weights

import genhub
from genhub.training.checkpoint import list_checkpoints

SHIFTED = {"vqvae.quant_conv.bias", "vqvae.post_quant_conv.bias"}  # so that latents have mean 0


@pytest.fixture(scope="module")
def vae_repo(tmp_path_factory):
    """A repository with an AutoencoderKL of two levels: images of 28 x 28 become latents of 4 x 14 x 14."""
    folder = tmp_path_factory.mktemp("repo") / "vae"
    torch.manual_seed(0)
    vae = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=28,
        scaling_factor=0.5,
    )
    vae.save_pretrained(folder / "vqvae", safe_serialization=True)
    index = {"_class_name": "LDMPipeline", "_diffusers_version": "0.42.1", "vqvae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def recipe(tiny, tmp_path, vae_repo):
    sections = {
        "data": {"source": tiny["data.source"], "val_size": 16, "encode": "vqvae"},
        "components": {
            "vqvae": {"from": f"{vae_repo}/vqvae", "frozen": True},
            "unet": {
                "class": "diffusers.UNet2DModel",
                "block_out_channels": [8, 8],
                "down_block_types": ["DownBlock2D", "DownBlock2D"],
                "up_block_types": ["UpBlock2D", "UpBlock2D"],
                "layers_per_block": 1,
                "norm_num_groups": 4,
            },
            "scheduler": {"class": "diffusers.DDPMScheduler"},
        },
        "objective": {"class": "genhub.objectives.NoisePrediction", "loss": "mse"},
        "optimizers": {"unet": {"class": "torch.optim.Adam", "lr": 0.001}},
        "pipeline": {"class": "diffusers.LDMPipeline"},
        "training": {"batch_size": 8, "max_steps": 4, "checkpoint_every": 1, "keep_checkpoints": 9, "log_every": 1},
    }
    path = tmp_path / "latent.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def test_a_network_is_trained_on_latents_of_a_frozen_encoder(tmp_path, recipe, vae_repo):
    folder = genhub.train(recipe, tmp_path / "run")

    config = json.loads((folder / "unet/config.json").read_text())
    assert (config["in_channels"], config["out_channels"], config["sample_size"]) == (4, 4, 14)
    saved, source = weights(folder), weights(vae_repo)
    assert all(torch.equal(saved[name], tensor) for name, tensor in source.items())
    pipe = LDMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(batch_size=1, num_inference_steps=1, output_type="np").images
    assert images.shape == (1, 28, 28, 1)


def test_the_encoder_standardises_its_latents_if_the_recipe_says_so(tmp_path, recipe, vae_repo):
    folder = genhub.train(recipe, tmp_path / "run", overrides={"data.standardise": True})

    saved, source = weights(folder), weights(vae_repo)
    assert {name for name in source if not torch.equal(saved[name], source[name])} == SHIFTED
    assert json.loads((folder / "vqvae/config.json").read_text())["scaling_factor"] != 0.5


def test_frozen_weights_stay_out_of_checkpoints_and_a_resume_checks_them(tmp_path, recipe, vae_repo):
    whole = genhub.train(recipe, tmp_path / "whole")
    stopped = tmp_path / "stopped"
    genhub.train(recipe, stopped, overrides={"training.max_steps": 2})

    genhub.train(stopped, resume=True, overrides={"training.max_steps": 4})

    state = torch.load(list_checkpoints(stopped / "training/checkpoints")[0] / "state.pt", weights_only=True)
    assert state["modules"]["vqvae"].keys() == {"hash"}
    one, two = weights(whole), weights(stopped)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"components.vqvae.frozen": False}, "`components.vqvae.frozen` must be true: `data.encode` stores"),
        ({"components.vqvae.from": "nowhere/vqvae"}, "`components.vqvae.from` must be .*FOLDER/COMPONENT"),
        ({"data.channels": 3}, "`data.channels` must be 1, those of `components.vqvae`, got images of 3"),
        ({"data.encode": "vae"}, "`data.encode` must be a component, got 'vae'"),
        ({"data.encode": None, "data.standardise": True}, "`data.standardise` must be left out without `data.encode`"),
    ],
)
def test_a_mistake_is_one_clear_error_and_nothing_is_written(tmp_path, recipe, change, message):
    with pytest.raises(ValueError, match=message):
        genhub.train(recipe, tmp_path / "run", overrides=change)

    assert not (tmp_path / "run").exists()
