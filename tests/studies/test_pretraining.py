"""The report on pretraining: what it compares, and how it renders its numbers."""

import json
from pathlib import Path

import pytest
import torch
from studies.pretraining import (
    BASELINES,
    NETWORKS,
    RECIPE,
    STARTS,
    features,
    fit_and_score,
    markdown,
    start_overrides,
    write_report,
)
from tiny import tiny_model

from genhub import recipes
from genhub.data import Images

DOCS = Path(__file__).parents[2] / "docs/pretraining"


@pytest.mark.parametrize("network", NETWORKS)
def test_starts_differ_only_in_weights_and_in_what_is_trained(network, tmp_path):
    autoencoder, overrides = NETWORKS[network]

    scratch, tuned, frozen = (
        recipes.load(RECIPE, overrides | start_overrides(start, overrides, tmp_path)) for start in STARTS
    )

    assert (scratch.weights, tuned.weights) == ({}, {"classifier": f"{tmp_path}/autoencoder"})
    assert tuned.weights == frozen.weights
    assert recipes.load(autoencoder).components.keys() == {"autoencoder"}
    rest = [recipe.sections | {"components": None} for recipe in (scratch, tuned, frozen)]
    assert rest[0] == rest[1]
    head = {"classifier.head": rest[1]["optimizers"]["classifier"]}
    objective = rest[1]["objective"] | {"trains_body": False}
    assert rest[2] == rest[1] | {"optimizers": head, "objective": objective}


@pytest.mark.parametrize("draws", [-1, 0, 1, 501])
def test_more_draws_than_labels_and_too_few_for_a_deviation_are_refused_before_any_work(draws, tmp_path):
    with pytest.raises(ValueError, match=f"`draws` must lie in 2..500, the labels of a draw, got {draws}"):
        write_report("nowhere", tmp_path / "report", draws=draws)

    assert not (tmp_path / "report").exists()


def report_of(rows: dict[str, tuple[list[float], int | None]]) -> dict:
    rows = {
        row: {"accuracy": {str(draw): value for draw, value in enumerate(values)}, "steps": steps}
        for row, (values, steps) in rows.items()
    }
    pretraining = {"some-ae": {"steps": 1000, "images": 32000}}
    return {"labels": 500, "test_images": 10000, "draws": 2, "pretraining": pretraining, "rows": rows}


def test_the_table_has_means_deviations_and_differences_of_the_same_draws():
    rows = {
        "SVM (RBF) on pixels": ([0.70, 0.80], None),
        "dense, from scratch": ([0.71, 0.81], 100),
        "dense, pretrained, frozen": ([0.68, 0.80], 100),
    }

    lines = markdown(report_of(rows)).split("\n")

    assert "- dense, pretrained, frozen: -2.0 ± 1.4 points, better in 0 of 2 draws." in lines
    assert "| SVM (RBF) on pixels |  | 75.0 ± 7.1 |  |  |" in lines
    assert "| dense, from scratch | 100 | 76.0 ± 7.1 | +1.0 ± 0.0 |  |" in lines
    assert "| dense, pretrained, frozen | 100 | 74.0 ± 8.5 | -1.0 ± 1.4 | -2.0 ± 1.4 |" in lines
    assert "Length of pretraining: `some-ae` 1,000 steps, 32,000 images." in lines
    assert not [line for line in lines if "peak" in line]


def test_learning_rates_are_compared_each_start_at_its_best():
    rates = [
        {"peak": 0.5, "accuracy": {"from scratch": 0.7, "pretrained, fine-tuned": 0.9}},
        {"peak": 2.0, "accuracy": {"from scratch": 0.75}},
    ]
    comparison = {"network": "dense", "draws": 3, "table_peak": 0.5, "note": "by hand", "rows": rates}

    text = markdown(report_of({}) | {"learning_rates": comparison})

    assert "- peak 0.5, as in the table: 70.0 % from scratch, 90.0 % pretrained, fine-tuned\n" in text
    assert "- peak 2: 75.0 % from scratch\n" in text
    assert "The best peak is 2 from scratch and 0.5 with pretraining; between these two, pretraining adds 15.0" in text


def test_the_published_report_is_that_of_its_stored_numbers():
    report = json.loads((DOCS / "report.json").read_text())

    assert (DOCS / "README.md").read_text() == markdown(report)
    assert "adds 0.4 points" in markdown(report)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_tells_bright_images_from_dark_ones(name):
    labels = torch.arange(40) % 2
    noise = torch.randint(100, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = Images(noise + 150 * labels[:, None, None, None].to(torch.uint8), labels)

    assert fit_and_score(BASELINES[name], images[:20], images[20:], lambda pixels: pixels.flatten(1) / 255) == 1.0


def test_features_are_the_inputs_of_the_last_layer_for_images_in_the_range_of_models():
    classifier, images = tiny_model("ImageClassifier"), torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)

    inputs = features(classifier, images, batch_size=2)

    torch.testing.assert_close(inputs, classifier(images / 127.5 - 1).features.detach())
