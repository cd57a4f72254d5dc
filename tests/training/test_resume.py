"""One command that starts and goes on, and what a resumed run may change."""

import json
import re
import signal

import pytest
import torch
from tiny import PATCH_UNET
from worlds import kill, run, same_bits, start, wait, weights

import genhub
from genhub.cli import main
from genhub.training.checkpoint import list_checkpoints
from genhub.training.distributed import TrainingStopped


def words(overrides: dict) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in overrides.items()]


def command(folder, tiny: dict):
    """Returns an action that is the one command of a queue."""

    def action():
        code = main(["train", "ddpm-quick", "--output_dir", str(folder), "--auto_resume", *words(tiny)])
        raise SystemExit(code)

    return action


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
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
    assert "is done, with all 8 steps" in (tmp_path / "log").read_text()

    assert (tmp_path / "run/README.md").stat().st_mtime_ns == card.st_mtime_ns  # nothing was left to do
    assert whole is None or same_bits(whole, tmp_path / "run")


def test_a_resume_to_fewer_steps_than_are_done_says_so(tmp_path, tiny, capsys):
    folder = genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny | {"training.max_steps": 3})

    genhub.train(folder, resume=True, overrides={"training.max_steps": 2})

    assert "The run has 3 steps already, and the recipe asks for 2" in capsys.readouterr().err
    assert json.loads((folder / "metrics.json").read_text())["training"]["steps"] == 3


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


def records(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "training/metrics.jsonl").read_text().splitlines()]


SGD = {"class": "torch.optim.SGD", "lr": 0.1}
SCHEDULES = {
    "torch.optim.lr_scheduler.CosineAnnealingLR": {},
    "torch.optim.lr_scheduler.OneCycleLR": {"max_lr": 0.1},
    "diffusers.optimization.get_cosine_schedule_with_warmup": {"num_warmup_steps": 2},
    "genhub.LinearDecay": {},
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_longer_resume_has_the_rates_of_a_run_that_was_so_long_from_its_start(tmp_path, tiny, schedule):
    tiny |= {"optimizers.unet": SGD | {"schedule": {"class": schedule} | SCHEDULES[schedule]}}
    tiny |= {"training.max_steps": 6, "training.checkpoint_every": 0}
    whole = genhub.train("ddpm-quick", tmp_path / "whole", overrides=tiny)

    for steps in (3, 6, 2):  # the last one is shorter than what is done
        genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny | {"training.max_steps": steps}, auto_resume=True)

    rates = [[record["lr"] for record in records(folder) if "lr" in record] for folder in (whole, tmp_path / "run")]
    assert rates[0][3:] == pytest.approx(rates[1][3:])
    assert len(set(rates[0])) > 3


@pytest.mark.parametrize("schedule", [None, {"class": "torch.optim.lr_scheduler.CosineAnnealingLR"}])
def test_another_rate_on_resume_counts_from_there_and_is_recorded(tmp_path, tiny, schedule):
    tiny |= {"optimizers.unet": SGD | {"schedule": schedule, "momentum": 0.9}, "training.ema": {}}
    folder = genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny | {"training.max_steps": 2})
    before = weights(folder)

    genhub.train(folder, resume=True, overrides={"optimizers.unet.lr": 0.0, "training.max_steps": 4})

    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(folder).items())
    change = {"step": 2, "key": "optimizers.unet.lr", "from": 0.1, "to": 0.0}
    assert json.loads((folder / "metrics.json").read_text())["training"]["changes"] == [change]
    assert {"step": 2, "changed": "optimizers.unet.lr", "from": 0.1, "to": 0.0} in records(folder)


def test_another_optimizer_is_refused_on_resume(tmp_path, tiny):
    folder = genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny | {"optimizers.unet": SGD})

    for key, value in {"class": "torch.optim.Adam", "schedule": {"class": "genhub.LinearDecay"}}.items():
        with pytest.raises(ValueError, match=r"`optimizers.unet.*class` differs from the run"):
            genhub.train(folder, resume=True, overrides={f"optimizers.unet.{key}": value})


@pytest.mark.parametrize(("every", "known"), [(0, "There is no checkpoint"), (1, "The checkpoint of step 2 is")])
def test_the_command_that_is_advised_after_an_infinite_loss_works(tmp_path, tiny, every, known, capsys):
    tiny |= {"objective": {"class": "games.Exploding"}, "optimizers.unet": SGD, "training.checkpoint_every": every}

    with pytest.raises(TrainingStopped, match=f"{known} from before that") as stopped:
        genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny, trust_code=True)
    (command,) = re.findall("`genhub (.*?)`", str(stopped.value))
    code = main([*command.split(), "--trust_code"])

    assert code == 1  # it explodes at any rate
    assert ("optimizers.unet.lr is 0.01 from step 2 on, and was 0.1 before" in capsys.readouterr().err) == bool(every)
    assert [record["lr"] for record in records(tmp_path / "run") if "lr" in record][-1] == (0.1 if every else 0.01)


def test_the_command_that_is_advised_changes_the_rate_of_the_stage_that_failed(tmp_path, tiny, capsys):
    tiny |= {"objective": {"class": "games.Exploding"}, "optimizers.unet": SGD, "training.checkpoint_every": 1}
    tiny |= {"stages": [{"training": {"max_steps": 2}}, {"training": {"max_steps": 4}}]}

    with pytest.raises(TrainingStopped) as stopped:
        genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny, trust_code=True)
    (command,) = re.findall("`genhub (.*?)`", str(stopped.value))
    assert main([*command.split(), "--trust_code"]) == 1  # it explodes at any rate

    assert "--stages.1.optimizers.unet.lr 0.01" in command
    assert "optimizers.unet.lr is 0.01 from step 4 on, and was 0.1 before" in capsys.readouterr().err


def test_the_rate_of_a_stage_that_is_over_may_not_change(tmp_path, tiny):
    tiny |= {"optimizers.unet": SGD, "stages": [{"training": {"max_steps": 2}}, {"training": {"max_steps": 2}}]}
    folder = genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny)

    with pytest.raises(ValueError, match=r"`stages.0.optimizers.unet.lr` may not change: its stage is over"):
        genhub.train(folder, resume=True, overrides={"stages.0.optimizers.unet.lr": 0.5})


def test_a_run_whose_images_are_not_finite_is_not_saved(tmp_path, tiny, capsys):
    tiny |= {"components.unet": PATCH_UNET, "objective": {"class": "games.Blank"}, "training.sample_every": 2}
    tiny |= {"optimizers": {"unet.unet.conv_in": SGD}}

    with pytest.raises(ValueError, match="The images must be finite, got 4 of 4 with NaN or infinity"):
        genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny, trust_code=True)

    assert "Warning, step 2: no samples. The images must be finite" in capsys.readouterr().err
    assert not (tmp_path / "run/model_index.json").exists()
