"""The comment of a recipe describes its own data and settings, and no others."""

import pytest

from genhub import recipes
from genhub.recipes.yaml import read_yaml


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ({"data.source": "./mine", "training.epochs": 3}, "data.source, training.epochs"),
        ({"training.batch_size": 8}, "training.batch_size"),
        ({"components.vae.latent_channels": 3, "training.seed": 1}, "components.vae.latent_channels"),
    ],
)
def test_other_data_or_settings_replace_the_comment_and_what_the_source_reports(overrides, keys):
    own, changed = recipes.load("conv-vae-mnist"), recipes.load("conv-vae-mnist", overrides)

    assert changed.comment == f"# The recipe `conv-vae-mnist` with other data or settings than its own: {keys}.\n"
    assert own.reported
    assert not changed.reported
    assert not read_yaml(changed.text).get("reported")


def test_the_papers_stay_named():
    papers = ["Nichol & Dhariwal 2021", "Luhman & Luhman 2022", "Salimans & Ho 2022", "Jordan et al. 2024"]

    comment = recipes.load("conditional-ddpm", {"data.source": "./mine"}).comment.replace("\n# ", " ")

    assert f"Its papers: {'; '.join(papers)}; " in comment
    assert "Fashion" not in comment


@pytest.mark.parametrize("key", ["training.seed", "training.log_every", "evaluation.every", "data.workers"])
def test_settings_that_change_no_experiment_keep_the_comment(key):
    assert recipes.load("conv-vae", {key: 7}).comment == recipes.load("conv-vae").comment


@pytest.mark.parametrize("name", ["conv-vae-mnist", "conditional-ddpm"])
def test_further_changes_are_added_to_those_before(name, tmp_path):
    first = recipes.load(name, {"data.source": "./mine", "data.size": 8})
    (tmp_path / "recipe.yaml").write_text(first.text)

    second = recipes.load(tmp_path, {"data.size": 8, "training.epochs": 3})

    both = recipes.load(name, {"data.source": "./mine", "data.size": 8, "training.epochs": 3})
    assert second.comment == both.comment


def test_a_resumed_run_keeps_the_comment_that_it_got(tmp_path):
    changed = recipes.load("conv-vae", {"data.source": "./mine"})
    (tmp_path / "recipe.yaml").write_text(changed.text)

    assert recipes.load(tmp_path).text == changed.text
