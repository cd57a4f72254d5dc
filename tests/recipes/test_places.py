"""What is published of a recipe says nothing of this machine; what is run is not lost by that."""

from pathlib import Path

import pytest

from genhub import recipes
from genhub.recipes.places import OWN, published, published_text, published_value
from genhub.recipes.yaml import read_yaml

HOME = "/home/someone/data/my photos"
VALUES = {  # key: value -> published value
    ("data.source", HOME): "./my photos",
    ("data.source", f"{HOME}/"): "./my photos",
    ("data.source", "~/private/photos"): "./photos",
    ("data.source", "../photos"): "./photos",
    ("data.source", "./client/photos"): "./photos",
    ("data.source", "sample"): "sample",
    ("data.source", "zalando-datasets/fashion_mnist"): "zalando-datasets/fashion_mnist",
    ("components.vae.from", "/data/runs/kl/autoencoder"): "./kl/autoencoder",
    ("components.vae.from", "./model_cards/kl/autoencoder"): "./model_cards/kl/autoencoder",
    ("components.vae.from", "someone/kl/autoencoder"): "someone/kl/autoencoder",
    ("components.unet.weights", "~/kl/unet"): "./kl/unet",
    ("training.replay", "/data/runs/one/training/shares.npy"): "./shares.npy",
    ("components.unet.class", "genhub.LeanUNet2DModel"): "genhub.LeanUNet2DModel",
    ("objective.weight", 0.5): 0.5,
    ("components.unet", ("/not a string",)): ("/not a string",),
}


@pytest.mark.parametrize(("key", "value"), VALUES, ids=str)
def test_a_path_of_this_machine_is_published_by_its_name(key, value):
    assert published_value(key, value) == VALUES[key, value]


def test_a_relative_folder_that_is_here_is_a_path_though_it_looks_like_a_name_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("client/photos").mkdir(parents=True)

    assert published_value("data.source", "client/photos") == "./photos"


@pytest.mark.parametrize("name", recipes.names())
def test_the_recipes_of_the_package_are_published_as_they_are(name):
    sections = read_yaml(recipes.path(name).read_text())

    assert published(sections) == sections


def test_a_published_recipe_gets_the_paths_of_its_run_back_and_keeps_what_was_changed_in_it(tmp_path):
    text = recipes.path("latent-ddpm").read_text()
    for name in ("zalando-datasets/fashion_mnist", "./model_cards"):
        text = text.replace(name, f"{tmp_path}/{name.rpartition('/')[2]}")
    (tmp_path / "run/training").mkdir(parents=True)
    (tmp_path / "run" / OWN).write_text(text)
    shown = tmp_path / "run/recipe.yaml"
    shown.write_text(published_text(text))
    assert str(tmp_path) not in shown.read_text()

    for source in (shown, tmp_path / "run"):
        assert recipes.load(source).sections == recipes.load(tmp_path / "run" / OWN).sections | {"name": "run"}
    shown.write_text(shown.read_text().replace("./fashion_mnist", "./others"))
    changed = recipes.load(shown).sections
    assert changed["data"]["source"] == "./others"
    assert changed["components"]["vae"]["from"].startswith(str(tmp_path))

    (tmp_path / "run" / OWN).write_bytes(b"\0\0")  # damaged, or of another: the published recipe counts
    assert recipes.load(shown).data.source == "./others"
