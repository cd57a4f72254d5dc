"""One command that starts and goes on, and what a resumed run may change."""

import json
import signal

import pytest
from worlds import kill, run, same_bits, start, wait

import genhub
from genhub.cli import main
from genhub.training.checkpoint import list_checkpoints


def words(overrides: dict) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in overrides.items()]


def command(folder, tiny: dict):
    """Returns an action that is the one command of a queue."""

    def action():
        code = main(["train", "ddpm-quick", "--output_dir", str(folder), "--auto_resume", *words(tiny)])
        raise SystemExit(code)

    return action


@pytest.mark.parametrize("processes", [1, 2])
def test_one_command_starts_goes_on_and_is_done(tmp_path, tiny, processes):
    tiny |= {"training.max_steps": 8}
    whole = genhub.train("ddpm-quick", tmp_path / "whole", overrides=tiny) if processes == 1 else None

    children = start(command(tmp_path / "run", tiny), processes, tmp_path / "log")
    while not list_checkpoints(tmp_path / "run/training/checkpoints"):
        pass
    kill(children, signal.SIGKILL)
    wait(children)
    codes = run(command(tmp_path / "run", tiny), processes, tmp_path / "log")
    assert codes == [0] * processes, (tmp_path / "log").read_text()
    card = (tmp_path / "run/README.md").stat()
    assert run(command(tmp_path / "run", tiny), processes, tmp_path / "log") == [0] * processes

    assert (tmp_path / "run/README.md").stat().st_mtime_ns == card.st_mtime_ns  # nothing was left to do
    assert whole is None or same_bits(whole, tmp_path / "run")


def test_the_one_command_goes_on_where_more_is_asked_for_and_refuses_another_recipe(tmp_path, tiny):
    tiny |= {"training.max_steps": 2}
    folder = genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny, auto_resume=True)

    genhub.train("ddpm-quick", folder, overrides=tiny | {"training.max_steps": 4}, auto_resume=True)

    assert json.loads((folder / "metrics.json").read_text())["training"]["steps"] == 4
    with pytest.raises(ValueError, match="`training.batch_size` differs from the run in"):
        genhub.train("ddpm-quick", folder, overrides=tiny | {"training.batch_size": 4}, auto_resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/photo.png").touch()
    with pytest.raises(ValueError, match="is not empty"):
        genhub.train("ddpm-quick", tmp_path / "other", overrides=tiny, auto_resume=True)
