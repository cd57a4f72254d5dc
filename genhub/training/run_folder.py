"""A run's folder: the exported repository and `training/` (checkpoints, log, samples)."""

import io
import json
import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from genhub.recipes.recipe import Recipe
from genhub.recipes.sections import resume_conflicts
from genhub.repository.format import RepositoryError
from genhub.repository.metrics import read_metrics
from genhub.repository.replace import finish_save
from genhub.training.checkpoint import list_checkpoints, load_newest, save_checkpoint
from genhub.training.distributed import on_main
from genhub.training.restore import STATE, restore_recipe, saved_recipe, truncate_log, write_recipe
from genhub.training.state import Progress, State
from genhub.utils.files import append, atomic_write, is_leftover, make_folder, remove_leftovers
from genhub.utils.locks import LOCK, check_unlocked, locked
from genhub.utils.reading import one_line, read_bytes, read_json_lines

SHARES = "shares.npy"  # under STATE
RECORDS = 1000  # newest records that diagnostics read


class RunFolder:
    """Holds the checkpoints, samples and records of a run in `training`, under the folder of its repository.

    The main process reads and writes it; the others need not have it. From its first write to its end it is locked.

    Args:
        resume: whether a run in the folder goes on; None for "if there is one".

    Attributes:
        has_checkpoints: whether a run goes on from a state that holds all weights.
        newest: step of the newest checkpoint, None if there is none.

    Raises:
        ValueError: the folder cannot be written, holds something else, or the run of another recipe.
    """

    def __init__(self, path: Path, recipe: Recipe, accelerator: Accelerator, resume: bool | None):
        self.path, self.recipe, self.accelerator = path, recipe, accelerator
        self.logs = path / STATE
        self.best, self.healthy = self.logs / "best", self.logs / "healthy"  # repositories of earlier weights
        self.newest: int | None = None
        self.opened = ExitStack()
        self.resume, self.has_checkpoints, self.changed = on_main(lambda: self._check(resume))

    def open(self) -> dict | None:
        """Locks and makes the folder, or returns the state of the run in it.

        Raises:
            ValueError: another process has made it since, or writes to it.
        """
        on_main(self._lock)
        state = None
        if self.recipe.training.trackers:
            self.accelerator.init_trackers("genhub", config={"recipe": self.recipe.name})
        if self.resume:
            state = load_newest(self.logs / "checkpoints", self._check_state)
        if state is not None:
            self.newest = state["progress"]["total_steps"]
            if self.changed and "changeable" not in state["progress"]:
                raise ValueError(f"`{self.changed[0]}` may not change: an older genhub wrote the checkpoint.")
            over = tuple(f"stages.{number}." for number in range(state["progress"]["stage"]))
            if late := [key for key in self.changed if key.startswith(over)]:
                raise ValueError(f"`{late[0]}` may not change: its stage is over.")
        on_main(lambda: self._make(self.newest or 0))
        self.accelerator.wait_for_everyone()
        return state

    def close(self):
        """Unlocks the folder."""
        self.opened.close()

    def _lock(self):
        self.opened.enter_context(locked(self.path))
        self._check(self.resume)

    def _make(self, step: int):
        """Makes what is missing of the folder, and removes what a killed run left after `step`."""
        make_folder(self.logs / "checkpoints")
        for folder in (self.path, self.best, self.healthy):
            finish_save(folder)
        remove_leftovers(self.path)
        for folder in (self.logs, *(path for path in self.logs.iterdir() if path.is_dir())):
            remove_leftovers(folder, age=0)
        write_recipe(self.path, self.recipe)
        truncate_log(self.logs / "metrics.jsonl", step)

    def _check_state(self, state: dict):
        """Raises an error if a checkpoint holds no state of this run."""
        (progress := Progress()).load_state_dict(state["progress"])
        if missing := sorted({"stage", "step", "total_steps", "images"} - state["progress"].keys()):
            raise ValueError(f"the progress of a run must have {missing[0]}")
        if progress.stage >= len(self.recipe.stages):
            raise ValueError(f"the recipe has no stage {progress.stage}")

    def save_checkpoint(
        self, state: State, progress: Progress, run: Path | None = None, keep: int | None = None
    ) -> Path:
        """Writes the state of a run, into its own folder or that of another `run`; all processes call it."""
        self.newest = self.newest if run else progress.total_steps
        folder, keep = (run or self.path) / STATE / "checkpoints", keep or self.recipe.training.keep_checkpoints
        return save_checkpoint(folder, progress.total_steps, state.state_dict(), keep, self.recipe.text)

    def log(self, record: dict):
        """Writes one line of metrics.jsonl, and tells the trackers."""
        if not self.accelerator.is_main_process:
            return
        append(self.logs / "metrics.jsonl", json.dumps(record) + "\n")
        if self.recipe.training.trackers:
            self.accelerator.log({k: v for k, v in record.items() if k != "step"}, step=record["step"])

    def log_changes(self, changes: list[dict]):
        """Writes down which values a resumed run has changed, and says so."""
        for change in changes:
            self.log({"step": change["step"], "changed": change["key"], "from": change["from"], "to": change["to"]})
            if self.accelerator.is_main_process:
                print("{key} is {to} from step {step} on, and was {from} before.".format(**change), file=sys.stderr)

    def records(self) -> list[dict]:
        """Returns the newest records of metrics.jsonl, oldest first."""
        return read_json_lines(self.logs / "metrics.jsonl")[-RECORDS:]

    def save_record(self, kind: str, step: int, content: bytes, suffix: str = ".png"):
        """Writes a file of what a run shows while it trains, in the folder `kind`."""
        path = self.logs / kind / f"step-{step:08d}{suffix}"
        make_folder(path.parent)
        atomic_write(path, content)

    def save_shares(self, shares: list[float]):
        """Writes the shares of time of a run that goes by time, one a step, so that it can be replayed."""
        if shares and self.accelerator.is_main_process:
            file = io.BytesIO()
            np.save(file, np.array(shares))
            atomic_write(self.logs / SHARES, file.getvalue())

    @staticmethod
    def read_shares(path: Path) -> list[float]:
        """Returns the shares of a run's folder, or of a file that `save_shares` wrote.

        Raises:
            ValueError: there is no such file, or it does not hold shares.
        """
        file = path / STATE / SHARES if path.is_dir() else path
        try:
            shares = np.lib.format.read_array(io.BytesIO(read_bytes(file)))
        except Exception as error:  # NumPy parses the header as Python, with all errors of that
            reason = one_line(error)
            raise ValueError(f"`training.replay` must be a run that went by time, got {path}: {reason}.") from error
        is_list = shares.ndim == 1 and len(shares) > 0 and shares.dtype.kind == "f"
        if not is_list or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"`training.replay` must hold shares from 0 to 1, got {file}.")
        return shares.tolist()

    def saved_steps(self) -> int | None:
        """Returns the steps of the repository in the folder, None if it holds no whole one."""

        def read() -> int | None:
            with suppress(RepositoryError, KeyError):
                return read_metrics(self.path / "metrics.json")["training"]["steps"]

        return on_main(read)

    def _check(self, resume: bool | None) -> tuple[bool, bool, list[str]]:
        """Refuses a folder that cannot be written or holds something else, before any work; returns whether a run in
        it goes on, whether it has checkpoints, and which keys it changes."""
        folder, changed = self.path, []
        self._check_writable()
        check_unlocked(folder)
        if resume is not False:
            restore_recipe(folder)
        before, has_checkpoints = saved_recipe(folder), bool(list_checkpoints(self.logs / "checkpoints"))
        resume = before is not None if resume is None else resume
        if resume:
            if before is None:
                raise ValueError(f"The folder {folder} holds no run to resume.")
            refused = resume_conflicts(before, self.recipe.sections, recorded=True)
            if refused and has_checkpoints:
                raise ValueError(f"`{refused[0]}` differs from the run in {folder}; it may not change on resume.")
            changed = resume_conflicts(before, self.recipe.sections)
        elif folder.exists() and any(path.name != LOCK and not is_leftover(path) for path in folder.iterdir()):
            raise ValueError(
                f"The folder {folder} is not empty. Add --resume to go on with its run, or give another --output_dir."
            )
        return resume, resume and has_checkpoints, changed

    def _check_writable(self):
        folder = self.path
        existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise ValueError(f"The folder {folder} cannot be written.")
