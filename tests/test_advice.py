"""Commands that genhub prints, in lines that begin with "Next:" and in errors, work as they are printed."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

import genhub
from genhub.cli import main


def commands(text: str) -> list[list[str]]:
    """Returns the words of the genhub commands in a text: in backticks, or after "Next:", "or:" and "it:"."""
    found = re.findall(r"`(genhub [^`]+)`", text)
    found += re.findall(r"(?:Next|or|it): (genhub .+?)(?= {4}|$)", text, re.MULTILINE)
    return [shlex.split(command)[1:] for command in found]


def as_words(overrides: dict) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in overrides.items()]


@pytest.fixture
def photos(tmp_path):
    dice = np.random.default_rng(0)
    for number in range(40):
        folder = tmp_path / "photos" / f"class {number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dice.integers(0, 255, (30, 34), np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_the_lines_after_a_training_work(tiny_repo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("genhub.cli.ENOUGH_IMAGES", 1)
    monkeypatch.setattr("genhub.training.run.train", lambda *words, **options: tiny_repo)
    monkeypatch.setattr("genhub.commands.push.push", lambda folder, repo_id, private, dry_run: f"{folder} {repo_id}")
    monkeypatch.setattr("genhub.commands.evaluate.evaluate", lambda repo, **options: tiny_repo)
    monkeypatch.setattr("genhub.cli._print_evaluation", print)

    assert main(["train", "ddpm-quick"]) == 0
    advised = commands(capsys.readouterr().out)

    assert [words[0] for words in advised] == ["generate", "evaluate", "push"]
    for words in advised:
        extra = ["--count", "2", "--output", str(tmp_path / "a.png")] if words[0] == "generate" else []
        assert main([*words, *extra]) == 0, words


def test_a_run_that_is_not_finished_is_answered_with_the_command_that_ends_it(tiny, tmp_path, capsys):
    folder = tmp_path / "run"
    genhub.train("ddpm-quick", folder, overrides=tiny)
    (folder / "model_index.json").unlink()

    for command in (["generate", str(folder)], ["evaluate", str(folder)], ["push", str(folder), "user/name"]):
        assert main(command) == 1
        (words,) = commands(capsys.readouterr().err)
        assert words == ["train", "--resume", str(folder)]
    assert main(words) == 0
    assert main(["generate", str(folder), "--count", "2"]) == 0


def test_a_run_in_the_way_is_answered_with_options_that_work(tiny, tmp_path, capsys):
    folder = tmp_path / "run"
    genhub.train("ddpm-quick", folder, overrides=tiny)
    words = ["train", "ddpm-quick", str(folder), *as_words(tiny)]

    assert main(words) == 1

    (error,) = re.findall("genhub: error: .*", capsys.readouterr().err)
    assert main([*words, *re.findall("--resume", error)]) == 0
    assert re.findall("--output_dir", error)
    assert main(["train", "ddpm-quick", "--output_dir", str(tmp_path / "other"), *as_words(tiny)]) == 0


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("dcgan", {}),
        ("dcgan", {"training.batch_size": 64}),
        ("ddpm-quick", {"data.val_size": 40}),
        ("stacked-ae", {"data.val_size": 5000, "training.batch_size": 64}),
    ],
)
def test_values_that_errors_propose_for_a_small_set_lead_to_a_training(recipe, options, photos, tmp_path):
    """Follows each error's `key: value` until the data fit: the first of them names a value that works."""
    given = {"data.source": str(photos), "data.size": 28, "training.max_steps": 1, "training.max_minutes": None}
    given |= {"training.num_samples": 2, "training.validate_every": 0} | options
    if recipe == "ddpm-quick":
        given["pipeline.num_inference_steps"] = 2
    for _ in range(3):
        try:
            genhub.train(recipe, tmp_path / "run", overrides=given)
            break
        except ValueError as error:
            (key, value), *_ = re.findall(r"`([a-z_.]+): ([^`]+)`", str(error))
            assert key not in given or str(given[key]) != value
            given[key] = float(value) if "." in value else int(value)
    else:
        pytest.fail("no training after three errors")
