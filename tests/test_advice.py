"""Commands and options that genhub prints, after "Next:" and in errors, work as they are printed."""

import ast
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genhub
from genhub.cli import main

TESTS = Path(__file__).parent
FOLLOWED = {  # a command or an option that the code prints -> the test that follows it
    "genhub generate {}": "test_the_lines_after_a_training_work",
    "genhub evaluate {}": "test_a_figure_of_an_evaluation_names_the_command_that_makes_it",
    "genhub train --resume {}": "test_a_run_that_is_not_finished_is_answered_with_the_command_that_ends_it",
    "genhub train --resume {} {}": "test_the_command_that_is_advised_after_an_infinite_loss_works",
    "genhub train {}": "test_the_command_that_makes_weights_makes_them",
    "--{} runs/{}/{}": "test_the_command_that_makes_weights_makes_them",
    "genhub figure reconstructions {}": "test_a_model_that_only_reconstructs_is_answered_with_its_figure",
    "genhub models": "test_the_models_that_an_error_speaks_of_are_listed",
    "genhub recipes": "test_an_unknown_recipe_is_answered_with_the_list",
    "genhub doctor": "test_doctor_tells_what_a_run_would_get",
    "genhub evaluate": "test_a_figure_of_an_evaluation_names_the_command_that_makes_it",
    "--count": "test_an_evaluation_without_a_full_batch_has_no_time",
    "--training.sample_every N": "test_figures_of_a_training_name_the_options_that_record_for_them",
    "--evaluation.every N": "test_figures_of_a_training_name_the_options_that_record_for_them",
    "--data.val_size N": "test_figures_of_a_training_name_the_options_that_record_for_them",
    "--auto_resume": "test_one_command_starts_goes_on_and_is_done",
    "--runtime": "test_the_runtime_option_that_is_advised_takes_an_unpacked_package",
    "genhub export": "test_an_export_lies_in_its_repository_with_which_it_is_pushed",
    "genhub export {}": "test_an_export_lies_in_its_repository_with_which_it_is_pushed",
    "--data.{}": "test_the_padding_that_is_advised_fits",
}


def printed_advice() -> set[str]:
    """Returns what the strings of the package advise, docstrings and help texts aside; `{}` stands for a value."""
    found = set()
    for path in (TESTS.parent / "genhub").rglob("*.py"):
        tree = ast.parse(path.read_text())
        nodes = [*ast.walk(tree)]
        docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            if id(node) in docs | parts or path.name in ("options.py", "overview.py"):
                continue
            found |= set(re.findall(r"`((?:genhub (?!trains)[a-z]|--[a-z{])[^`]*)`", as_template(node)))
            found |= set(re.findall(r"^(genhub (?!trains)[a-z]+ .*)$", as_template(node)))
    return found


def as_template(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(as_template(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


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
    monkeypatch.setattr("genhub.commands.results.ENOUGH_IMAGES", 1)
    monkeypatch.setattr("genhub.training.run.train", lambda *words, **options: tiny_repo)
    monkeypatch.setattr("genhub.commands.push.push", lambda folder, repo_id, private, dry_run: f"{folder} {repo_id}")
    monkeypatch.setattr("genhub.commands.evaluate.evaluate", lambda repo, **options: tiny_repo)
    monkeypatch.setattr("genhub.commands.results.of_evaluation", lambda folder: ({}, [str(folder)]))

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


def test_all_printed_advice_is_followed_by_a_test():
    tests = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))

    assert printed_advice() - {"--{}", "--data"} == FOLLOWED.keys()  # an option as it was typed; the name of an option
    assert [name for name in FOLLOWED.values() if f"def {name}(" not in tests] == []


def test_a_figure_of_an_evaluation_names_the_command_that_makes_it(tiny, tmp_path, capsys):
    folder = genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny)
    assert main(["figure", "sampling-time", str(folder)]) == 1
    (advised,) = commands(capsys.readouterr().err)
    few = ["--data", "sample", "--count", "130", "--batch_size", "64"]  # not the protocol's number, to be quick

    assert main([*advised, *few]) == 0
    assert main(["figure", "sampling-time", str(folder)]) == 0


@pytest.mark.parametrize(
    ("recipe", "figure", "option", "lacking", "given"),
    [
        ("ddpm-quick", "milestones", "--training.sample_every", 0, 2),
        ("ddpm-quick", "training-time", "--data.val_size", 0, 16),
        ("gan", "training-time", "--evaluation.every", 0, 2),
    ],
)
def test_figures_of_a_training_name_the_options_that_record_for_them(
    recipe, figure, option, lacking, given, tiny, tmp_path, capsys
):
    if recipe == "gan":
        tiny = {key: value for key, value in tiny.items() if key.startswith(("data.", "training."))}
    tiny |= {"evaluation.every": 0, "evaluation.count": 16, option.removeprefix("--"): lacking}
    folder = genhub.train(recipe, tmp_path / "run", overrides=tiny)
    assert main(["figure", figure, str(folder)]) == 1
    assert f"`{option} N`" in capsys.readouterr().err

    words = [word for word in as_words(tiny) if not word.startswith(option)]
    assert main(["train", recipe, str(tmp_path / "other"), *words, option, str(given)]) == 0
    assert main(["figure", figure, str(tmp_path / "other")]) == 0


def test_a_model_that_only_reconstructs_is_answered_with_its_figure(tiny, tmp_path, capsys):
    change = {"data.source": tiny["data.source"], "data.val_size": 16, "training.max_steps": 1}
    folder = genhub.train("linear-ae", tmp_path / "run", overrides=change)

    assert main(["generate", str(folder)]) == 1
    (advised,) = commands(capsys.readouterr().err)
    assert main([*advised, "--count", "4"]) == 0


def test_an_unknown_recipe_is_answered_with_the_list(capsys):
    assert main(["train", "ddpm-quik"]) == 1
    (advised,) = commands(capsys.readouterr().err)
    assert main(advised) == 0
    assert "ddpm-quick" in capsys.readouterr().out


def test_the_models_that_an_error_speaks_of_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["generate", "gan-bets"]) == 1
    (advised,) = commands(capsys.readouterr().err)
    assert main(advised) == 0
    assert "gan-best" in capsys.readouterr().out


def test_the_command_that_makes_weights_makes_them(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = {"data.source": tiny["data.source"], "data.val_size": 16, "training.batch_size": 10, "training.max_steps": 1}
    few = as_words(few)
    command = ["train", "pretrained-classifier", *few, "--data.labelled", "20"]

    assert main(command) == 1
    error = capsys.readouterr().err
    (made,) = commands(error.partition(" makes it")[0] + "`")
    (option,) = re.findall(r"then `(--[^`]*)`", error)
    assert main([*made, *few]) == 0
    assert main([*command, *option.split()]) == 0


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
