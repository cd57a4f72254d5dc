"""Checkpoints that a crash cannot spoil: written beside, checked, renamed; each file is recorded with its SHA-256."""

import json
import logging
import os
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from genhub.utils.files import sha256

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read."""


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, state: dict, keep: int) -> Path:
    """Writes `state` and every process's random state as `folder/step-<step>`; all processes call it.

    Raises:
        CheckpointError: the disk is full or not writable; what was there before is untouched.
    """
    path = folder / f"step-{step:08d}"
    scratch = folder / f".{path.name}.part"
    failure = None
    if path.exists():  # the same step of the same run, and a whole one: damaged ones are put aside when a run resumes
        return path
    if accelerator.is_main_process:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    try:
        _write(scratch / f"rng-{accelerator.process_index}.pt", random_state())
        if accelerator.is_main_process:
            _write(scratch / "state.pt", state)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        failure = error
    failed = torch.tensor(float(failure is not None), device=accelerator.device)
    if accelerator.reduce(failed, "sum").item():  # also waits for every process's file
        shutil.rmtree(scratch, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint of step {step} could not be written to {folder} ({failure or 'another process failed'}). "
            "The checkpoints written before are whole; make room and resume."
        )
    if accelerator.is_main_process:
        try:
            files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in sorted(scratch.iterdir())}
            manifest = {"step": step, "world_size": accelerator.num_processes, "files": files}
            with open(scratch / MANIFEST, "w") as file:
                json.dump(manifest, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            scratch.rename(path)
            _sync_folder(folder)
        except OSError as error:
            failure = error
        else:
            for old in list_checkpoints(folder)[keep:]:
                shutil.rmtree(old, ignore_errors=True)
    if accelerator.reduce(torch.tensor(float(failure is not None), device=accelerator.device), "sum").item():
        raise CheckpointError(f"The checkpoint of step {step} could not be completed in {folder} ({failure}).")
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the finished checkpoints under `folder`, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def load_newest(accelerator: Accelerator, folder: Path) -> dict | None:
    """Returns the state of the newest whole checkpoint or None, and puts this process's random state back.

    A damaged one is reported and put aside as `damaged-...`, and the one before it used.

    Raises:
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    if accelerator.is_main_process:
        for path in list_checkpoints(folder):
            try:
                _verify(path)
                break
            except CheckpointError as damage:
                logger.warning("The checkpoint %s is damaged (%s); using the one before it.", path, damage)
                path.rename(path.with_name(f"damaged-{path.name}"))
    accelerator.wait_for_everyone()
    found = list_checkpoints(folder)
    if not found:
        if any(folder.glob("damaged-*")):
            raise CheckpointError(f"Every checkpoint in {folder} is damaged; start again in another folder.")
        return None
    state = torch.load(found[0] / "state.pt", map_location="cpu", weights_only=True)
    rng_file = found[0] / f"rng-{accelerator.process_index}.pt"
    if rng_file.exists():  # absent for a process that the saving run did not have
        set_random_state(torch.load(rng_file, map_location="cpu", weights_only=True))
    return state


def _verify(path: Path):
    """Compares every file of a checkpoint with its manifest."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        for name, recorded in manifest["files"].items():
            if (path / name).stat().st_size != recorded["bytes"] or sha256(path / name) != recorded["sha256"]:
                raise CheckpointError(f"{name} is not what was written")
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(str(error)) from error


def _write(path: Path, content: object):
    with open(path, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path):
    """Makes a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def random_state() -> dict:
    """Returns the state of every global random number generator of this process."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict):
    """Puts back what `random_state` returned."""
    random.setstate(tuple(tuple(part) if isinstance(part, list | tuple) else part for part in state["python"]))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
