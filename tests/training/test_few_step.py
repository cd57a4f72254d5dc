"""`ddpm-few-step`: from a saved diffusion model to one that is sampled in a few calls."""

import pytest
import torch
from diffusers import LCMScheduler
from safetensors.torch import load_file
from tiny import tiny_model

import genhub
from genhub import recipes
from genhub.repository.save import save_repo
from genhub.training.run import Run

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def overrides(tiny, tmp_path):
    """Overrides that tune a tiny network in a second, from a saved repository."""
    unet = tiny_model("PatchUNet2DModel", sample_size=28, num_class_embeds=11)
    scheduler = genhub.CosineDDPMScheduler(20, prediction_type="v_prediction")
    save_repo(genhub.CosineDDPMPipeline(unet, scheduler, num_classes=10), tmp_path / "trained")
    source = {"from": f"{tmp_path}/trained/unet"}
    kept = {key: value for key, value in tiny.items() if key.split(".")[0] in ("data", "training")}
    scheduler = {"num_train_timesteps": 20, "original_inference_steps": 19}
    return kept | {
        "components.unet": source,
        "components.teacher": source | {"frozen": True},
        **{f"components.scheduler.{key}": value for key, value in scheduler.items()},
    }


def test_the_tuned_network_leaves_its_teacher_behind_and_is_sampled_in_one_call_by_lcm(overrides, tmp_path):
    folder = genhub.train("ddpm-few-step", tmp_path / "run", overrides=overrides)

    pipe = genhub.AutoPipeline.from_pretrained(folder)
    before, after = (load_file(repo / UNET) for repo in (tmp_path / "trained", folder))
    assert before.keys() == after.keys()
    assert not all(torch.equal(before[name], after[name]) for name in before)
    assert sorted(name for name, part in pipe.components.items() if part is not None) == ["scheduler", "unet"]
    assert not (folder / "teacher").exists()
    assert type(pipe.scheduler) is LCMScheduler
    images = pipe(class_labels=[0, 9], num_inference_steps=1, output_type="pt").images
    assert images.shape == (2, 1, 28, 28)
    assert images.isfinite().all()


def test_what_is_loaded_is_trained_in_training_mode_and_the_frozen_stays_out_of_it(overrides, tmp_path):
    run = Run(recipes.load("ddpm-few-step", overrides), tmp_path / "run", resume=False)

    assert run.components["unet"].training
    assert not run.components["teacher"].training


def test_away_from_a_clone_the_error_names_the_missing_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = {"data.source": tiny["data.source"], "data.val_size": 16}

    with pytest.raises(
        ValueError, match=r"`components.unet.from` must be .*'./model_cards/conditional-ddpm' is neither"
    ):
        genhub.train("ddpm-few-step", overrides=few)
