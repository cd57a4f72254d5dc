"""A run's folder after crashes: nothing that was trained is lost, whatever is; and it has one writer at a time."""

import json
import os
import random
import re
import resource
import shutil
import sys
import time

import pytest
import torch
from checkpoints import rewrite, saved
from faults import FAULTS, calls_of, every_call
from worlds import kill, run, same_bits, start, wait

import genhub
from genhub import data
from genhub.cli import main
from genhub.repository import save
from genhub.training.checkpoint import list_checkpoints
from genhub.utils.locks import FolderInUse, locked

STEPS = {"training.max_steps": 2}


@pytest.fixture(scope="module")
def trained(tiny_always, tmp_path_factory):
    """A run of two steps, to compare with and to take copies of."""
    return genhub.train("ddpm-quick", tmp_path_factory.mktemp("run") / "run", overrides=tiny_always | STEPS)


def words(overrides: dict) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in overrides.items()]


def command(folder, tiny: dict, *more: str):
    """Returns an action that trains by the command line."""

    def action():
        raise SystemExit(main(["train", "ddpm-quick", "--output_dir", str(folder), *more, *words(tiny | STEPS)]))

    return action


def queued(tiny: dict):
    """Returns an action that trains below a root, whose errors go into a log beside it."""

    def action(root):
        log = os.open(root.parent / f"{root.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        sys.stderr = open(2, "w", buffering=1, closefd=False)
        command(root / "run", tiny, "--auto_resume")()

    return action


@pytest.fixture(scope="module")
def count(tiny_always, tmp_path_factory) -> int:
    """The number of calls that write in a run."""
    (root := tmp_path_factory.mktemp("counted") / "root").mkdir()
    return len(calls_of(queued(tiny_always), root))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_that_fails_at_any_call_ends_in_one_line_and_goes_on_to_the_same_bits(
    fault, count, trained, tmp_path, tiny
):
    """Here at one call for each fault."""

    def prepare():
        (root := tmp_path / "root").mkdir()
        return root

    number = random.Random(f"{fault}, chosen once").randrange(1, count + 1)
    (outcome,) = every_call(queued(tiny), prepare, fault, [number])

    said = (tmp_path / "root.log").read_text()
    assert "Traceback" not in said + outcome.error, outcome.call
    assert outcome.code != 1 or len(re.findall("^genhub: ", said, re.M)) == 1, said
    assert run(command(outcome.root / "run", tiny, "--auto_resume"), 1, tmp_path / "again") == [0], outcome.call
    assert same_bits(trained, outcome.root / "run"), outcome.call


def test_a_full_disk_in_the_last_save_is_one_line_and_the_run_goes_on(trained, tmp_path, tiny, capfd):
    def train_on_a_disk_that_fills_up():
        write = save.write_repo

        def limited(*arguments):  # what Python does not see: the writer of safetensors
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
            write(*arguments)

        save.write_repo = limited
        command(tmp_path / "run", tiny)()

    assert run(train_on_a_disk_that_fills_up, 1, tmp_path / "log") == [1]

    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert "genhub: error: The repository could not be saved to" in said
    assert "make room and go on with --resume" in said
    assert run(command(tmp_path / "run", tiny, "--resume"), 1, tmp_path / "log") == [0], (tmp_path / "log").read_text()
    assert same_bits(trained, tmp_path / "run")


BOTH = ["recipe.yaml", "training/recipe.yaml"]
LOST = {
    "the published recipe is empty": (BOTH[:1], b""),
    "both recipes are empty": (BOTH, b""),
    "both recipes are zeros": (BOTH, b"\0" * 80),
    "all that is no checkpoint is lost": ([*BOTH, "training/metrics.jsonl"], None),
}


@pytest.mark.parametrize(("lost", "left"), LOST.values(), ids=LOST)
def test_what_is_lost_is_restored_from_the_newest_checkpoint_and_said(lost, left, trained, tmp_path, capfd):
    folder = shutil.copytree(trained, tmp_path / "run")
    (folder / "model_index.json").unlink()
    before = (folder / "recipe.yaml").read_text()
    for file in lost:
        (folder / file).unlink() if left is None else (folder / file).write_bytes(left)

    assert main(["train", "--resume", str(folder)]) == 0

    said = capfd.readouterr().err
    assert len(re.findall(r"^Restored in .*recipe\.yaml", said, re.M)) == 1
    assert (folder / "recipe.yaml").read_text() == before
    assert same_bits(trained, folder)


def test_a_run_without_recipe_and_checkpoint_starts_again_and_one_whose_recipe_is_lost_is_refused(tmp_path, tiny):
    (tmp_path / "run/training").mkdir(parents=True)
    (tmp_path / "run/recipe.yaml").touch()
    folder = genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny | STEPS, auto_resume=True)

    for path in (folder / "recipe.yaml", folder / "training/recipe.yaml"):
        path.write_bytes(b"")
    for path in list_checkpoints(folder / "training/checkpoints"):
        (path / "recipe.yaml").unlink()
    with pytest.raises(ValueError, match="The recipe of the run in .* is lost, and no whole checkpoint carries it"):
        genhub.train("ddpm-quick", folder, overrides=tiny | STEPS, auto_resume=True)


@pytest.mark.parametrize(
    "content", [b"", b'\xff\xfe\n[1]\n{"step": "one"}\nnull\n{"step": 1}\n{"step": 9}\n{"step": 1']
)
def test_a_damaged_log_does_not_keep_a_run_from_going_on(content, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    (folder / "training/metrics.jsonl").write_bytes(content)

    genhub.train(folder, resume=True, overrides={"training.max_steps": 3})

    steps = [json.loads(line)["step"] for line in (folder / "training/metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 3
    assert 9 not in steps


def test_a_checkpoint_of_other_networks_is_refused_in_one_line(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    path = list_checkpoints(folder / "training/checkpoints")[0]
    state = torch.load(path / "state.pt", weights_only=True)
    state["modules"] = {name: {"w": torch.ones(2)} for name in state["modules"]}
    rewrite(path, "state.pt", saved(state))

    with pytest.raises(ValueError, match=r"The checkpoint of step 2 in .* does not fit its recipe \(.*\)\."):
        genhub.train(folder, resume=True, overrides={"training.max_steps": 3})


# Two commands in one folder


def slowly(action):
    """Returns the action with data that take their time, as large ones do."""

    def slow():
        load = data.load

        def slow_load(*arguments):
            time.sleep(0.5)
            return load(*arguments)

        data.load = slow_load
        action()

    return slow


@pytest.mark.parametrize("more", [(), ("--auto_resume",)])
def test_of_two_commands_started_at_the_same_moment_one_trains_and_the_other_is_refused(more, trained, tmp_path, tiny):
    logs = [tmp_path / "one.log", tmp_path / "two.log"]

    children = [start(slowly(command(tmp_path / "run", tiny, *more)), 1, log) for log in logs]
    codes = [wait(child)[0] for child in children]

    assert sorted(codes) == [0, 1]
    refused, other = codes.index(1), codes.index(0)
    said = logs[refused].read_text()
    assert f"is in use by process {children[other][0]} of this machine" in said or "is not empty" in said
    assert "Traceback" not in said
    assert same_bits(trained, tmp_path / "run")


def test_nobody_writes_into_the_folder_of_a_run_that_goes_on(trained, tmp_path, tiny):
    folder = tmp_path / "run"
    long = tiny | {"training.max_steps": 10**6, "training.keep_checkpoints": 2}
    children = start(lambda: genhub.train("ddpm-quick", folder, overrides=long), 1, tmp_path / "log")
    try:
        while not list_checkpoints(folder / "training/checkpoints"):
            time.sleep(0.01)
        owner = f"is in use by process {children[0]} of this machine"

        with pytest.raises(FolderInUse, match=owner):
            genhub.train("ddpm-quick", folder, overrides=tiny | STEPS, resume=True)
        with pytest.raises(FolderInUse, match=owner):
            genhub.save_repo(genhub.AutoPipeline.from_pretrained(trained), folder)
        with pytest.raises(FolderInUse, match=owner):
            genhub.evaluate(str(trained), output=str(folder))
    finally:
        kill(children)
        wait(children)

    with locked(folder):  # it ended with its process
        pass
