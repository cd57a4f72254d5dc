"""The study of guidance: its rows, and that a stopped study goes on."""

import pytest
import torch
from guidance import markdown, rows, study
from tiny import tiny_model

from genhub import CosineDDPMPipeline, CosineDDPMScheduler, save_repo

ALL = frozenset({"guidance_scale", "guidance_interval"})


def test_no_guidance_is_one_row_whatever_the_interval_and_the_guide():
    names = [name for name, _, _ in rows(ALL, (1.0, 2.0), ((0.0, 1.0), (0.25, 0.5)), has_guide=True)]

    half = "2, 0.25 to 0.5 of the steps"
    assert names == ["1", "2", half, "2, autoguidance", f"{half}, autoguidance"]
    plain = rows(frozenset({"guidance_scale"}), (1.0, 2.0), ((0.0, 1.0), (0.25, 0.5)), has_guide=False)
    assert [arguments for _, _, arguments in plain] == [{"guidance_scale": 1.0}, {"guidance_scale": 2.0}]


@pytest.mark.slow
def test_a_stopped_study_goes_on(tmp_path):
    unet = tiny_model("LeanUNet2DModel", sample_size=28, num_class_embeds=11)
    for parameter in unet.parameters():  # none starts at 0, so that classes matter
        torch.nn.init.normal_(parameter, std=0.3)
    pipe = CosineDDPMPipeline(unet, CosineDDPMScheduler(prediction_type="v_prediction"), 2, num_classes=10)
    repo = save_repo(pipe, tmp_path / "repo")
    options = {"data": "sample", "folder": tmp_path / "study", "count": 260}

    one = study(str(repo), scales=(1.0,), **options)
    two = study(str(repo), scales=(1.0, 2.0), intervals=((0.0, 1.0),), **options)

    assert [*one["rows"]] == ["1"]
    assert [*two["rows"]] == ["1", "2"]
    assert two["rows"]["1"] == one["rows"]["1"] != two["rows"]["2"]
    assert (tmp_path / "study/README.md").read_text() == markdown(two)
    worse = tiny_model("LeanUNet2DModel", sample_size=28, num_class_embeds=11)
    guide = save_repo(CosineDDPMPipeline(worse, pipe.scheduler, 2, num_classes=10), tmp_path / "worse")
    guided = study(
        str(repo),
        scales=(2.0,),
        intervals=((0.0, 1.0),),
        guide=f"{guide}/unet",
        **options | {"folder": tmp_path / "other"},
    )
    assert guided["rows"]["2"] == two["rows"]["2"] != guided["rows"]["2, autoguidance"]
    with pytest.raises(ValueError, match="was measured with other settings"):
        study(str(repo), **options | {"count": 300})
