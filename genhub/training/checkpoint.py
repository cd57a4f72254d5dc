"""Checkpoints that survive a crash: written to a scratch folder, verified by SHA-256, renamed."""

import json
import logging
import random
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from genhub.training.distributed import on_main
from genhub.utils.files import atomic_write, sha256, sync_file, sync_folder

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read."""


def save_checkpoint(folder: Path, step: int, state: dict, keep: int) -> Path:
    """Writes `state` and every process's random state as `folder/step-<step>`; all processes call it, and the main one
    writes.

    Args:
        keep: number of the newest checkpoints that stay.

    Raises:
        CheckpointError: the disk is full or not writable; the checkpoints written before are untouched.
    """
    random_states = gather_object([random_state()])
    return on_main(lambda: _save(folder, step, state, random_states, keep))


def _save(folder: Path, step: int, state: dict, random_states: list[dict], keep: int) -> Path:
    path = folder / f"step-{step:08d}"
    scratch = folder / f".{path.name}.part"
    if path.exists():  # the same step of the same run, and a whole one: damaged ones are set aside on resume
        return path
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        for rank, random_numbers in enumerate(random_states):
            _write(scratch / f"rng-{rank}.pt", random_numbers)
        _write(scratch / "state.pt", state)
        files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in sorted(scratch.iterdir())}
        manifest = {"step": step, "world_size": len(random_states), "files": files}
        atomic_write(scratch / MANIFEST, json.dumps(manifest, indent=2))
        scratch.rename(path)
        sync_folder(folder)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        shutil.rmtree(scratch, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint of step {step} could not be written to {folder} ({error}). The checkpoints written "
            "before are whole; make room and resume."
        ) from error
    for old in list_checkpoints(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the finished checkpoints under `folder`, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def load_newest(folder: Path) -> dict | None:
    """Returns the state of the newest whole checkpoint or None, and restores this process's random state; the main
    process reads it and sends it to all.

    A damaged one is reported and set aside as `damaged-...`; the one before it is loaded.

    Raises:
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    state, random_states = on_main(lambda: _load(folder))
    rank = PartialState().process_index
    if rank < len(random_states):  # absent for a process that the saving run did not have
        set_random_state(random_states[rank])
    return state


def _load(folder: Path) -> tuple[dict | None, list[dict]]:
    for path in list_checkpoints(folder):
        try:
            world = _verify(path)["world_size"]
        except CheckpointError as damage:
            logger.warning("The checkpoint %s is damaged (%s); using the one before it.", path, damage)
            path.rename(path.with_name(f"damaged-{path.name}"))
            continue
        files = [path / "state.pt", *(path / f"rng-{rank}.pt" for rank in range(world))]
        state, *random_states = (torch.load(file, map_location="cpu", weights_only=True) for file in files)
        return state, random_states
    if any(folder.glob("damaged-*")):
        raise CheckpointError(f"Every checkpoint in {folder} is damaged; start again in another folder.")
    return None, []


def _verify(path: Path) -> dict:
    """Compares every file of a checkpoint with its manifest, which it returns."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        for name, recorded in manifest["files"].items():
            if (path / name).stat().st_size != recorded["bytes"] or sha256(path / name) != recorded["sha256"]:
                raise CheckpointError(f"{name} is not what was written")
        return manifest
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(str(error)) from error


def _write(path: Path, content: object):
    with open(path, "wb") as file:
        torch.save(content, file)
    sync_file(path)


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
