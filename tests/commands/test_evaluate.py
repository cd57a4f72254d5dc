"""A repository is judged on one process or two, again where it was stopped, and its card says so."""

import functools
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from huggingface_hub import ModelCard
from PIL import Image as Picture
from safetensors.torch import load_file, save_file
from worlds import run

from genhub import evaluate, recipes, train
from genhub.data import load
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.generation_metrics import METRICS
from genhub.evaluation.sampling import Sampler
from genhub.repository.save import record_digests
from genhub.training.feature_classifier import classifies_correctly

SPACES = (*(space.name for space in pinned_spaces()), "pix")
NAMES = {  # of an unconditional model; 150 images are too few for a line to infinity
    (name.replace("FD", "FD-FM"), space)
    for metric in METRICS
    if not metric.needs_labels
    for space in metric.spaces
    for name in metric.names
    if space in SPACES and name != "FD at infinite N"
}


def newest(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text())["evaluations"][-1]


def values(folder) -> dict:
    return {(metric["name"], metric["space"]): metric["value"] for metric in newest(folder)["figures"]}


@pytest.fixture
def evaluated(evaluated_repo, tmp_path):
    """A repository that was evaluated, and may be written to."""
    return shutil.copytree(evaluated_repo, tmp_path / "evaluated")


@pytest.fixture
def repo(tiny_repo, tmp_path):
    """A repository that may be written to."""
    return shutil.copytree(tiny_repo, tmp_path / "repo")


def test_every_metric_is_in_the_file_and_on_the_card(evaluated_repo):
    found, card = newest(evaluated_repo), ModelCard.load(evaluated_repo / "README.md")

    assert values(evaluated_repo).keys() == NAMES
    assert (found["protocol"], found["complete"]) == ("fmnist-eval-1", False)
    assert found["samples"] == {
        "images": 150,
        "seed": 10_000,
        "batch_size": 40,
        "classes": None,
        "sampler": "CosineDDPMScheduler",
        "steps": 1,
        "guidance_scale": None,
        "dtype": "float32",
    }
    assert found["memorisation"].keys() == {"pix", "clf"}
    assert found["speed"]["passes_per_image"] == 1
    on_card = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert on_card["FD-FM (clf)"] == pytest.approx(values(evaluated_repo)["FD-FM", "clf"], rel=1e-5)
    assert "val_loss" in on_card
    assert "not to be compared" in card.text
    assert card.text.count("![the closest pairs](closest.png)") == 1
    assert "has not been measured" not in card.text
    with Picture.open(evaluated_repo / "closest.png") as picture:
        assert picture.size == (8 * 58 + 2, 4 * 58 + 2)


def test_copies_are_looked_for_among_the_images_that_the_model_was_trained_on(repo, quick, monkeypatch):
    compared, own = [], load(recipes.load(repo / "recipe.yaml").data, "train").images
    measure = Evaluator.memorisation
    monkeypatch.setattr(
        Evaluator, "memorisation", lambda self, images, seen: compared.append(seen) or measure(self, images, seen)
    )

    evaluate(str(repo), **quick)

    assert len(compared) == 1
    assert torch.equal(compared[0], own)


def test_without_its_training_images_a_model_is_judged_but_not_searched_for_copies(repo, quick, capsys):
    recipe = repo / "recipe.yaml"
    name = Path(recipes.load(recipe).data.source).name
    recipe.write_text(recipe.read_text().replace(f"./{name}", "./gone"))

    evaluate(str(repo), **quick)

    assert newest(repo)["memorisation"] == {}
    assert "no memorisation: the training images are not available" in capsys.readouterr().err


def test_a_repeated_evaluation_draws_nothing_anew_and_takes_the_place_of_the_first(evaluated, quick, monkeypatch):
    first, text = newest(evaluated), (evaluated / "README.md").read_text()
    calls, call = [], Sampler.call

    def spy(self, batch, rows):
        calls.append(rows.stop - rows.start)
        return call(self, batch, rows)

    monkeypatch.setattr(Sampler, "call", spy)

    evaluate(str(evaluated), **quick)

    assert len(json.loads((evaluated / "metrics.json").read_text())["evaluations"]) == 1
    assert newest(evaluated)["figures"] == first["figures"]
    assert set(calls) == {1}  # only the speed of one image is measured again
    assert (evaluated / "README.md").read_text().count("### Memorisation") == text.count("### Memorisation") == 1


def test_a_likelihood_is_measured_if_asked_for_and_is_then_on_the_card(evaluated, quick):
    before = values(evaluated)

    evaluate(str(evaluated), **quick, likelihood=3)

    added = {name: value for (name, space), value in values(evaluated).items() if (name, space) not in before}
    assert {"bits/dim (ODE)", "bits/dim (bound)"} < added.keys()
    assert len(added) == 3
    assert 4 < added["bits/dim (ODE)"] < 12  # 8 is that of uniform noise
    card = (evaluated / "README.md").read_text()
    assert "| bits/dim (ODE) |" in card
    evaluate(str(evaluated), **quick)
    assert {name: value for (name, _), value in values(evaluated).items()}.items() >= added.items()


def test_other_settings_stand_beside_one_another(evaluated, quick):
    solver = {"scheduler": "DPMSolverMultistepScheduler", "arguments": {"num_inference_steps": 2}}
    evaluate(str(evaluated), **quick | solver)
    evaluate(str(evaluated), **quick | solver, scheduler_arguments={"use_karras_sigmas": True})
    evaluate(str(evaluated), **quick | {"arguments": {"timesteps": [15, 5]}})

    found = json.loads((evaluated / "metrics.json").read_text())["evaluations"]
    keys = ("sampler", "steps", "scheduler_arguments", "arguments")
    assert [tuple(one["samples"].get(key) for key in keys) for one in found] == [
        ("CosineDDPMScheduler", 1, None, None),
        ("DPMSolverMultistepScheduler", 2, None, None),
        ("DPMSolverMultistepScheduler", 2, {"use_karras_sigmas": True}, None),
        ("CosineDDPMScheduler", 2, None, {"timesteps": [15, 5]}),
    ]
    assert len({one["figures"][0]["value"] for one in found}) == 4


def test_results_of_another_repository_are_not_written_over(evaluated, repo, quick):
    config = json.loads((repo / "scheduler/scheduler_config.json").read_text())
    (repo / "scheduler/scheduler_config.json").write_text(json.dumps(config | {"variance_type": "fixed_large"}))
    record_digests(repo)

    with pytest.raises(ValueError, match="holds the evaluation of another repository"):
        evaluate(str(repo), **quick, output=str(evaluated))


def test_a_folder_that_cannot_be_written_is_refused_before_any_image_is_made(repo, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(Sampler, "call", None)
    (tmp_path / "file").write_text("")

    with pytest.raises(ValueError, match="cannot be written"):
        evaluate(str(repo), **quick, output=str(tmp_path / "file"))


def test_a_card_that_someone_wrote_anew_is_left_alone(repo, quick):
    (repo / "README.md").write_text("# My own card")

    evaluate(str(repo), **quick)

    assert (repo / "README.md").read_text() == "# My own card"


@pytest.mark.slow
def test_two_processes_find_what_one_finds(evaluated_repo, repo, quick, tmp_path):
    def action():
        os.environ["GENHUB_CACHE"] = str(tmp_path / "cache")  # so that nothing of the first is found there
        evaluate(str(repo), **quick)

    assert run(action, processes=2, log=tmp_path / "log") == [0, 0], (tmp_path / "log").read_text()
    assert newest(repo)["hardware"]["processes"] == 2
    assert values(repo) == pytest.approx(values(evaluated_repo), rel=1e-6, abs=1e-9)


def test_what_does_not_fit_is_refused_before_any_image_is_made(repo, quick, tmp_path, monkeypatch):
    monkeypatch.setattr("genhub.evaluation.sampling.Sampler.draw", None)
    cases = [
        ({"count": 100}, "`count` must be at least 129, got 100"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"scheduler": "DDIMSchedule"}, "no such|has such a class: DDIMSchedule"),
        ({"scheduler_arguments": {"variance_typ": "x"}}, "There is no `scheduler.variance_typ`"),
        ({"arguments": {"truncation": 0.5}}, "`truncation` must be unset: CosineDDPMPipeline does not take it"),
        ({"cas": 150}, "`cas` must be off"),
        ({"likelihood": 1}, "`likelihood` must lie between 2 and the 200 test images, got 1"),
        ({"likelihood": 500}, "`likelihood` must lie between 2 and the 200 test images, got 500"),
        ({"cas": 100}, "`cas` must be 0, or at least 129 images, got 100"),
        ({"data_source": "nowhere/at/all"}, "`data.source` must be an existing folder"),
        ({"feature_net": str(tmp_path / "none")}, "neither an existing folder"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            evaluate(str(repo), **quick | change)
    (repo / "recipe.yaml").unlink()
    with pytest.raises(ValueError, match="`data` must name the images to compare with: no recipe.yaml of"):
        evaluate(str(repo), **quick | {"data_source": None})
    assert "evaluations" not in json.loads((repo / "metrics.json").read_text())


def test_images_of_another_shape_are_refused(repo, quick, tmp_path):
    pictures = [Picture.new("RGB", (28, 28), (i, 0, 0)) for i in range(200)]
    for split in ("train", "test"):
        Dataset.from_dict({"image": pictures}, Features({"image": Image()})).to_parquet(
            tmp_path / f"data/{split}.parquet"
        )

    with pytest.raises(
        ValueError, match=r"must be like the real ones, \(C, H, W\) = \(3, 28, 28\), got \(1, 28, 28\)"
    ):
        evaluate(str(repo), **quick | {"data_source": str(tmp_path / "data")})


def test_images_that_are_not_finite_end_the_evaluation_and_write_nothing(repo, quick):
    path = repo / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    save_file({name: torch.full_like(tensor, 3e38) for name, tensor in tensors.items()}, path, {"format": "pt"})
    record_digests(repo)
    before = (repo / "metrics.json").read_text()

    with pytest.raises(ValueError, match="must be finite, got 1 of 1"):
        evaluate(str(repo), **quick)

    assert (repo / "metrics.json").read_text() == before


def test_a_pipeline_that_generates_nothing_is_refused(tmp_path, tiny_always, quick):
    overrides = {"data.source": tiny_always["data.source"], "data.val_size": 16, "training.batch_size": 16}
    folder = train("feature-classifier", tmp_path / "net", overrides=overrides | {"training.max_steps": 1})

    with pytest.raises(
        ValueError, match="must hold a pipeline that generates or reconstructs images, got ImageClassificationPipeline"
    ):
        evaluate(str(folder), **quick)


@pytest.mark.slow
def test_a_conditional_model_is_asked_for_each_class_equally_often_and_its_labels_are_tested(
    tmp_path, tiny, quick, monkeypatch
):
    briefly = functools.partial(classifies_correctly, least=150)
    monkeypatch.setattr("genhub.commands.evaluation.classifies_correctly", briefly)
    overrides = tiny | {"components.unet.num_class_embeds": 10}
    folder = train("ddpm-quick", tmp_path / "repo", overrides=overrides)

    evaluate(str(folder), **quick, cas=150)

    found = newest(folder)
    assert found["samples"]["classes"] == 10
    assert 0 <= values(folder)["label fidelity", "clf"] <= 1
    accuracy = values(folder)["CAS", ""]
    assert 0 <= accuracy <= values(folder)["CAS of 150 real images", ""] <= 1
    assert "| CAS |" in (folder / "README.md").read_text()
    for cas in (0, 150):  # is neither lost when it is not asked for again, nor there twice when it is
        evaluate(str(folder), **quick, cas=cas)
        assert values(folder)["CAS", ""] == accuracy
        assert [metric["name"] for metric in newest(folder)["figures"]].count("CAS") == 1


@pytest.mark.slow
def test_another_data_set_gets_a_feature_net_of_its_own_once(tmp_path, tiny, quick, monkeypatch, capsys):
    monkeypatch.setenv("GENHUB_CACHE", str(tmp_path / "cache"))
    generator = torch.Generator().manual_seed(0)
    features = Features({"image": Image(), "label": ClassLabel(names=["dark", "light"])})
    for split, count in (("train", 192), ("test", 160)):
        labels = [i % 2 for i in range(count)]
        noise = torch.randint(128, (count, 28, 28), generator=generator) + 128 * torch.tensor(labels)[:, None, None]
        images = [Picture.fromarray(image) for image in noise.to(torch.uint8).numpy()]
        Dataset.from_dict({"image": images, "label": labels}, features).to_parquet(tmp_path / f"data/{split}.parquet")
    repo = train("ddpm-quick", tmp_path / "repo", overrides=tiny | {"data.source": str(tmp_path / "data")})
    own_data = quick | {"data_source": None}

    evaluate(str(repo), **own_data)
    said = capsys.readouterr().out
    evaluate(str(repo), **own_data)

    assert ("FD", "clf") in values(repo)  # not FD-FM: that is in the space of Fashion MNIST
    assert "Training a classifier" in said
    assert "Training a classifier" not in capsys.readouterr().out
    assert newest(repo)["feature_net_accuracy"] > 0.9
