"""Paths that a notebook shows by what lies at them."""

import json
import pickle
import shutil
from pathlib import Path

import pytest

from genhub.repository.shown_path import ShownPath

CARDS = Path(__file__).parents[2] / "model_cards"


@pytest.fixture
def repo(tmp_path):
    for name in ("metrics.json", "samples.png"):
        shutil.copy(CARDS / "gan" / name, tmp_path)
    return ShownPath(tmp_path)


def test_a_shown_path_is_the_path(tmp_path):
    shown = ShownPath(tmp_path / "a.png")

    assert (shown, hash(shown)) == (tmp_path / "a.png", hash(tmp_path / "a.png"))
    assert isinstance(shown, Path)
    assert pickle.loads(pickle.dumps(shown)) == shown
    assert shown._repr_png_() is shown._repr_html_() is None  # nothing lies there


def test_a_picture_shows_its_bytes(repo):
    picture = repo / "samples.png"

    assert picture._repr_png_() == picture.read_bytes()


def test_a_repository_shows_its_samples_losses_and_newest_evaluation(repo):
    metrics = json.loads((repo / "metrics.json").read_text())
    metrics["results"][0] |= {"name": "<loss>", "value": 0.12345, "split": "val"}
    newest = metrics["evaluations"][-1] | {"complete": False}
    newest["figures"] = [newest["figures"][0] | {"value": 7.0, "spread": 0.25}]
    (repo / "metrics.json").write_text(json.dumps(metrics | {"evaluations": [*metrics["evaluations"], newest]}))

    shown = repo._repr_html_()

    assert "image/png;base64,iVBOR" in shown
    assert "<td>&lt;loss&gt; (val)</td><td>0.1235</td>" in shown
    assert "<caption>fmnist-eval-1, reduced</caption><tr><td>FD-FM (clf)</td><td>7 ± 0.25</td></tr></table>" in shown


def test_a_repository_whose_training_was_stopped_says_why_and_shows_nothing_older(repo):
    repo.stopped = "Stopped at step <3>."

    assert repo._repr_html_() == "<p>Stopped at step &lt;3&gt;.</p>"
