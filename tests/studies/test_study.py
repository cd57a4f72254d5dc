"""Studies: a grid of overrides and seeds, run once."""

import json
import statistics
from pathlib import Path

import checkerboard
import pytest
import study
import torch
import yaml

from genhub import recipes

STUDY = {
    "question": "How small may the code be?",
    "recipe": "stacked-ae",
    "grid": {
        "units": {"components.autoencoder.latent_channels": [2, 4]},
        "rate": {"slow": {"optimizers.autoencoder.lr": 1e-4}, "fast": {"optimizers.autoencoder.lr": 1e-3}},
    },
    "measures": ["val_loss", "parameters"],
    "seeds": 2,
    "chart": {"x": "units"},
}


@pytest.fixture
def write(tiny, tmp_path):
    def write(**changes):
        few = {"data.source": tiny["data.source"], "data.val_size": 16, "training.max_steps": 2}
        path = tmp_path / "code-size.yaml"
        path.write_text(
            yaml.safe_dump(STUDY | {"overrides": few | {"training.batch_size": 8}} | changes, sort_keys=False)
        )
        return path

    return write


def test_a_grid_is_every_value_of_an_axis_with_every_one_of_the_next(write):
    cells = [*study.read_study(write()).cells()]

    assert [[*labels.values()] for labels, _ in cells] == [["2", "slow"], ["2", "fast"], ["4", "slow"], ["4", "fast"]]
    assert cells[1][1]["components.autoencoder.latent_channels"] == 2
    assert cells[1][1]["optimizers.autoencoder.lr"] == 1e-3
    assert cells[1][1]["training.batch_size"] == 8


def test_every_cell_is_trained_with_each_seed_and_none_twice(write, tmp_path, monkeypatch):
    change = {"grid": {"units": STUDY["grid"]["units"]}}
    folders = tmp_path / "studies", tmp_path / "runs"
    results = study.run(study.read_study(write(**change)), "code-size", *folders)
    monkeypatch.setattr(study, "train", None)  # nothing is left to do

    again = study.run(study.read_study(write(**change, finding="Two are too few.")), "code-size", *folders)

    assert again.cells == results.cells
    found = [(cell["at"], cell["seed"]) for cell in results.cells]
    assert found == [({"units": units}, seed) for units in ("2", "4") for seed in (0, 1)]
    stored = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("metrics.json")]
    losses = [cell["values"]["val_loss"] for cell in results.cells]
    assert sorted(losses) == sorted(metrics["results"][0]["value"] for metrics in stored)
    text = (tmp_path / "studies/code-size/README.md").read_text()
    assert f"| 2 | {statistics.fmean(losses[:2]):.4g} ± {statistics.stdev(losses[:2]):.2g} | 158,186 |" in text
    assert "Two are too few." in text
    assert (tmp_path / "studies/code-size/chart.png").read_bytes()[:4] == b"\x89PNG"


def test_a_cell_is_measured_anew_when_its_overrides_change(write, tmp_path):
    folders = tmp_path / "studies", tmp_path / "runs"
    grid = {"units": {"components.autoencoder.latent_channels": [2]}}
    for steps in (1, 2):
        few = yaml.safe_load(write().read_text())["overrides"] | {"training.max_steps": steps}
        path = write(grid=grid, seeds=1, overrides=few, measures=["images"])
        results = study.run(study.read_study(path), "code-size", *folders)
        assert [cell["values"] for cell in results.cells] == [{"images": 8 * steps}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "stacked"}, "There is no recipe 'stacked'"),
        ({"grids": {}}, r"There is no `study.grids` \(did you mean 'grid'\?\)"),
        ({"grid": {"units": 3}}, "`grid.units` must be a mapping, got 3"),
        ({"grid": {"units": {"data.sizes": [1]}}}, "There is no `data.sizes`"),
        ({"chart": {"x": "code"}}, "There is no `grid.code`"),
        ({"seeds": 0}, "`seeds` must be a number of at least 1, got 0"),
    ],
)
def test_a_mistake_ends_a_study_before_its_first_run(changes, message, write):
    with pytest.raises(ValueError, match=message):
        study.read_study(write(**changes))


def test_a_measure_that_is_not_there_is_named(write, tmp_path):
    path = write(measures=["val_los"], seeds=1)
    with pytest.raises(ValueError, match=r"There is no `measures.val_los` \(did you mean 'val_loss'\?\)"):
        study.run(study.read_study(path), "code-size", tmp_path / "studies", tmp_path / "runs")


@pytest.mark.parametrize(
    "path", sorted(Path(study.__file__).parent.glob("studies/*.yaml")), ids=lambda path: path.stem
)
def test_a_study_that_is_kept_can_be_run(path):
    found = study.read_study(path)

    assert 1 < len([*found.cells()]) * found.seeds
    for _, overrides in found.cells():
        recipe = recipes.load(found.recipe, overrides, trust_code=True)
        held_out = 5000 if recipe.data.val_size is None else recipe.data.val_size
        for stage in recipe.stages:  # both limits hold, so there must be epochs for as many steps as are asked for
            images = recipe.data.labelled or 60_000 - held_out
            assert stage.training.max_steps in (None, stage.training.steps(images))


STORED = sorted(path.parent for path in (Path(study.__file__).parents[1] / "docs/studies").glob("*/results.json"))
PUBLISHED = [folder for folder in STORED if (folder / "README.md").is_file()]  # the others go on


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_a_published_table_is_that_of_its_stored_numbers_and_whole(folder):
    asked = study.read_study(Path(study.__file__).parent / f"studies/{folder.name}.yaml")
    results = study.Results(asked, folder)

    assert (folder / "README.md").read_text() == study.markdown(results, (folder / "chart.png").is_file())
    assert [len(results.of(*cell)) for cell in asked.cells()] == [asked.seeds] * len([*asked.cells()])


def test_a_study_may_measure_by_a_function_beside_it(write, tmp_path):
    (tmp_path / "files.py").write_text("def count(folder):\n    return len([*folder.glob('*.json')])\n")
    change = {"grid": {"units": {"components.autoencoder.latent_channels": [2]}}, "seeds": 1, "chart": {}}

    path = write(**change, functions={"files": "files.py:count"}, measures=["files"])

    results = study.run(study.read_study(path), "files", tmp_path / "studies", tmp_path / "runs")
    (folder,) = (tmp_path / "runs/files").iterdir()
    assert results.cells[0]["values"] == {"files": len([*folder.glob("*.json")])}


@pytest.mark.parametrize("place", ["none.py:count", "files.py:sum"])
def test_a_function_that_is_not_there_is_refused_before_anything_runs(write, tmp_path, place):
    (tmp_path / "files.py").write_text("")

    with pytest.raises(ValueError, match=f"`functions` must name functions.*, got '{place}'"):
        study.read_study(write(functions={"files": place}))


def test_a_checkerboard_is_a_pattern_of_period_two_that_all_images_have():
    board = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(3, 1, 4, 4)
    noise = torch.rand(500, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    assert checkerboard.strength(board) == pytest.approx(1)
    assert checkerboard.strength(noise) < 0.02
    assert checkerboard.strength(noise + 0.5 * board[:1, :1].repeat(1, 1, 2, 2)) > 0.5


def test_a_study_may_name_classes_of_files_beside_it_and_goes_on_after_a_loss_that_is_not_finite(
    write, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_loss.py").write_text(
        "import genhub.objectives\n\n\n"
        "class Broken(genhub.objectives.Reconstruction):\n"
        "    def reconstruction_loss(self, batch, step):\n"
        "        return {'mse': float('nan') * super().reconstruction_loss(batch, step)['mse']}\n"
    )
    grid = {"loss": {"broken": {"objective.class": "broken_loss.Broken"}, "whole": {}}}
    path = write(grid=grid, seeds=1, measures=["val_loss"], chart={})

    results = study.run(study.read_study(path), "losses", tmp_path / "studies", tmp_path / "runs")
    monkeypatch.setattr(study, "train", None)  # neither is run again
    study.run(study.read_study(path), "losses", tmp_path / "studies", tmp_path / "runs")

    (loss,) = [cell["values"]["val_loss"] for cell in results.cells if cell["values"]]
    text = (tmp_path / "studies/losses/README.md").read_text()
    assert "| broken | not finite |" in text
    assert f"| whole | {loss:.4g} |" in text


def test_a_mean_says_over_how_many_runs_it_is():
    assert study.mean_of([1.0, 3.0, None]) == "2 ± 1.4 (2 of 3; the others not finite)"
