"""The studies of diffusion: every row is a recipe that can be built, and samples as its table says."""

import pytest
import time_to_quality
import torch
from ablations import ROWS, markdown
from cpu_minutes import QUIET
from diffusers import DPMSolverMultistepScheduler
from time_to_quality import CONTESTANTS
from torch.testing import assert_close
from variants import ImmiscibleNoise, LogNormalLevels

from genhub import recipes
from genhub.data import Shape
from genhub.models.unet_lean import LeanUNet2DModel
from genhub.objectives import Step
from genhub.schedulers.scheduling_cosine_ddpm import CosineDDPMScheduler
from genhub.utils.randomness import BatchRandom

SHAPE = Shape(1, 28, 28, None, 10, -0.4, 0.7)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_changes_one_thing_and_is_sampled_by_the_same_solver(row):
    recipe = recipes.load("ddpm-quick", QUIET | {"training.max_minutes": 2} | ROWS[row], trust_code=True)

    components = recipe.build_components(SHAPE)
    recipe.build_pipeline(components)
    recipe.stages[0].objective.build(**components)

    assert type(components["scheduler"]) is DPMSolverMultistepScheduler
    assert components["scheduler"].config["sigma_max"] == 56


@pytest.mark.parametrize("name", CONTESTANTS)
def test_both_contestants_are_sampled_by_dpm_solver(name):
    recipe, overrides, _ = CONTESTANTS[name]

    loaded = recipes.load(recipe, QUIET | overrides)

    assert loaded.components["scheduler"].cls is DPMSolverMultistepScheduler


def variant(cls, **arguments):
    network = LeanUNet2DModel(8, block_out_channels=(8, 8), layers_per_block=(1, 1), embedding_channels=8)
    return cls(network, CosineDDPMScheduler(prediction_type="v_prediction"), **arguments)


def step(count):
    return Step(0, 0.0, BatchRandom("test", rows=range(count), total=count))


def test_log_normal_levels_have_the_mean_and_deviation_asked_for():
    objective = variant(LogNormalLevels, mean=-0.5, std=1.2)

    alpha_bar = objective.alphas_cumprod[objective.draw_timesteps(step(2000))]

    log_sigma = ((1 - alpha_bar) / alpha_bar).sqrt().log()
    assert_close(torch.stack([log_sigma.mean(), log_sigma.std()]), torch.tensor([-0.5, 1.2]), rtol=0, atol=0.02)


def test_immiscible_noise_is_nearer_to_its_image_than_other_noise():
    images = torch.randn(200, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    near, plain = (variant(ImmiscibleNoise, candidates=k).draw_noise(images, step(200)) for k in (4, 1))

    distances = [(noise - images).flatten(1).norm(dim=1).mean() for noise in (near, plain)]
    assert distances[0] < 0.95 * distances[1]


def test_a_report_has_a_line_for_each_row():
    row = {"images": 100, "parameters": 10, "val_loss": 0.2, "distances": {"1": 2.0, "1.5": 1.0}}
    alone = row | {"distances": {"1": 3.0}}  # without classes there is no guidance

    text = markdown({"minutes": 2, "count": 2000, "device": "CPU", "rows": {"as it is": row, "no labels": alone}})

    assert "| as it is | 10 | 100 | 0.2000 | 2.00 | 1.00 |" in text
    assert "| no labels | 10 | 100 | 0.2000 | 3.00 |  |" in text


def test_the_quality_after_each_budget_has_the_distance_of_real_images_beside_it():
    row = {"images": 1000, "distances": {"1": 2.0, "1.25": 1.0}}
    report = {
        "device": "CPU",
        "rows": {"ours": {"1": row, "20": row | {"distances": {"1": 0.5}}}, "theirs": {"20": row}},
        "floors": {"ours": {"count": 2000, "distance": 0.1}, "theirs": {"count": 300, "distance": 0.4}},
    }

    text = time_to_quality.markdown(report)

    assert "| recipe | images | 1 min | 20 min | training images |" in text
    assert "| ours | 2000 | 1.00 (1,000) | 0.50 (1,000) | 0.10 |" in text
    assert "| theirs | 300 |  | 1.00 (1,000) | 0.40 |" in text
