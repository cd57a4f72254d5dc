"""Checkpoints: the old ones or the new one, whatever fails, and whatever is wrong with one of them."""

import errno
import itertools
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import rewrite, saved
from faults import FAULTS, every_call

from genhub.training.checkpoint import (
    CheckpointError,
    list_checkpoints,
    load_newest,
    newest_recipe,
    random_state,
    save_checkpoint,
)
from genhub.training.state import Progress
from genhub.utils.files import is_leftover


def state_of(step: int) -> dict:
    weights = torch.full((4,), float(step))
    return {"progress": Progress(total_steps=step).state_dict(), "modules": {"net": {"w": weights}}}


def check(state: dict):
    Progress().load_state_dict(state["progress"])


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two whole checkpoints."""
    (tmp_path / "old").mkdir()
    for step in (1, 2):
        save_checkpoint(tmp_path / "old", step, state_of(step), 2, f"name: step-{step}\n")
    return tmp_path / "old"


def loaded_step(folder: Path) -> int:
    state = load_newest(folder, check)
    step = state["progress"]["total_steps"]
    assert torch.equal(state["modules"]["net"]["w"], torch.full((4,), step * 1.0))
    assert newest_recipe(folder) == f"name: step-{step}\n"
    return step


@pytest.mark.parametrize("fault", FAULTS)
def test_wherever_writing_fails_the_checkpoint_before_is_whole_or_the_new_one(folder, tmp_path, fault):
    made, steps = itertools.count(), []
    numbers = None if fault in ("error", "power") else range(3, 100, 9)

    for outcome in every_call(
        lambda root: save_checkpoint(root, 3, state_of(3), 2, "name: step-3\n"),
        lambda: shutil.copytree(folder, tmp_path / f"{next(made)}"),
        fault,
        numbers,
    ):
        assert outcome.code != 1 or "CheckpointError: The checkpoint of step 3 could not be written" in outcome.error
        assert fault not in ("error", "full") or not any(map(is_leftover, outcome.root.iterdir()))
        steps.append(loaded_step(outcome.root))
        assert not [*outcome.root.glob("damaged-*")] or steps[-1] == 3  # an older one, half removed
        if steps[-1] == 2:
            save_checkpoint(outcome.root, 3, state_of(3), 2, "name: step-3\n")
            assert list_checkpoints(outcome.root)[0].name == "step-00000003"

    assert 2 in steps
    assert {*steps} <= {2, 3}


class Evil:
    def __reduce__(self):
        return print, ("run",)


BIG = state_of(2) | {"progress": Progress().state_dict() | {"total_steps": -1}}
DAMAGE = {
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "an empty manifest": lambda path: (path / "manifest.json").write_bytes(b""),
    "a manifest that is a list": lambda path: (path / "manifest.json").write_text("[]"),
    "a manifest of no files": lambda path: (path / "manifest.json").write_text(
        json.dumps({"step": 2, "world_size": 1, "files": {}})
    ),
    "a manifest of numbers": lambda path: (path / "manifest.json").write_text(
        json.dumps({"step": 2, "world_size": 1, "files": {"state.pt": 1, "rng-0.pt": 2}})
    ),
    "a billion processes": lambda path: rewrite(path, "state.pt", world_size=10**9),
    "processes that are a word": lambda path: rewrite(path, "state.pt", world_size="two"),
    "a folder of nothing": lambda path: [file.unlink() for file in path.iterdir()],
    "an empty state": lambda path: (path / "state.pt").write_bytes(b""),
    "a folder in place of the state": lambda path: ((path / "state.pt").unlink(), (path / "state.pt").mkdir()),
    "a state that fits and is empty": lambda path: rewrite(path, "state.pt", b""),
    "a pickle that runs": lambda path: rewrite(path, "state.pt", pickle.dumps(Evil())),
    "a PyTorch file that runs": lambda path: rewrite(path, "state.pt", saved(Evil())),
    "a state that is a list": lambda path: rewrite(path, "state.pt", saved([1, 2])),
    "a state that is a tensor": lambda path: rewrite(path, "state.pt", saved(torch.ones(3))),
    "no progress": lambda path: rewrite(path, "state.pt", saved({"modules": {}})),
    "progress below 0": lambda path: rewrite(path, "state.pt", saved(BIG)),
    "progress of words": lambda path: rewrite(path, "state.pt", saved({"progress": {"stage": "one"}})),
    "random numbers that are a list": lambda path: rewrite(path, "rng-0.pt", saved([1])),
    "random numbers of words": lambda path: rewrite(path, "rng-0.pt", saved(random_state() | {"torch": "x"})),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_the_checkpoint_before_takes_the_place_of_a_damaged_one(folder, name, caplog, capfd):
    before = random_state()["torch"]

    DAMAGE[name](folder / "step-00000002")

    assert loaded_step(folder) == 1
    assert "step-00000002 is damaged" in caplog.text
    assert "run" not in capfd.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["damaged-step-00000002", "step-00000001"]
    assert torch.equal(random_state()["torch"], before)


def test_a_checkpoint_that_cannot_be_read_for_a_moment_is_not_taken_for_damaged(folder, monkeypatch):
    def fail(path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("genhub.training.checkpoint.sha256", fail)
        with pytest.raises(ValueError, match=r"cannot be read \(Stale file handle\), and stays as it is"):
            load_newest(folder, check)

    assert loaded_step(folder) == 2


def test_a_second_damaged_checkpoint_of_one_step_is_set_aside_too(folder):
    for _ in range(3):
        save_checkpoint(folder, 2, state_of(2), 2, "name: step-2\n")
        (folder / "step-00000002/state.pt").write_bytes(b"")
        assert loaded_step(folder) == 1

    names = {path.name for path in folder.iterdir()}
    assert names == {"step-00000001", *(f"damaged-step-00000002{end}" for end in ("", ".2", ".3"))}


def test_where_all_are_damaged_nothing_starts_afresh(folder):
    for path in list_checkpoints(folder):
        (path / "manifest.json").unlink()

    for _ in range(2):
        with pytest.raises(CheckpointError, match="Every checkpoint in .* is damaged"):
            load_newest(folder, check)
