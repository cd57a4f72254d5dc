"""The reference rows, computed small, and what is stored of them."""

import json

import pytest
import scipy.stats
import torch
from quick import quick_metrics
from tiny import tiny_model

from genhub.data import DataConfig, load
from genhub.evaluation.features import PINNED, ClassifierSpace, pinned_spaces
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.generation_metrics import SlicedWassersteinDistance
from genhub.evaluation.references import add_metrics, compute, spearman, stored, table


@pytest.fixture(scope="module")
def sample():
    return load(DataConfig(source="sample", val_size=0), "train")


def make_evaluator(sample, metrics):
    """Returns an evaluator with two classifiers that know nothing."""
    spaces = [
        ClassifierSpace(name, tiny_model("ImageClassifier", seed=seed, num_classes=10), f"untrained {seed}")
        for seed, name in enumerate(("clf", "clf-1"))
    ]
    return Evaluator(sample[:1000], sample[2000:2300], spaces, metrics=metrics)


@pytest.fixture(scope="module")
def found(sample):
    """All rows with 150 images."""
    return compute(make_evaluator(sample, quick_metrics(70, 100, 150)), sample[4000:4100], draws=2, count=150)


def test_every_row_has_figures_and_a_memorisation_report(found):
    names = [row["name"] for row in found["rows"]]

    assert names[:2] == ["real, 100 held-out images", "memoriser (real training images)"]
    assert len(set(names)) == 10
    assert [row["figures"][0]["images"] for row in found["rows"]] == [100] + [150] * 9
    assert [row["name"] for row in found["rows"] if row["memorisation"]["pix"]["duplicates"] == 150] == [
        "memoriser (real training images)",
        "without a class (Bag)",
    ]
    assert json.loads(json.dumps(found)) == found


def test_a_metric_that_is_added_later_is_what_it_would_have_been(found, sample):
    def without_mind(entry):
        return entry | {"figures": [figure for figure in entry["figures"] if figure["name"] != "MIND"]}

    older = found | {"rows": [*map(without_mind, found["rows"])], "spread": without_mind(found["spread"])}
    del older["effective_rank"]

    assert add_metrics(older, make_evaluator(sample, (SlicedWassersteinDistance(),)), sample[4000:4100]) == found


def test_the_spread_is_that_of_other_draws(found):
    spread = {(figure["name"], figure["space"]): figure for figure in found["spread"]["figures"]}

    memoriser = next(f for f in found["rows"][1]["figures"] if (f["name"], f["space"]) == ("FD", "pix"))
    assert spread["FD", "pix"]["sd"] > 0
    assert abs(memoriser["value"] - spread["FD", "pix"]["value"]) < 10 * spread["FD", "pix"]["sd"]


@pytest.mark.parametrize("space", ["clf", "pix"])
def test_the_table_shows_each_row_once(found, space):
    renamed = json.loads(json.dumps(found).replace('"FD', '"FD-FM'))  # as the pinned nets would have it

    lines = table(renamed, space).splitlines()

    assert len({line.count("|") for line in lines[:12]}) == 1
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:12]] == [row["name"] for row in found["rows"]]


def test_rank_correlation_is_that_of_scipy(found):
    a, b = [3.0, 1.0, 2.0, 10.0, 4.5], [30.0, 20.0, 10.0, 50.0, 60.0]

    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert -1 <= found["order"]["clf-1"] <= 1


def test_what_is_stored_is_of_the_pinned_nets_and_its_order_hangs_on_none_of_them():
    kept = stored()

    assert {space.name: space.key for space in pinned_spaces()}.items() <= kept["spaces"].items()
    assert len(kept["order"]) == len(PINNED) - 1
    assert all(order >= 0.9 for order in kept["order"].values())


@pytest.mark.parametrize("space", ["clf", "pix"])
def test_every_fault_is_farther_than_real_images_by_mind_too(space):
    def mind(row):
        return next(f["value"] for f in row["figures"] if (f["name"], f["space"]) == ("MIND", space))

    real, memoriser, *faults = map(mind, stored()["rows"])

    assert memoriser < real  # of half as many images
    assert min(faults) > 1.5 * real
    assert 13 < stored()["effective_rank"][space] < 15


def test_the_stored_rows_are_in_the_order_of_the_protocol():
    """Section 8.3 and 8.7, in both spaces, with 10,000 images."""
    distances = {
        space: {row["name"].split(",")[0].split(" (")[0]: row for row in stored()["rows"]} for space in ("clf", "pix")
    }

    def distance(name: str, space: str) -> float:
        figures = distances[space][name]["figures"]
        return next(f["value"] for f in figures if f["name"] == "FD-FM" and f["space"] == space)

    for space in ("clf", "pix"):
        worse = [distance(name, space) for name in ("memoriser", "without a class", "blurred", "black")]
        assert worse == sorted(worse)
        for name in ("with noise", "mirrored", "PCA-32 reconstructions", "pixel Gaussian", "uniform noise"):
            assert distance(name, space) > distance("memoriser", space)
    suspect = {name for name, row in distances["pix"].items() if row["memorisation"]["pix"]["suspect"]}
    assert {"memoriser", "without a class"} <= suspect
    assert torch.tensor([distance("real", "clf"), distance("memoriser", "clf")]).max() < distance("with noise", "clf")
