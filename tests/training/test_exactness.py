"""A run that was killed and resumed ends in the same bits, and the number of processes does not matter."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from tiny import PATCH_UNET
from tiny_recipes import SGD, tiny_autoencoder_recipe, tiny_text_recipe
from worlds import kill, run, same_bits, start, wait, weights

from genhub.training.checkpoint import list_checkpoints

STEPS = 6


def training(folder, tiny, recipe="ddpm-quick", **more):
    """Returns an action that trains into `folder`, going on where a run in it stopped."""

    def action():
        from genhub import train

        is_resumed = (folder / "recipe.yaml").exists()
        train(recipe, folder, resume=is_resumed, overrides=tiny | more, trust_code=True)

    return action


GAME = {
    "components.unet": PATCH_UNET,
    "components.critic": PATCH_UNET,
    "objective": {"class": "games.TinyGame", "critic_every": 2},
    "optimizers": {
        "critic": {"class": "torch.optim.Adam", "lr": 0.001},
        "unet": {
            "class": "torch.optim.RMSprop",
            "lr": 0.001,
            "schedule": {"class": "torch.optim.lr_scheduler.CosineAnnealingLR"},
        },
    },
    "pipeline": {"class": "genhub.CosineDDPMPipeline", "num_inference_steps": 2},
}


def game(tiny: dict) -> dict:
    """Returns overrides that turn the tiny recipe into a game of two networks."""
    return tiny | GAME


def plain_game(tiny: dict) -> dict:
    """The same with SGD: optimizers that divide by the size of a gradient blow rounding up where it is next to
    nothing."""
    return game(tiny) | {"optimizers": dict.fromkeys(("critic", "unet"), SGD)}


@pytest.mark.parametrize(
    ("family", "processes", "kills"),
    [
        *(("diffusion", 2, 2), ("game", 1, 2), ("stages", 2, 2), ("replay", 1, 2)),
        *(
            pytest.param(family, processes, 8, marks=pytest.mark.slow)  # 32 moments for one process and 32 for two
            for family in ("diffusion", "game", "stages", "replay")
            for processes in (1, 2)
        ),
    ],
)
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(tmp_path, tiny, family, processes, kills):
    overrides = (game(tiny) if family == "game" else tiny) | {"training.max_steps": STEPS}
    if family == "stages":
        overrides["stages"] = [
            {"training": {"max_steps": 3}, "optimizers": {"unet": {"lr": 0.01}}},
            {
                "training": {"max_steps": 3, "batch_size": 4},
                "optimizers": {"unet": {"class": "torch.optim.SGD", "lr": 0.1}},
            },
        ]
    if family == "replay":
        np.save(tmp_path / "shares.npy", [0.0, 0.2, 0.25, 0.5, 0.7, 0.9])
        overrides |= {"training.max_minutes": 9.0, "training.replay": str(tmp_path / "shares.npy")}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    assert run(training(whole, overrides), processes, tmp_path / "log") == [0] * processes, (
        tmp_path / "log"
    ).read_text()
    duration = time.monotonic() - began
    dice = random.Random(f"{family}{processes}{kills}")

    killed_runs = 0
    while killed_runs < kills:
        children = start(training(killed, overrides), processes, tmp_path / "log")
        time.sleep(dice.uniform(0.1, 1.0) * duration)
        kill(children)
        codes = wait(children)
        if codes == [0] * processes:  # it was done before the moment came: the same again from the start
            assert same_bits(whole, killed)
            subprocess.run(["rm", "-r", str(killed)], check=True)
        killed_runs += any(code == -signal.SIGKILL for code in codes)
    assert run(training(killed, overrides), processes, tmp_path / "log") == [0] * processes, (
        tmp_path / "log"
    ).read_text()

    assert same_bits(whole, killed)
    steps = [json.loads(line)["step"] for line in (killed / "training/metrics.jsonl").read_text().splitlines()]
    assert steps[:STEPS] == list(range(1, STEPS + 1))


@pytest.mark.parametrize(
    "family", ["diffusion", "game", *(pytest.param(x, marks=pytest.mark.slow) for x in ("compression", "text"))]
)
def test_two_processes_with_half_the_batch_give_the_weights_of_one(tmp_path, tiny, family):
    recipe, overrides = "ddpm-quick", tiny | {"training.ema": {"unet": 0.9}}
    if family == "game":
        overrides = plain_game(overrides)
    elif family == "compression":
        recipe, overrides = tiny_autoencoder_recipe(tiny, tmp_path / "recipe.yaml"), {}
    elif family == "text":
        recipe = tiny_text_recipe(tiny, tmp_path / "recipe.yaml")
        overrides = {"optimizers.unet": SGD}
    overrides |= {"training.max_steps": 10, "training.checkpoint_every": 0}

    for processes in (1, 2):
        log = tmp_path / f"log{processes}"
        codes = run(training(tmp_path / str(processes), overrides, recipe), processes, log)
        assert codes == [0] * processes, log.read_text()

    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    assert json.loads((tmp_path / "2/metrics.json").read_text())["hardware"]["processes"] == 2
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_two_four_and_eight_processes_give_the_weights_of_one(tmp_path, tiny):
    overrides = plain_game(tiny) | {"training.max_steps": 20, "training.checkpoint_every": 0}

    for processes in (1, 2, 4, 8):
        codes = run(training(tmp_path / str(processes), overrides), processes, tmp_path / "log")
        assert codes == [0] * processes, (tmp_path / "log").read_text()

    one, *others = (weights(tmp_path / str(processes)) for processes in (1, 2, 4, 8))
    assert max((other[name] - one[name]).abs().max().item() for other in others for name in one) < 6e-7


@pytest.mark.parametrize("family", ["diffusion", "game"])
def test_accumulated_parts_give_the_weights_of_the_whole_batch(tmp_path, tiny, family):
    overrides = (plain_game(tiny) if family == "game" else tiny) | {"training.max_steps": 6}
    overrides |= {"training.checkpoint_every": 0}

    for parts in (1, 4):
        changed = overrides | {"training.gradient_accumulation": parts}
        assert run(training(tmp_path / str(parts), changed), 1, tmp_path / "log") == [0], (
            tmp_path / "log"
        ).read_text()

    one, four = weights(tmp_path / "1"), weights(tmp_path / "4")
    for name in one:
        torch.testing.assert_close(one[name], four[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_average_of_the_weights_is_their_recurrence(tmp_path, tiny, processes):
    decay, steps = 0.5, 4
    overrides = tiny | {"training.ema": {"unet": decay}, "training.max_steps": steps, "training.keep_checkpoints": 9}

    assert run(training(tmp_path / "run", overrides), processes, tmp_path / "log") == [0] * processes

    expected = None
    for number, path in enumerate(reversed(list_checkpoints(tmp_path / "run/training/checkpoints")), start=1):
        state = torch.load(path / "state.pt", weights_only=True)
        now = list(state["modules"]["unet"].values())
        d = 0.0 if number == 1 else min(decay, number / (9 + number))  # the warm-up of diffusers' EMAModel
        expected = now if expected is None else [d * e + (1 - d) * n for e, n in zip(expected, now, strict=True)]
        averages = list(state["averages"]["unet"]["averaged"].values())
        for average, value in zip(averages, expected, strict=True):
            torch.testing.assert_close(average, value)
    assert not any(torch.equal(*pair) for pair in zip(expected, now, strict=True))
    saved = weights(tmp_path / "run")
    assert all(
        torch.equal(saved[f"unet.{name}"], value) for name, value in state["averages"]["unet"]["averaged"].items()
    )


def command(*words: object):
    """Returns an action that is `genhub train WORDS`."""

    def action():
        from genhub.cli import main

        sys.exit(main(["train", *map(str, words)]))

    return action


@pytest.fixture(scope="module")
def long_run(tmp_path_factory, tiny_always):
    """Words of the command line for a run of 40 steps, and the folder of one that was not stopped."""
    overrides = tiny_always | {"training.max_steps": 40, "training.checkpoint_every": 5}
    words = ["ddpm-quick", *(f"--{key}={json.dumps(value)}" for key, value in overrides.items())]
    folder = tmp_path_factory.mktemp("long") / "whole"
    assert run(command(*words, "--output_dir", folder)) == [0]
    return words, folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_says_how_to_go_on(tmp_path, long_run, number):
    words, whole = long_run
    log = tmp_path / "log"

    (child,) = start(command(*words, "--output_dir", tmp_path / "run"), log=log)
    while not list_checkpoints(tmp_path / "run/training/checkpoints"):
        time.sleep(0.01)
    os.kill(child, number)

    assert wait([child]) == [128 + number]
    assert number.name in log.read_text()
    assert "--resume" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert run(command("--resume", tmp_path / "run"), log=log) == [0], log.read_text()
    assert same_bits(whole, tmp_path / "run")


def test_both_processes_stop_when_one_gets_the_signal(tmp_path, tiny):
    children = start(training(tmp_path / "run", tiny | {"training.max_steps": 500}), 2, tmp_path / "log")
    while not list_checkpoints(tmp_path / "run/training/checkpoints"):
        time.sleep(0.01)

    os.kill(children[1], signal.SIGTERM)
    codes = wait(children)

    assert all(code != 0 for code in codes)
    assert "Stopped by SIGTERM" in (tmp_path / "log").read_text()
    assert len(list_checkpoints(tmp_path / "run/training/checkpoints")) > 0
