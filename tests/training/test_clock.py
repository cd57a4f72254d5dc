"""Training by time, on a clock that only the steps of training move."""

import itertools
import json
import os
import random
import signal

import numpy as np
import pytest
from worlds import run, same_bits

from genhub import train
from genhub.training.callbacks import Validate
from genhub.training.clock import Clock
from genhub.training.distributed import TrainingStopped
from genhub.training.loop import Loop
from genhub.training.state import Progress

MINUTES = 0.2  # 12 seconds
RATE = 0.01


class Machine:
    """A clock, and how long each optimizer step takes: `seconds`, or what an iterator says. It may stop a run."""

    def __init__(self):
        self.now, self.seconds, self.steps, self.stop_after = 0.0, 1.0, 0, None

    def time(self):
        return self.now

    def work(self):
        self.now += next(self.seconds) if hasattr(self.seconds, "__next__") else self.seconds
        self.steps += 1
        if self.steps == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def machine(monkeypatch):
    machine, step = Machine(), Loop.optimizer_step

    def optimizer_step(self, *arguments):
        machine.work()
        return step(self, *arguments)

    monkeypatch.setattr(Clock, "now", staticmethod(machine.time))
    monkeypatch.setattr(Loop, "optimizer_step", optimizer_step)
    return machine


@pytest.fixture
def timed(tiny) -> dict:
    """Overrides of a run by time."""
    tiny |= {"training.max_steps": 1000, "training.max_minutes": MINUTES, "training.checkpoint_every": 0}
    return tiny | {"optimizers.unet.lr": RATE, "optimizers.unet.adamw_lr": RATE, "optimizers.unet.min_channels": 8}


def shares_of(folder) -> list[float]:
    return np.load(folder / "training/shares.npy").tolist()


def rates_of(folder) -> list[float]:
    records = [json.loads(line) for line in (folder / "training/metrics.jsonl").read_text().splitlines()]
    return [record["lr"] for record in records if "lr" in record]


def seconds_of(seed):
    """An erratic machine."""
    dice = random.Random(seed)
    return (dice.uniform(0.2, 3.0) for _ in itertools.count())


# ---- the clock alone


def test_without_a_limit_the_share_is_that_of_the_steps():
    progress = Progress()
    clock = Clock(progress, steps=8)

    for step in range(9):
        progress.step = progress.total_steps = step
        progress.seconds = 1e9
        assert (clock.share(), clock.share(taken=1)) == (step / 8, (step + 1) / 8)
        assert not clock.is_over(taken=1)
    assert not clock.is_timed


@pytest.mark.parametrize(
    ("step", "seconds", "share", "is_over"),
    [(0, 0.0, 0.0, False), (2, 3.0, 0.25, False), (4, 3.0, 0.5, False), (1, 12.0, 1.0, False), (1, 12.5, 1.0, True)],
)
def test_with_a_limit_it_is_the_greater_one_of_steps_and_time(step, seconds, share, is_over):
    clock = Clock(Progress(step=step, total_steps=step, seconds=seconds), steps=8, max_minutes=MINUTES)

    assert (clock.share(), clock.is_over()) == (share, is_over)


def test_a_stage_of_several_goes_by_its_steps_and_ends_with_the_time():
    clock = Clock(Progress(step=2, total_steps=9, seconds=12.5), steps=8, max_minutes=MINUTES, by_time=False)

    assert (clock.is_timed, clock.share(), clock.is_over()) == (False, 0.25, True)


def test_time_goes_on_from_what_was_spent_and_stands_still_in_a_pause(machine):
    machine.now = 100.0
    progress = Progress(seconds=3.0)
    clock = Clock(progress, steps=8, max_minutes=MINUTES)

    machine.now += 2.0
    with clock.pause():
        machine.now += 1000.0
    machine.now += 1.0
    clock.tick()

    assert progress.seconds == 6.0
    assert clock.share() == 0.5


def test_a_replay_goes_by_its_shares_and_is_over_after_the_last_of_them():
    progress, shares = Progress(seconds=1e9), [0.0, 0.3, 0.9]
    clock = Clock(progress, steps=1000, max_minutes=MINUTES, replay=shares)

    for step, share in enumerate(shares):
        progress.step = progress.total_steps = step
        assert (clock.share(), clock.is_over()) == (share, False)
        assert clock.is_over(taken=1) == (step == 2)
    assert clock.share(taken=1) == 1.0


# ---- training by it


@pytest.mark.parametrize("seconds", [0.7, 2.5])
def test_a_schedule_by_time_ends_at_almost_0_whatever_the_speed(machine, tmp_path, timed, seconds):
    machine.seconds = seconds

    folder = train("ddpm-quick", tmp_path / "run", overrides=timed | {"optimizers.unet.schedule.warmup": 0.25})

    shares = [step * seconds / 12 for step in range(int(12 / seconds) + 1)]  # before each step, the last one included
    assert shares_of(folder) == pytest.approx(shares)
    assert rates_of(folder) == pytest.approx([RATE * min(share / 0.25, 1) * (1 - share) for share in shares])
    assert rates_of(folder)[-1] < RATE * seconds / 12
    assert f"the schedule was one of time, {MINUTES} minutes in all" in (folder / "README.md").read_text()


def test_a_limit_of_steps_that_is_reached_first_ends_the_schedule_too(machine, tmp_path, timed):
    folder = train("ddpm-quick", tmp_path / "run", overrides=timed | {"training.max_steps": 4})

    assert shares_of(folder) == [0, 0.25, 0.5, 0.75]


def test_what_a_run_does_besides_training_takes_none_of_its_time(machine, tmp_path, timed, monkeypatch):
    measure = Validate.measure

    def measure_slowly(self):
        machine.now += 1000.0
        return measure(self)

    monkeypatch.setattr(Validate, "measure", measure_slowly)
    machine.seconds = 3.0

    folder = train("ddpm-quick", tmp_path / "run", overrides=timed | {"training.validate_every": 1})

    assert machine.now > 5000
    assert shares_of(folder) == [0, 0.25, 0.5, 0.75, 1.0]


def test_a_run_that_is_stopped_and_resumed_goes_on_from_the_time_that_was_spent(machine, tmp_path, timed):
    machine.seconds = seconds_of(0)
    whole = train("ddpm-quick", tmp_path / "whole", overrides=timed)

    machine.seconds, machine.steps, machine.stop_after = seconds_of(0), 0, 3
    with pytest.raises(TrainingStopped):
        train("ddpm-quick", tmp_path / "run", overrides=timed)
    machine.now += 1e6
    train(tmp_path / "run", resume=True)

    assert len(shares_of(whole)) > 4
    assert shares_of(tmp_path / "run") == pytest.approx(shares_of(whole))
    assert shares_of(whole) == sorted(shares_of(whole))


def test_the_shares_of_a_run_replay_it_bit_for_bit_though_the_replay_is_stopped_anywhere(machine, tmp_path, timed):
    machine.seconds = seconds_of(1)
    recorded = train("ddpm-quick", tmp_path / "recorded", overrides=timed)
    shares = shares_of(recorded)
    other = train("ddpm-quick", tmp_path / "other", overrides=timed)  # other speeds, other weights
    assert not same_bits(recorded, other)
    replay = timed | {"training.replay": str(recorded)}

    machine.seconds, machine.stop_after = 0.01, None
    assert same_bits(recorded, train("ddpm-quick", tmp_path / "whole", overrides=replay))
    for number, last in enumerate((2, len(shares) - 1)):  # in the middle, and before the last step
        machine.steps, machine.stop_after, run = 0, last, tmp_path / str(number)
        with pytest.raises(TrainingStopped):
            train("ddpm-quick", run, overrides=replay)
        train(run, resume=True)
        assert same_bits(recorded, run)
        assert shares_of(run) == shares


def test_two_processes_agree_on_the_share_and_replay_it_bit_for_bit(machine, tmp_path, timed):
    def recording():
        machine.seconds = {"0": 1.0, "1": 3.0}[os.environ["RANK"]]
        train("ddpm-quick", tmp_path / "recorded", overrides=timed)

    def replaying():
        machine.seconds = 0.01
        train("ddpm-quick", tmp_path / "replay", overrides=timed | {"training.replay": str(tmp_path / "recorded")})

    for action in (recording, replaying):
        assert run(action, 2, tmp_path / "log") == [0, 0], (tmp_path / "log").read_text()

    shares = shares_of(tmp_path / "recorded")
    assert shares == pytest.approx([step * (1 / 12 + 3 / 12) / 2 for step in range(5)])  # the slower one ends it
    assert rates_of(tmp_path / "recorded")[1:] == pytest.approx([RATE * (1 - share) for share in shares[1:]])
    assert shares_of(tmp_path / "replay") == shares
    assert same_bits(tmp_path / "recorded", tmp_path / "replay")


def test_the_steps_of_two_processes_are_shares_before_the_step_too(machine, tmp_path, timed):
    def training():
        machine.seconds = 0.01
        train("ddpm-quick", tmp_path / "run", overrides=timed | {"training.max_steps": 4})

    assert run(training, 2, tmp_path / "log") == [0, 0], (tmp_path / "log").read_text()

    assert shares_of(tmp_path / "run") == [0, 0.25, 0.5, 0.75]


def test_stages_go_by_their_steps_and_record_no_shares(machine, tmp_path, timed):
    machine.seconds = 2.5
    timed |= {"stages": [{"training": {"max_steps": 4}}, {"training": {"max_steps": 10}}]}

    folder = train("ddpm-quick", tmp_path / "run", overrides=timed | {"optimizers.unet.schedule.warmup": 0.0})

    assert rates_of(folder) == pytest.approx([RATE * (1 - share) for share in (0, 0.25, 0.5, 0.75, 0)])
    assert not (folder / "training/shares.npy").exists()
    assert "schedule was one of time" not in (folder / "README.md").read_text()


# ---- mistakes


@pytest.mark.parametrize(
    "written",
    [None, b"", b"no array", [0.0, 1.5], [-0.1, 0.5], [0.0, float("nan"), 1.0], [], [[0.0, 1.0]], [0, 1], ["a"]],
)
def test_shares_that_are_missing_or_none_are_one_error_before_any_work(tmp_path, timed, written):
    file = tmp_path / "shares.npy"
    if isinstance(written, bytes):
        file.write_bytes(written)
    elif written is not None:
        np.save(file, np.array(written))

    with pytest.raises(ValueError, match="`training.replay` must (be a run that went by time|hold shares)"):
        train("ddpm-quick", tmp_path / "run", overrides=timed | {"training.replay": str(file)})

    assert not (tmp_path / "run").exists()


def test_a_folder_of_a_run_that_went_by_steps_has_nothing_to_replay(tmp_path, timed, tiny_repo):
    with pytest.raises(ValueError, match="`training.replay` must be a run that went by time, got"):
        train("ddpm-quick", tmp_path / "run", overrides=timed | {"training.replay": str(tiny_repo)})


@pytest.mark.parametrize("change", [{"training.max_minutes": None}, {"stages": [{}, {}]}])
def test_a_replay_of_training_that_does_not_go_by_time_is_refused(tmp_path, timed, change):
    with pytest.raises(ValueError, match="`training.replay` must be left out: the recipe does not go by"):
        train("ddpm-quick", tmp_path / "run", overrides=timed | change | {"training.replay": "runs/anything"})

    assert not (tmp_path / "run").exists()
