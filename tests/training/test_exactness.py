"""A run that was killed and resumed ends in the same bits, and the number of processes does not matter."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from worlds import kill, run, same_bits, start, wait, weights

from genhub.training.checkpoint import list_checkpoints

STEPS = 6


def training(folder, tiny, **more):
    """Returns an action that trains into `folder`, going on where a run in it stopped."""

    def action():
        from genhub import train

        train("ddpm-quick", folder, resume=(folder / "recipe.yaml").exists(), overrides=tiny | more)

    return action


GAME = {
    "components.critic": {"class": "genhub.PatchUNet2DModel", "block_out_channels": [8, 8], "layers_per_block": 1}
    | {"attention_head_dim": 8, "norm_num_groups": 4},
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
    kept = {key: value for key, value in tiny.items() if not key.startswith("pipeline.")}
    return kept | GAME


def plain_game(tiny: dict) -> dict:
    """The same with SGD: optimizers that divide by the size of a gradient blow rounding up where it is next to
    nothing."""
    return game(tiny) | {"optimizers": dict.fromkeys(("critic", "unet"), {"class": "torch.optim.SGD", "lr": 0.01})}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("family", ["diffusion", "game", "stages"])
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(tmp_path, tiny, family, processes):
    overrides = (game(tiny) if family == "game" else tiny) | {"training.max_steps": STEPS}
    if family == "stages":
        overrides["stages"] = [
            {"training": {"max_steps": 3}, "optimizers": {"unet": {"lr": 0.01}}},
            {
                "training": {"max_steps": 3, "batch_size": 4},
                "optimizers": {"unet": {"class": "torch.optim.SGD", "lr": 0.1}},
            },
        ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    assert run(training(whole, overrides), processes, tmp_path / "log") == [0] * processes, (
        tmp_path / "log"
    ).read_text()
    duration = time.monotonic() - began
    dice = random.Random(f"{family}{processes}")

    kills = 0
    while kills < 8:  # with the other families, 24 moments for one process and 24 for two
        children = start(training(killed, overrides), processes, tmp_path / "log")
        time.sleep(dice.uniform(0.1, 1.0) * duration)
        kill(children)
        codes = wait(children)
        if codes == [0] * processes:  # it was done before the moment came: the same again from the start
            assert same_bits(whole, killed)
            subprocess.run(["rm", "-r", str(killed)], check=True)
        kills += any(code == -signal.SIGKILL for code in codes)
    assert run(training(killed, overrides), processes, tmp_path / "log") == [0] * processes, (
        tmp_path / "log"
    ).read_text()

    assert same_bits(whole, killed)
    steps = [json.loads(line)["step"] for line in (killed / "training/metrics.jsonl").read_text().splitlines()]
    assert steps[:STEPS] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("family", ["diffusion", "game"])
def test_two_processes_with_half_the_batch_give_the_weights_of_one(tmp_path, tiny, family):
    overrides = (plain_game(tiny) if family == "game" else tiny) | {
        "training.max_steps": 20,
        "training.ema": {"unet": 0.9},
    }
    overrides |= {"training.checkpoint_every": 0}

    for processes in (1, 2):
        log = tmp_path / f"log{processes}"
        codes = run(training(tmp_path / str(processes), overrides), processes, log)
        assert codes == [0] * processes, log.read_text()

    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    assert json.loads((tmp_path / "2/metrics.json").read_text())["hardware"]["processes"] == 2
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["diffusion", "game"])
def test_accumulated_parts_give_the_weights_of_the_whole_batch(tmp_path, tiny, family):
    overrides = (plain_game(tiny) if family == "game" else tiny) | {"training.max_steps": 10}

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
        for average, value in zip(state["averages"]["unet"]["shadow_params"], expected, strict=True):
            torch.testing.assert_close(average, value)
    assert not torch.equal(expected[0], now[0])
    assert torch.equal(
        weights(tmp_path / "run")["unet.unet.conv_in.weight"], state["averages"]["unet"]["shadow_params"][0]
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_says_how_to_go_on(tmp_path, tiny, number):
    arguments = [f"--{key}={json.dumps(value)}" for key, value in (tiny | {"training.max_steps": 40}).items()]
    command = [sys.executable, "-m", "genhub.cli", "train", "ddpm-quick"]
    whole = subprocess.run([*command, "--output_dir", tmp_path / "whole", *arguments], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr

    child = subprocess.Popen(
        [*command, "--output_dir", tmp_path / "run", *arguments], stderr=subprocess.PIPE, text=True
    )
    while not list_checkpoints(tmp_path / "run/training/checkpoints"):
        time.sleep(0.01)
    child.send_signal(number)
    message = child.communicate(timeout=60)[1]

    assert child.returncode == 128 + number
    assert number.name in message
    assert "--resume" in message
    assert "Traceback" not in message
    resumed = subprocess.run([*command[:-1], "--resume", tmp_path / "run"], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert same_bits(tmp_path / "whole", tmp_path / "run")


def test_both_processes_stop_when_one_gets_the_signal(tmp_path, tiny):
    children = start(training(tmp_path / "run", tiny | {"training.max_steps": 500}), 2, tmp_path / "log")
    while not list_checkpoints(tmp_path / "run/training/checkpoints"):
        time.sleep(0.01)

    os.kill(children[1], signal.SIGTERM)
    codes = wait(children)

    assert all(code != 0 for code in codes)
    assert "Stopped by SIGTERM" in (tmp_path / "log").read_text()
    assert len(list_checkpoints(tmp_path / "run/training/checkpoints")) > 0
