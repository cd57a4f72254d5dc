"""The report on pretraining: what it compares, and what it makes of its figures."""

import pytest
import torch
from studies.pretraining import BASELINES, NETWORKS, RECIPE, WAYS, features, fitted, markdown, start, write_report
from tiny import tiny_model

from genhub.data import Images
from genhub.recipes.recipe import load_recipe


@pytest.mark.parametrize("network", NETWORKS)
def test_ways_to_start_differ_in_weights_and_in_what_moves_alone(network, tmp_path):
    autoencoder, changes = NETWORKS[network]

    scratch, tuned, frozen = (load_recipe(RECIPE, changes | start(way, changes, tmp_path)) for way in WAYS)

    assert (scratch.weights, tuned.weights) == ({}, {"classifier": f"{tmp_path}/autoencoder"})
    assert tuned.weights == frozen.weights
    assert load_recipe(autoencoder).components.keys() == {"autoencoder"}
    ways = [recipe.sections | {"components": None} for recipe in (scratch, tuned, frozen)]
    assert ways[0] == ways[1]
    head = {"classifier.head": ways[1]["optimizers"]["classifier"]}
    objective = ways[1]["objective"] | {"trains_body": False}
    assert ways[2] == ways[1] | {"optimizers": head, "objective": objective}


@pytest.mark.parametrize("draws", [-1, 0, 1, 501])
def test_more_draws_than_labels_and_less_than_a_spread_are_refused_before_any_work(draws, tmp_path):
    with pytest.raises(ValueError, match=f"`draws` must lie in 2..500, the labels of a draw, got {draws}"):
        write_report("nowhere", tmp_path / "report", draws=draws)

    assert not (tmp_path / "report").exists()


def test_the_table_has_means_spreads_and_differences_of_the_same_draws():
    figures = {
        "SVM (RBF) on pixels": ([0.70, 0.80], None),
        "dense, from scratch": ([0.71, 0.81], 100),
        "dense, pretrained, frozen": ([0.68, 0.80], 100),
    }
    rows = {
        name: {"accuracy": {str(draw): value for draw, value in enumerate(values)}, "steps": steps}
        for name, (values, steps) in figures.items()
    }
    rest = {"labels": 500, "test_images": 10000, "draws": 2, "pretraining": {}}
    rest["pretraining"]["some-ae"] = {"steps": 1000, "images": 32000}

    lines = markdown(rest | {"rows": rows}).split("\n")

    assert "- dense, pretrained, frozen: -2.0 ± 1.4 points, better in 0 of 2 draws." in lines
    assert "| SVM (RBF) on pixels |  | 75.0 ± 7.1 |  |  |" in lines
    assert "| dense, from scratch | 100 | 76.0 ± 7.1 | +1.0 ± 0.0 |  |" in lines
    assert "| dense, pretrained, frozen | 100 | 74.0 ± 8.5 | -1.0 ± 1.4 | -2.0 ± 1.4 |" in lines
    assert "Length of pretraining: `some-ae` 1,000 steps, 32,000 images." in lines


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_tells_bright_images_from_dark_ones(name):
    labels = torch.arange(40) % 2
    noise = torch.randint(100, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = Images(noise + 150 * labels[:, None, None, None].to(torch.uint8), labels)

    assert fitted(BASELINES[name], images[:20], images[20:], lambda pixels: pixels.flatten(1) / 255) == 1.0


def test_features_are_what_the_last_layer_sees_of_images_in_the_range_of_models():
    classifier, images = tiny_model("ImageClassifier"), torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)

    found = features(classifier, images, batch_size=2)

    torch.testing.assert_close(found, classifier(images / 127.5 - 1).features.detach())
