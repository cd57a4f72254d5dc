"""Quality against sampling time: what is drawn on common axes, and what is said where there is nothing to draw."""

import io
import json
import shutil
import sys

import pytest
import torch
from PIL import Image

from genhub import data, figure
from genhub.evaluation import references
from genhub.figures.evaluation import MEMORISER, distance_panels


def evaluation(steps=10, value=5.0, rate=20.0, name="FD-FM", complete=True, **samples) -> dict:
    """An evaluation as metrics.json holds it; `samples` changes how images were made."""
    samples = {"images": 10_000, "batch_size": 250, "classes": None, "sampler": "DDIMScheduler", **samples}
    samples |= {"steps": steps, "guidance_scale": samples.get("guidance_scale")}
    decoys = [{"name": name, "space": "pix", "value": 70.0, "spread": 7.0}]
    decoys += [{"name": f"{name} at infinite N", "space": "clf", "value": 60.0, "spread": 6.0}]
    metrics = [*decoys, {"name": name, "space": "clf", "value": value, "spread": value / 10}]
    return {
        "protocol": "fmnist-eval-1",
        "date": "2026-01-31",
        "complete": complete,
        "repository": "a",
        "samples": samples,
        "reference": {"data": "fashion", "split": "test", "images": 10_000, "train_images": 55_000},
        "spaces": {"clf": "c"},
        "figures": [{"spread_is": "sd", "images": 9} | metric for metric in metrics],
        "speed": {"images_per_second_batch_1": 1.0, f"images_per_second_batch_{samples['batch_size']}": rate},
        "hardware": {"device": "abacus", "processes": 1, "threads": 2},
    }


def chart_of(*evaluations):
    return distance_panels("REPO", json.dumps({"evaluations": evaluations}))


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
        evaluation(10, value=2.5, rate=10.0, guidance_scale=2.0, guidance_interval=[0.25, 0.75]),
        evaluation(None, value=9.0, rate=500.0, sampler=None),
        evaluation(10, value=4.0, rate=8.0, scheduler_arguments={"use_karras_sigmas": True}),
        evaluation(None, value=8.0, rate=400.0, sampler=None, arguments={"truncation": 0.5}),
    )

    lines = {line.name: (line.x, line.y, line.spread, line.labels) for line in panels[0].lines}
    assert lines == {
        "DDIMScheduler": ([0.05, 0.25], [5.0, 2.0], [0.5, 0.2], ["10", "50"]),
        "DDIMScheduler, guidance 2": ([0.1], [3.0], [0.3], ["10"]),
        "DDIMScheduler, guidance 2 from 0.25 to 0.75 of the steps": ([0.1], [2.5], [0.25], ["10"]),
        "DDIMScheduler, use_karras_sigmas True": ([0.125], [4.0], [0.4], ["10"]),
        "one pass": ([0.002], [9.0], [0.9], [""]),
        "one pass, truncation 0.5": ([0.0025], [8.0], [0.8], [""]),
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
    assert "not drawn: 1 evaluation with" in older_title
    assert "not drawn: 2 evaluations with" in newer_title


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


@pytest.mark.parametrize("name", ["sampling-time", "training-time"])
def test_the_same_repository_gives_the_same_bytes(name, repo):
    (repo / "metrics.json").write_text(json.dumps({"evaluations": [evaluation(10), evaluation(20, rate=9.0)]}))

    first = figure(name, str(repo)).read_bytes()

    assert figure(name, str(repo)).read_bytes() == first
    assert Image.open(io.BytesIO(first)).info.keys() == {"dpi"}


def test_without_matplotlib_the_extra_is_named(repo, monkeypatch):
    (repo / "metrics.json").write_text(json.dumps({"evaluations": [evaluation()]}))
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ValueError, match=r'pip install -e "\.\[figures\]"'):
        figure("sampling-time", str(repo))
