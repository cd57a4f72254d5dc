"""Checkpoints that survive a crash: written to a scratch folder, verified by SHA-256, renamed."""

import errno
import itertools
import json
import logging
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from genhub.training.distributed import on_main
from genhub.utils.files import new_folder, sha256
from genhub.utils.reading import one_line, read_json

logger = logging.getLogger(__name__)
MANIFEST, STATE, RANDOM, RECIPE = "manifest.json", "state.pt", "rng-{}.pt", "recipe.yaml"


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read."""


def save_checkpoint(folder: Path, step: int, state: dict, keep: int, recipe: str = "") -> Path:
    """Writes `state` and every process's random state as `folder/step-<step>`; all processes call it, and the main one
    writes.

    Args:
        keep: number of the newest checkpoints that stay.
        recipe: that of the run, which `newest_recipe` returns.

    Raises:
        CheckpointError: the disk is full or not writable; the checkpoints written before are untouched.
    """
    random_states = gather_object([random_state()])
    return on_main(lambda: _save(folder, step, state, random_states, keep, recipe))


def _save(folder: Path, step: int, state: dict, random_states: list[dict], keep: int, recipe: str) -> Path:
    path = folder / f"step-{step:08d}"
    if path.exists():  # the same step of the same run, and a whole one: damaged ones are set aside on resume
        return path
    try:
        with new_folder(path) as scratch:
            for rank, random_numbers in enumerate(random_states):
                _write(scratch / RANDOM.format(rank), random_numbers)
            _write(scratch / STATE, state)
            (scratch / RECIPE).write_text(recipe, encoding="utf-8")
            files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in sorted(scratch.iterdir())}
            manifest = {"step": step, "world_size": len(random_states), "files": files}
            (scratch / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        raise CheckpointError(
            f"The checkpoint of step {step} could not be written to {folder} ({one_line(error)}). The checkpoints "
            "written before are whole; make room and resume."
        ) from error
    for old in list_checkpoints(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the finished checkpoints under `folder`, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def load_newest(folder: Path, check: Callable[[dict], Any] = dict) -> dict | None:
    """Returns the state of the newest whole checkpoint or None, and restores this process's random state; the main
    process reads it and sends it to all.

    A damaged one is reported and set aside as `damaged-...`; the one before it is loaded.

    Args:
        check: raises an error if a state is not what it should be, which is another kind of damage.

    Raises:
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    state, random_states = on_main(lambda: _load(folder, check))
    rank = PartialState().process_index
    if rank < len(random_states):  # absent for a process that the saving run did not have
        set_random_state(random_states[rank])
    return state


def newest_recipe(folder: Path) -> str | None:
    """Returns the recipe that the newest whole checkpoint carries, None if there is none."""
    for path in list_checkpoints(folder):
        if (path / RECIPE).exists():  # those of an older genhub have none
            with suppress(CheckpointError):
                if RECIPE in _verify(path)["files"]:
                    return (path / RECIPE).read_text(encoding="utf-8")
    return None


def _load(folder: Path, check: Callable[[dict], Any]) -> tuple[dict | None, list[dict]]:
    for path in list_checkpoints(folder):
        try:
            return _read(path, check)
        except CheckpointError as damage:
            logger.warning("The checkpoint %s is damaged (%s); using the one before it.", path, damage)
            _set_aside(path)
    if any(folder.glob("damaged-*")):
        raise CheckpointError(f"Every checkpoint in {folder} is damaged; start again in another folder.")
    return None, []


def _read(path: Path, check: Callable[[dict], Any]) -> tuple[dict, list[dict]]:
    """Returns the state and the random states of a checkpoint.

    Raises:
        CheckpointError: a file is not what was written, or what was written is no state of a run.
    """
    names = [STATE, *map(RANDOM.format, range(_verify(path)["world_size"]))]
    kept = random_state()
    try:
        state, *random_states = (torch.load(path / name, map_location="cpu", weights_only=True) for name in names)
        check(state)
        for numbers in random_states:
            set_random_state(numbers)
    except MemoryError:
        raise
    except Exception as error:  # of unpickling, in whatever way a pickle is wrong
        _raise_if_unreadable(path, error)
        raise CheckpointError(f"it holds no state of a run: {one_line(error)}") from error
    finally:
        set_random_state(kept)
    return state, random_states


def _verify(path: Path) -> dict:
    """Compares every file of a checkpoint with its manifest, which it returns."""
    try:
        manifest = read_json(path / MANIFEST)
        files, processes = manifest["files"], manifest["world_size"]
        if not 1 <= processes < len(files):
            raise CheckpointError(f"{MANIFEST} names {processes} processes and {len(files)} files")
        if missing := [name for name in (STATE, *map(RANDOM.format, range(processes))) if name not in files]:
            raise CheckpointError(f"{MANIFEST} does not name {missing[0]}")
        for name, recorded in files.items():
            file = path / Path(name).name  # in this folder
            if file.stat().st_size != recorded["bytes"] or sha256(file) != recorded["sha256"]:
                raise CheckpointError(f"{name} is not what was written")
        return manifest
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _raise_if_unreadable(path, error)
        raise CheckpointError(one_line(error)) from error


def _raise_if_unreadable(path: Path, error: Exception):
    """Raises a ValueError if a checkpoint could not be read, which is no damage: a file system may recover."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        raise ValueError(
            f"The checkpoint {path} cannot be read ({one_line(cause)}), and stays as it is. Try again, or remove it "
            "to go on from the one before it."
        ) from error


def _set_aside(path: Path):
    """Renames a damaged checkpoint; one of the same step may have been set aside before."""
    names = (f"damaged-{path.name}{suffix}" for suffix in itertools.chain([""], (f".{n}" for n in itertools.count(2))))
    path.rename(next(path.with_name(name) for name in names if not path.with_name(name).exists()))


def _write(path: Path, content: object):
    with open(path, "wb") as file:
        torch.save(content, file)


def random_state() -> dict:
    """Returns the state of every global random number generator of this process."""
    name, keys, *rest = cast(tuple, np.random.get_state())
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict):
    """Restores a state that `random_state` returned."""
    random.setstate(tuple(tuple(part) if isinstance(part, list | tuple) else part for part in state["python"]))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
