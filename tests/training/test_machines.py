"""Several machines without a shared folder: the first process writes, the others need nothing of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worlds import kill, run, same_bits, start, wait

import genhub
from genhub.cli import main
from genhub.training.checkpoint import list_checkpoints

ROOT = Path(genhub.__file__).parent.parent


def words(overrides: dict) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in overrides.items()]


def on_machines(folder: Path, tiny: dict):
    """Returns an action that trains on a machine of its own: in another working folder, with another cache."""

    def action():
        machine = folder / os.environ.get("RANK", "0")
        machine.mkdir(parents=True, exist_ok=True)
        os.chdir(machine)
        os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GENHUB_CACHE": str(machine / "cache")}
        raise SystemExit(main(["train", "ddpm-quick", "--output_dir", "run", "--auto_resume", *words(tiny)]))

    return action


def test_two_machines_without_a_shared_folder_train_and_resume_as_one(tmp_path, tiny):
    def together():
        genhub.train("ddpm-quick", tmp_path / "one", overrides=tiny | {"training.max_steps": 6})

    assert run(together, 2, tmp_path / "log") == [0, 0]
    children = start(on_machines(tmp_path / "machines", tiny | {"training.max_steps": 6}), 2, tmp_path / "log")
    while not list_checkpoints(tmp_path / "machines/0/run/training/checkpoints"):
        time.sleep(0.01)
    kill(children)
    wait(children)
    codes = run(on_machines(tmp_path / "machines", tiny | {"training.max_steps": 6}), 2, tmp_path / "log")

    assert codes == [0, 0], (tmp_path / "log").read_text()
    assert same_bits(tmp_path / "one", tmp_path / "machines/0/run")
    assert not (tmp_path / "machines/1/run").exists()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_other_within_seconds(tmp_path, tiny, victim):
    children = start(on_machines(tmp_path, tiny | {"training.max_steps": 100_000}), 2, tmp_path / "log")
    while not list_checkpoints(tmp_path / "0/run/training/checkpoints"):
        time.sleep(0.01)

    os.kill(children[victim], signal.SIGKILL)
    began = time.monotonic()
    codes = wait(children)

    assert time.monotonic() - began < 10
    assert codes[1 - victim] == 1
    log = (tmp_path / "log").read_text()
    assert log.count("Another process of the run has ended") == 1
    assert "Traceback" not in log


@pytest.mark.parametrize("change", [{"training.batch_size": 7}, {"optimizers.unet.lr": -1.0}])
def test_an_error_is_printed_once(tmp_path, tiny, change):
    def action():
        raise SystemExit(main(["train", "ddpm-quick", "--output_dir", str(tmp_path / "run"), *words(tiny | change)]))

    assert run(action, 2, tmp_path / "log") == [1, 1]

    assert (tmp_path / "log").read_text().count("genhub: error") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_launchers_with_folders_and_caches_of_their_own(tmp_path, tiny):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "2", "--num_processes", "2"]
    launch += ["--main_process_ip", "127.0.0.1", "--main_process_port", str(port), "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no"]
    launchers = []
    for rank in ("0", "1"):
        machine = tmp_path / rank
        machine.mkdir()
        variables = {"HF_HOME": str(machine / "hf"), "GENHUB_CACHE": str(machine / "cache")}
        variables |= {"ACCELERATE_USE_CPU": "true"}
        command = [sys.executable, *launch, "--machine_rank", rank, str(ROOT / "scripts/train.py"), "ddpm-quick"]
        command += ["--output_dir", "run", "--auto_resume", *words(tiny)]
        launchers.append(subprocess.Popen(command, cwd=machine, env=os.environ | variables))

    assert [launcher.wait(timeout=300) for launcher in launchers] == [0, 0]

    assert json.loads((tmp_path / "0/run/metrics.json").read_text())["hardware"]["processes"] == 2
    assert not (tmp_path / "1/run").exists()
