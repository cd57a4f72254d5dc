"""Figures of a repository: what is drawn on common axes, what is said where there is nothing to draw."""

import io
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from genhub import cli, data, figure, plotting, train
from genhub.cli import main
from genhub.evaluation import references
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.sampling import Sampler
from genhub.figures import (
    FIGURES,
    MEMORISER,
    first_of_each,
    minutes,
    quality_against_time,
    quality_in_training,
)
from genhub.repository import card_results as results


def evaluation(steps=10, value=5.0, rate=20.0, name="FD-FM", complete=True, **samples) -> dict:
    """An evaluation as metrics.json holds it; `samples` changes how images were made."""
    samples = {"images": 10_000, "batch_size": 250, "classes": None, "sampler": "DDIMScheduler", **samples}
    samples |= {"steps": steps, "guidance_scale": samples.get("guidance_scale")}
    decoys = [{"name": name, "space": "pix", "value": 70.0, "spread": 7.0}]
    decoys += [{"name": f"{name} at infinite N", "space": "clf", "value": 60.0, "spread": 6.0}]
    return {
        "protocol": "fmnist-eval-1",
        "complete": complete,
        "repository": "a",
        "samples": samples,
        "reference": {"data": "fashion", "split": "test", "images": 10_000, "train_images": 55_000},
        "spaces": {"clf": "c"},
        "figures": [*decoys, {"name": name, "space": "clf", "value": value, "spread": value / 10}],
        "speed": {"images_per_second_batch_1": 1.0, f"images_per_second_batch_{samples['batch_size']}": rate},
        "hardware": {"device": "abacus", "processes": 1, "threads": 2},
    }


def chart_of(*evaluations):
    return quality_against_time("REPO", json.dumps({"evaluations": evaluations}))


def records(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def repo(tiny_repo, tmp_path):
    """A repository that may be written to."""
    return shutil.copytree(tiny_repo, tmp_path / "repo")


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Reference rows in which real training images are at 1.25."""
    rows = [
        {"name": name, "figures": evaluation(value=value)["figures"]} for name, value in (("b", 9), (MEMORISER, 1.25))
    ]
    (tmp_path / "references.json").write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(references, "STORED", tmp_path / "references.json")


def test_each_evaluation_is_a_point_at_its_seconds_and_distance_on_the_line_of_its_sampler():
    panels, _ = chart_of(
        evaluation(50, value=2.0, rate=4.0),
        evaluation(10, value=5.0, rate=20.0),
        evaluation(10, value=3.0, rate=10.0, guidance_scale=2.0),
        evaluation(None, value=9.0, rate=500.0, sampler=None),
    )

    lines = {line.name: (line.x, line.y, line.spread, line.labels) for line in panels[0].lines}
    assert lines == {
        "DDIMScheduler": ([0.05, 0.25], [5.0, 2.0], [0.5, 0.2], ["10", "50"]),
        "DDIMScheduler, guidance 2": ([0.1], [3.0], [0.3], ["10"]),
        "one pass": ([0.002], [9.0], [0.9], [""]),
    }
    assert panels[0].log_x
    assert panels[0].log_y


@pytest.mark.parametrize(
    "change",
    [
        {"complete": False},
        {"images": 5000},
        {"batch_size": 500},
        {"classes": 10},
        {"name": "FD"},
        {"reference": {"data": "fashion", "split": "test", "images": 100, "train_images": 55_000}},
        {"repository": "b"},
        {"hardware": {"device": "abacus", "processes": 2, "threads": 2}},
        {"spaces": {"clf": "d"}},
    ],
    ids=str,
)
def test_what_cannot_be_compared_with_the_newest_is_not_drawn_and_the_title_counts_it(change):
    parts = {key: change[key] for key in ("reference", "repository", "hardware", "spaces") if key in change}
    other = evaluation(99, **{key: value for key, value in change.items() if key not in parts}) | parts

    older, older_title = chart_of(other, evaluation(10), evaluation(20))
    newer, newer_title = chart_of(evaluation(10), evaluation(20), other)

    assert older[0].lines[0].labels == ["10", "20"]
    assert newer[0].lines[0].labels == ["99"]
    assert "not drawn: 1 evaluation of" in older_title
    assert "not drawn: 2 evaluations of" in newer_title


def test_the_title_says_what_was_compared():
    _, complete = chart_of(evaluation())
    _, reduced = chart_of(evaluation(complete=False, images=300))

    assert "fmnist-eval-1: 10,000 images against 10,000 of fashion, test" in complete
    assert "fmnist-eval-1, reduced: 300 images" in reduced
    assert "not drawn" not in complete


@pytest.mark.parametrize(
    ("change", "levels"),
    [({}, {"real training images": 1.25}), ({"complete": False}, {}), ({"name": "FD"}, {})],
    ids=str,
)
def test_real_images_are_a_level_only_for_complete_figures_of_the_protocol(change, levels, stored):
    panels, _ = chart_of(evaluation(**change))

    assert panels[0].levels == levels


def test_without_stored_reference_rows_there_is_no_level(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "STORED", tmp_path / "none.json")

    assert chart_of(evaluation())[0][0].levels == {}


def test_the_level_is_of_a_row_that_exists():
    images = data.Images(torch.zeros(4, 1, 28, 28, dtype=torch.uint8))

    assert next(references.rows(images))[0] == MEMORISER


@pytest.mark.parametrize(
    "metrics", [{}, {"evaluations": []}, {"evaluations": [evaluation() | {"samples": None}]}], ids=str
)
def test_without_an_evaluation_the_command_for_one_is_named(metrics, repo):
    (repo / "metrics.json").write_text(json.dumps(metrics))

    with pytest.raises(ValueError, match=f"run `genhub evaluate {repo}` first"):
        figure("sampling-time", str(repo))

    assert not (repo / "sampling-time.png").exists()


def test_an_evaluation_without_a_full_batch_has_no_time():
    with pytest.raises(ValueError, match="made no full batch of 250 images"):
        chart_of(evaluation(rate=None))


def test_minutes_lie_on_straight_lines_from_zero_through_the_clock_and_beyond():
    clock = {10: 60.0, 20: 180.0}

    assert [minutes(step, clock) for step in (0, 5, 10, 15, 20, 25)] == [0, 0.5, 1, 2, 3, 4]
    assert minutes(15, {10: 60.0}) == 1.5


def test_quality_stands_above_the_loss_each_against_minutes():
    text = records(
        {"step": 10, "seconds": 60.0, "loss": 1.0},
        {"step": 10, "val_kid_pix": 30.0},
        {"step": 15, "val_loss": 0.5},
        {"step": 20, "seconds": 120.0, "loss": 0.9},
        {"step": 20, "val_kid_pix": 20.0},
        {"step": 20, "val_loss": 0.75},
        {"step": 20, "val_loss": 0.75},
    )

    (quality, loss), _ = quality_in_training({"REPO": text})

    assert (quality.lines[0].x, quality.lines[0].y, quality.lines[0].labels) == ([1, 2], [30, 20], ["", "20"])
    assert (loss.lines[0].x, loss.lines[0].y, loss.lines[0].labels) == ([1.5, 2], [0.5, 0.75], ["0.5", ""])
    assert (quality.log_y, loss.log_y) == (True, False)
    assert "pix" in quality.y_label


def test_two_runs_stand_in_one_panel_by_their_names():
    one, other = (records({"step": 1, "seconds": 60.0}, {"step": 1, "val_kid_clf": value}) for value in (5.0, -1.0))

    ((panel,), _) = quality_in_training({"runs/one": one, "user/other": other})

    assert [(line.name, line.x, line.y) for line in panel.lines] == [("one", [1], [5.0]), ("other", [1], [-1.0])]
    assert not panel.log_y
    with pytest.raises(ValueError, match="user/other has no training/metrics.jsonl"):
        quality_in_training({"runs/one": one, "user/other": None})


def test_another_run_is_drawn_beside_the_first(repo, tmp_path):
    other = shutil.copytree(repo, tmp_path / "other")

    alone, both = (
        figure("training-time", str(repo), str(tmp_path / "x.png"), **more).read_bytes()
        for more in ({}, {"against": str(other)})
    )

    assert alone != both


def test_a_kernel_distance_below_zero_stands_on_a_linear_axis():
    text = records({"step": 1, "seconds": 1.0}, {"step": 1, "val_kid_clf": 5.0}, {"step": 2, "val_kid_clf": -0.1})

    assert not quality_in_training({"REPO": text})[0][0].log_y


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "REPO has no training/metrics.jsonl"),
        ("", "no record of val_kid_clf, val_kid_pix or val_loss"),
        (records({"step": 1, "seconds": 1.0, "loss": 1.0}), "no record of val_kid_clf, val_kid_pix or val_loss"),
        (records({"step": 1, "val_loss": 1.0}), "no record with `seconds`"),
    ],
    ids=str,
)
def test_a_run_without_quality_or_time_has_no_curve(text, message):
    with pytest.raises(ValueError, match=message):
        quality_in_training({"REPO": text})


def test_a_repository_without_its_training_folder_has_no_curve(repo):
    shutil.rmtree(repo / "training")

    with pytest.raises(ValueError, match="has no training/metrics.jsonl: it stays where the model was trained"):
        figure("training-time", str(repo))


@pytest.mark.parametrize("name", ["sampling-time", "training-time"])
def test_the_same_repository_gives_the_same_bytes(name, repo):
    (repo / "metrics.json").write_text(json.dumps({"evaluations": [evaluation(10), evaluation(20, rate=9.0)]}))

    first = figure(name, str(repo)).read_bytes()

    assert figure(name, str(repo)).read_bytes() == first
    assert Image.open(io.BytesIO(first)).info.keys() == {"dpi"}


def test_rows_are_filled_in_the_order_of_drawing_and_no_more_is_drawn_than_needed():
    labels = [[0, 0, 1], [0, 2, 1], [1, 2, 2], [0, 0, 0]]
    taken = []

    def batches():
        for batch, found in enumerate(labels):
            taken.append(batch)
            yield torch.arange(3).add(10 * batch).view(3, 1, 1, 1), torch.tensor(found)

    rows, drawn = first_of_each(batches(), 3, each=2)

    assert [row.flatten().tolist() for row in rows] == [[0, 1], [2, 12], [11, 21]]
    assert (drawn, taken) == (9, [0, 1, 2])


def test_a_class_that_never_comes_stays_empty():
    batches = [(torch.ones(3, 1, 2, 2), torch.tensor([0, 2, 0]))] * 2

    rows, drawn = first_of_each(batches, 3, each=5)

    assert [len(row) for row in rows] == [4, 0, 2]
    assert drawn == 6


@pytest.fixture(scope="module")
def conditional(tmp_path_factory, tiny_always):
    """A tiny model of eleven classes, the last of which is none. Read only."""
    overrides = {"components.unet.num_class_embeds": 11, "objective.label_dropout": 0.1, "training.max_steps": 1}
    return train("ddpm-quick", tmp_path_factory.mktemp("conditional") / "repo", overrides=tiny_always | overrides)


def spy_on_drawing(monkeypatch) -> dict:
    """Returns what `named_rows` is about to be called with."""
    seen, draw = {}, plotting.named_rows

    def spy(rows, names, columns, title, scale, captions=None):
        seen.update(rows=rows, names=list(names), title=title)
        return draw(rows, names, columns, title, scale)

    monkeypatch.setattr(plotting, "named_rows", spy)
    return seen


def test_a_conditional_model_is_asked_for_ten_images_of_each_class(conditional, tmp_path, monkeypatch):
    monkeypatch.setattr(  # each image shows the class that it was asked to be of
        Sampler, "call", lambda self, batch, labels, size: (labels / 255).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    )
    seen = spy_on_drawing(monkeypatch)

    figure("classes", str(conditional), str(tmp_path / "classes.png"))

    assert seen["names"][1:3] == ["Trouser", "Pullover"]
    assert [(len(row), row.mul(255).round().unique().tolist()) for row in seen["rows"]] == [
        (10, [n]) for n in range(10)
    ]
    assert "10 images asked for of each class" in seen["title"]


def test_classes_of_a_data_set_that_is_elsewhere_go_by_numbers_and_none_is_no_class(
    conditional, tmp_path, monkeypatch
):
    repo = shutil.copytree(conditional, tmp_path / "repo")
    recipe = yaml.safe_load((repo / "recipe.yaml").read_text())
    recipe["data"]["source"] = "/somewhere/else"
    (repo / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    seen = spy_on_drawing(monkeypatch)

    first = figure("classes", str(repo)).read_bytes()

    assert seen["names"] == list("0123456789")
    assert figure("classes", str(repo)).read_bytes() == first
    assert figure("classes", str(repo), seed=1).read_bytes() != first


def test_images_of_an_unconditional_model_are_sorted_by_the_classifier(repo, monkeypatch):
    recipe = yaml.safe_load((repo / "recipe.yaml").read_text())
    recipe["data"]["source"] = "sample"
    (repo / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    real = data.load(data.DataConfig(source="sample"), "test")
    bags = real.images[real.labels == 8][:60]
    monkeypatch.setattr(Sampler, "call", lambda self, batch, labels, size: bags[:size] / 255)
    monkeypatch.setattr("genhub.figures.samples.MOST", 100)
    seen = spy_on_drawing(monkeypatch)

    picture = Image.open(figure("classes", str(repo)))

    assert max(range(10), key=lambda label: len(seen["rows"][label])) == 8
    assert seen["names"][8] == "Bag"
    assert "of 100 drawn" in seen["title"]
    space = next(pinned_spaces())
    found = space.probabilities(space(bags[:50])).argmax(1)
    for label, row in enumerate(seen["rows"]):  # the first ten, in the order of drawing
        assert torch.equal(row * 255, bags[:50][found == label].repeat(2, 1, 1, 1)[:10].float())
    empty = next(label for label, row in enumerate(seen["rows"]) if not len(row))
    height = 3 * 28 + 2
    top = picture.height - 12 - (10 - empty) * height + height // 2
    assert np.unique(np.asarray(picture)[top, -500:-12]).tolist() == [128]


def test_an_unconditional_model_of_other_images_has_no_classes(tiny_repo, tmp_path):
    with pytest.raises(
        ValueError, match="must be conditional or trained on Fashion MNIST, got an unconditional model"
    ):
        figure("classes", str(tiny_repo), str(tmp_path / "classes.png"))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["clases", "REPO"],
            "There is no figure 'clases' (did you mean 'classes'?). Known: activations, arithmetic, classes, codes",
        ),
        (["classes", "/no/such/folder"], "neither an existing folder nor a repository"),
        (["classes", "REPO", "--output", "x.jpg"], "`output` must be a .png file, got x.jpg"),
        (["classes", "REPO", "--output", "/no/such/folder/x.png"], "must lie in an existing folder"),
        (["classes", "REPO", "--seed", "-1"], "`seed` must be at least 0, got -1"),
        (
            ["sampling-time", "REPO", "--steps", "3"],
            "`steps` must be unset: the figure sampling-time takes no options, got 3",
        ),
        (["sampling-time", "REPO"], "run `genhub evaluate"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, message, tiny_repo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    code = main(["figure", *(str(tiny_repo) if word == "REPO" else word for word in arguments)])

    error = capsys.readouterr().err.splitlines()
    assert code == 1
    assert error[-1].startswith("genhub: error: ")
    assert message in error[-1]
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_extra_is_named(repo, monkeypatch):
    (repo / "metrics.json").write_text(json.dumps({"evaluations": [evaluation()]}))
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ValueError, match=r"pip install genhub\[figures\]"):
        figure("sampling-time", str(repo))


def test_the_command_writes_the_file_and_says_where(repo, tmp_path, capsys):
    (repo / "metrics.json").write_text(json.dumps({"evaluations": [evaluation()]}))

    assert main(["figure", "sampling-time", str(repo), "--output", str(tmp_path / "x.png")]) == 0
    assert main(["figure", "sampling-time", str(repo)]) == 0

    assert (tmp_path / "x.png").read_bytes() == (repo / "sampling-time.png").read_bytes()
    assert f"Wrote {repo / 'sampling-time.png'}" in capsys.readouterr().out


def test_help_knows_every_figure():
    assert [name for name in FIGURES if f"\n{name} " not in cli.EPILOG["figure"]] == []


def test_a_figure_that_lies_in_the_repository_is_shown_on_its_card_once(tmp_path):
    text = f"before\n{results.FIGURES_BEGIN}\n{results.FIGURES_END}\nafter\n"

    once = results.with_figure(results.with_figure(text, "units.png"), "codes.png")

    assert once == results.with_figure(once, "units.png")
    assert re.findall(r"\]\((.+?)\)", once) == ["codes.png", "units.png"]
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert results.with_figure("a card that someone wrote anew", "units.png") == "a card that someone wrote anew"
