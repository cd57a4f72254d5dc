"""The study of samplers: what is measured, what is left, the same noise for all, and what follows from the numbers."""

import json

import pytest
import torch
from studies import sampler_study
from studies.sampler_study import SAMPLERS, cheapest, markdown, missing, ratios, study
from tiny import tiny_model
from tiny_pipelines import tiny_stable_diffusion

from genhub import CosineDDPMPipeline, CosineDDPMScheduler, figure, save_repo


def cell(sampler, calls, distance, spread=0.1):
    return {"sampler": sampler, "steps": calls, "calls": calls, "images_per_second": 9.0, "FD": distance} | {
        "spread": spread
    }


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.setenv("GENHUB_CACHE", str(tmp_path / "cache"))
    unet = tiny_model("PatchUNet2DModel", sample_size=28, patch_size=14, block_out_channels=[4, 8], norm_num_groups=2)
    return save_repo(CosineDDPMPipeline(unet, CosineDDPMScheduler(50), num_inference_steps=2), tmp_path / "repo")


def test_a_stopped_study_goes_on_and_a_figure_shows_it(repo, monkeypatch):
    small = {"data": "sample", "count": 260, "batch_size": 130, "calls": [2, 60], "names": ["DDPM", "Heun"]}
    drawn = []
    measure = sampler_study.measure
    monkeypatch.setattr(sampler_study, "measure", lambda *a: drawn.append(a[1:3]) or measure(*a))

    study(str(repo), **small | {"names": ["DDPM"]})
    report = study(str(repo), **small)

    assert drawn == [("DDPM", 2), ("Heun", 1)]  # two steps of Heun are three calls; 60 are more than T
    assert json.loads((repo / "samplers.json").read_text()) == report
    assert [found["FD"] > 0 for found in report["cells"]] == [True, True]
    assert (repo / "samplers.md").read_text() == markdown(report)
    assert figure("samplers", str(repo)).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="`images` must be 260, as in .*, got 280; or change `output`"):
        study(str(repo), **small | {"count": 280})


def test_a_study_is_of_one_guidance_and_of_no_prompts(tmp_path):
    unet = tiny_model("PatchUNet2DModel", "conditional", sample_size=28)
    pipe = CosineDDPMPipeline(unet, CosineDDPMScheduler(50), 1, 3, guidance_scale=2.0, guidance_interval=(0, 0.5))
    repo, small = save_repo(pipe, tmp_path / "repo"), {"data": "sample", "count": 260, "calls": [1], "names": ["DDPM"]}

    report = study(str(repo), **small, arguments={"guidance_scale": 1.5})

    assert report["arguments"] == {"guidance_scale": 1.5, "guidance_interval": [0, 0.5]}
    with pytest.raises(ValueError, match="`arguments` must be .*1.5.*, as in .*, got .*2.0"):
        study(str(repo), **small)
    with pytest.raises(ValueError, match="a pipeline that takes no prompts, got StableDiffusionPipeline"):
        study(str(save_repo(tiny_stable_diffusion(), tmp_path / "text")), **small)


def test_cells_are_measured_once_the_cheapest_first_and_none_beyond_T():
    report = {"cells": [cell("DDIM", 2, 1.0)]}

    left = missing(report, ["DDIM", "Heun"], [2, 1, 5, 51], total=50)

    assert left == [("DDIM", 1), ("Heun", 1), ("DDIM", 5), ("Heun", 5)]


def test_the_choice_is_the_cheapest_within_5_percent_or_two_deviations_of_the_best():
    best = cell("DDPM", 4000, 1.0, spread=0.0)

    assert cheapest([best, cell("UniPC", 10, 1.06, 0.02), cell("DEIS", 5, 1.05, 0.0)])["sampler"] == "DEIS"
    assert cheapest([best, cell("UniPC", 10, 1.06, 0.04), cell("DEIS", 5, 1.09, 0.04)])["sampler"] == "UniPC"
    assert cheapest([best, cell("UniPC", 10, 1.06, 0.02)]) == best


def test_ratios_are_to_the_most_ancestral_steps():
    cells = [cell("DDPM", 10, 4.0), cell("DDPM", 1000, 2.0), cell("Heun", 9, 3.0), cell("UniPC", 5, 9.0)]

    assert ratios(cells, 10) == {"DDPM": 2.0, "Heun": 1.5}
    assert ratios(cells[3:], 10) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ["UniPCC"]}, "no sampler 'UniPCC' .did you mean 'UniPC'"),
        ({"count": 257}, "`count` must be at least 258"),
        ({"options": {"sigma_maks": 80}}, "No sampler has the option `sigma_maks` .did you mean 'sigma_max'"),
    ],
)
def test_mistakes_are_refused_before_any_work(changes, message, repo):
    with pytest.raises(ValueError, match=message):
        study(str(repo), **{"data": "sample", **changes})

    assert not (repo / "samplers.json").exists()


def test_a_figure_without_a_study_names_its_command(repo):
    with pytest.raises(ValueError, match=r"run `python scripts/studies/sampler_study.py .* --data DATA` first"):
        figure("samplers", str(repo))


def test_every_sampler_draws_finite_images_of_its_number_of_calls(repo):
    settings = {"images": 2, "seed": 0, "batch_size": 2, "dtype": "fp32", "options": {"sigma_max": 80.0}}
    settings |= {"arguments": {}, "repository": "r", "hardware": "h"}
    pipeline = CosineDDPMPipeline(tiny_model("PatchUNet2DModel"), CosineDDPMScheduler(50))
    images = sampler_study.Images(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))

    for name in SAMPLERS:
        calls = []
        hook = pipeline.unet.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        drawn, cost = sampler_study.measure(pipeline, name, 5, images, settings)
        hook.remove()
        assert (len(drawn), len(calls), cost["calls"]) == (2, 5, 5)
        assert type(pipeline.scheduler) is CosineDDPMScheduler
