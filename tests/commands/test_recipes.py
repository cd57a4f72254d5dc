"""`genhub recipes NAME` shows a recipe, with what was measured of the published model and nothing that was not."""

import json
import math
from pathlib import Path

import pytest
import yaml

import genhub
from genhub import recipes
from genhub.cli import main
from genhub.repository import names

CARDS = Path(genhub.__file__).parent.parent / "model_cards"


def shown(capsys, name: str) -> tuple[dict[str, str], str]:
    """Returns the facts that `genhub recipes NAME` prints, and the YAML below them."""
    assert main(["recipes", name]) == 0
    facts, _, text = capsys.readouterr().out.partition("\n\n")
    return {line[:12].rstrip(): line[12:].strip() for line in facts.splitlines()}, text


@pytest.mark.parametrize("name", ["gan-best", "dcgan", "latent-ddpm"])
def test_a_published_recipe_is_shown_with_the_figures_of_its_card(name, capsys):
    facts, text = shown(capsys, name)

    metrics = json.loads((CARDS / name / "metrics.json").read_text())
    assert text.rstrip() == recipes.path(name).read_text().rstrip()  # with its comment
    minutes, _, hardware = facts["minutes"].partition(",")
    assert int(minutes) == math.ceil(metrics["training"]["seconds"] / 60)
    assert all(device in hardware for device in metrics["training"]["steps_on"])  # of all that it was trained on
    parts = [path.parent.name for path in (CARDS / name).glob("*/*.safetensors")]
    counts = [metrics["training"]["parameters"][part] for part in parts]
    assert facts["parameters"].split()[0] == f"{sum(counts):,}"
    assert Path(facts["card"]).samefile(CARDS / name / "README.md")


def test_what_nobody_measured_is_not_said(capsys):
    facts, text = shown(capsys, "rbm")

    assert facts["model"].startswith("not published")
    assert not {"minutes", "parameters", "quality", "card"} & facts.keys()
    assert text.startswith("# A restricted Boltzmann machine")


def test_a_recipe_of_ones_own_is_shown_without_figures_of_another(tmp_path, capsys):
    (tmp_path / "gan-best.yaml").write_text("# Mine.\n" + recipes.path("gan-best").read_text())

    facts, text = shown(capsys, str(tmp_path / "gan-best.yaml"))

    assert facts["model"].startswith("not published")
    assert facts["train it by"] == f"genhub train {tmp_path / 'gan-best.yaml'}"
    assert text.startswith("# Mine.")


def test_outside_a_clone_the_card_is_said_to_be_in_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(names, "CLONE", tmp_path)

    assert shown(capsys, "gan-best")[0]["card"] == "in model_cards of a clone"


def test_scripts_read_a_recipe_and_the_list_as_json(capsys):
    assert main(["recipes", "gan-best", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert main(["recipes", "--json"]) == 0
    every = json.loads(capsys.readouterr().out)

    assert one["recipe"] == yaml.safe_load(recipes.path("gan-best").read_text())
    assert [entry["name"] for entry in every] == recipes.names()
    assert one["published"] == next(entry["published"] for entry in every if entry["name"] == "gan-best")


def test_a_typo_is_answered_with_the_nearest_recipe(capsys):
    assert main(["recipes", "gan-bets"]) == 1
    assert "did you mean 'gan-best'?" in capsys.readouterr().err
