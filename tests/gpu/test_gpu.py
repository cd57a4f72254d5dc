"""What training and sampling promise on a GPU. `bash scripts/test.sh -m gpu` runs these; no other test sees a GPU."""

import json

import pytest
import torch
from torch.testing import assert_close
from worlds import weights

import genhub
from genhub.evaluation.sampling import sample
from genhub.training.checkpoint import list_checkpoints

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]

STEPS = 8
RATE = {  # a step that is lost or doubled shows
    **dict.fromkeys(("optimizers.unet.lr", "optimizers.unet.adamw_lr"), 0.01),
    "optimizers.unet.min_channels": 8,
    "optimizers.unet.schedule": None,
}
GAME = {
    "components.generator.block_out_channels": [8, 4],
    "components.generator.latent_channels": 4,
    "components.discriminator.block_out_channels": [4, 8],
    "components.discriminator.num_minibatch_kernels": 3,
    "objective.replay_steps": 3,
    "objective.augmentations": ["translation", "colour"],
    "objective.augmentation_probability": 0.3,
    "evaluation.every": 0,
}


def records(folder) -> list[dict]:
    lines = (folder / "training/metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if "loss" in record]


def losses(folder) -> list[float]:
    return [record["loss"] for record in records(folder)]


def newest_state(folder) -> dict:
    (newest, *_) = list_checkpoints(folder / "training/checkpoints")
    return torch.load(newest / "state.pt", weights_only=True, map_location="cpu")


def whole_and_resumed(recipe, overrides, tmp_path):
    """Trains once without a stop and once with one in the middle; returns both folders."""
    whole = genhub.train(recipe, tmp_path / "whole", overrides=overrides | {"training.max_steps": STEPS})
    halved = overrides | {"training.max_steps": STEPS // 2}
    resumed = genhub.train(recipe, tmp_path / "resumed", overrides=halved)
    genhub.train(resumed, resume=True, overrides={"training.max_steps": STEPS})
    return whole, resumed


def without_network(tiny) -> dict:
    """The overrides of `tiny` that fit any recipe."""
    return {key: value for key, value in tiny.items() if key.split(".")[0] in ("data", "training")}


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_resumed_run_has_the_losses_of_one_that_was_not_stopped(tmp_path, tiny, precision):
    overrides = tiny | RATE | {"training.mixed_precision": precision, "training.ema": {"unet": 0.5}}

    whole, resumed = whole_and_resumed("ddpm-quick", overrides, tmp_path)

    assert len(losses(whole)) == STEPS
    assert_close(losses(resumed), losses(whole), rtol=1e-2, atol=1e-3)
    assert_close(weights(resumed), weights(whole), rtol=0, atol=2e-2)


def test_fp16_trains_as_float32_does_and_its_loss_scale_survives_a_resume(tmp_path, tiny):
    exact = genhub.train("ddpm-quick", tmp_path / "exact", overrides=tiny | {"training.max_steps": STEPS})

    half = tiny | {"training.mixed_precision": "fp16"}
    whole, resumed = whole_and_resumed("ddpm-quick", half, tmp_path)

    assert_close(losses(whole), losses(exact), rtol=0.05, atol=0)
    scaler = newest_state(whole)["scaler"]
    assert newest_state(resumed)["scaler"] == scaler  # its scale, and the steps since this was last halved
    assert scaler["scale"] > 1
    assert all(tensor.isfinite().all() for tensor in weights(whole).values())


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_a_game_of_two_phases_moves_both_networks_and_resumes(tmp_path, tiny, precision):
    overrides = without_network(tiny) | GAME | {"training.mixed_precision": precision}
    if precision == "no":  # a penalty on gradients is differentiated twice
        overrides |= {"objective.r1_weight": 1.0, "objective.r1_every": 3}

    whole, resumed = whole_and_resumed("dcgan-replay", overrides, tmp_path)

    assert_close(losses(resumed), losses(whole), rtol=2e-2, atol=2e-3)
    first, *_, last = records(whole)
    assert {name.partition("/")[0] for name in first if "/" in name} == {"discriminator", "generator"}
    assert first["discriminator/grad_norm"] > 0
    assert first["generator/grad_norm"] > 0
    assert all(torch.isfinite(torch.tensor(value)) for value in last.values() if isinstance(value, float))


def test_the_moving_average_of_the_weights_is_that_of_a_cpu(tmp_path, tiny, monkeypatch):
    overrides = without_network(tiny) | {"training.ema": {"autoencoder": 0.5}, "training.max_steps": STEPS}
    overrides |= {"optimizers.autoencoder": {"class": "torch.optim.SGD", "lr": 0.5}}
    on_device = genhub.train("stacked-ae", tmp_path / "device", overrides=overrides)

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    on_cpu = genhub.train("stacked-ae", tmp_path / "cpu", overrides=overrides)

    trained = newest_state(on_cpu)["modules"]["autoencoder"]
    averages = {name.removeprefix("autoencoder."): tensor for name, tensor in weights(on_cpu).items()}
    assert max((averages[name] - trained[name]).abs().max() for name in averages) > 1e-4  # the average lags behind
    assert_close(weights(on_device), weights(on_cpu), rtol=0, atol=1e-5)
    assert_close(losses(on_device), losses(on_cpu), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("recipe", ["ddpm-quick", "dcgan-replay", "vae"])
def test_a_seed_gives_the_image_that_it_gives_on_a_cpu(tmp_path, tiny, recipe):
    overrides = tiny if recipe == "ddpm-quick" else without_network(tiny) | {"evaluation.every": 0}
    pipeline = genhub.AutoPipeline.from_pretrained(genhub.train(recipe, tmp_path / "run", overrides=overrides))
    pipeline.set_progress_bar_config(disable=True)
    expected = sample(pipeline, 5, seed=0)

    images = sample(pipeline.to(DEVICE), 5, seed=0, batch_size=2)

    assert pipeline.device.type == DEVICE
    assert expected.std() > 0
    assert_close(images, expected, rtol=0, atol=2e-2)  # of [0, 1]; convolutions on a GPU may round to TF32
