"""A run's folder: the exported repository and `training/` (checkpoints, log, samples)."""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from genhub.recipes.checks import as_mapping
from genhub.recipes.recipe import Recipe
from genhub.recipes.sections import resume_conflicts
from genhub.recipes.yaml import read_yaml
from genhub.training.checkpoint import list_checkpoints, load_newest, save_checkpoint
from genhub.training.distributed import on_main
from genhub.training.state import Progress, State
from genhub.utils.files import atomic_write

STATE = "training"
SHARES = "shares.npy"  # under STATE
RECORDS = 1000  # newest records that diagnostics read


class RunFolder:
    """Holds the checkpoints, samples and records of a run in `training`, under the folder of its repository.

    The main process reads and writes it; the others need not have it.

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
        self.resume, self.has_checkpoints, self.changed = on_main(lambda: self._check(resume))

    def open(self) -> dict | None:
        """Makes the folder, or returns the state of the run in it."""
        state = None
        if self.recipe.training.trackers:
            self.accelerator.init_trackers("genhub", config={"recipe": self.recipe.name})
        if self.resume:
            state = load_newest(self.logs / "checkpoints")
        if state is not None:
            self.newest = state["progress"]["total_steps"]
            if self.changed and "changeable" not in state["progress"]:
                raise ValueError(f"`{self.changed[0]}` may not change: an older genhub wrote the checkpoint.")
        if self.accelerator.is_main_process:
            self.path.mkdir(parents=True, exist_ok=True)
            atomic_write(self.path / "recipe.yaml", self.recipe.text)
            (self.logs / "checkpoints").mkdir(parents=True, exist_ok=True)
            truncate_log(self.logs / "metrics.jsonl", state["progress"]["total_steps"] if state else 0)
        self.accelerator.wait_for_everyone()
        return state

    def save_checkpoint(
        self, state: State, progress: Progress, run: Path | None = None, keep: int | None = None
    ) -> Path:
        """Writes the state of a run, into its own folder or that of another `run`; all processes call it."""
        self.newest = self.newest if run else progress.total_steps
        folder, keep = (run or self.path) / STATE / "checkpoints", keep or self.recipe.training.keep_checkpoints
        return save_checkpoint(folder, progress.total_steps, state.state_dict(), keep)

    def log(self, record: dict):
        """Writes one line of metrics.jsonl, and tells the trackers."""
        if not self.accelerator.is_main_process:
            return
        with open(self.logs / "metrics.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
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
        return [json.loads(line) for line in (self.logs / "metrics.jsonl").read_text().splitlines()[-RECORDS:]]

    def save_record(self, kind: str, step: int, content: bytes, suffix: str = ".png"):
        """Writes a file of what a run shows while it trains, in the folder `kind`."""
        path = self.logs / kind / f"step-{step:08d}{suffix}"
        path.parent.mkdir(exist_ok=True)
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
            with open(file, "rb") as opened:
                shares = np.lib.format.read_array(opened)
        except (OSError, ValueError) as error:
            raise ValueError(f"`training.replay` must be a run that went by time, got {path}: {error}") from error
        is_list = shares.ndim == 1 and len(shares) > 0 and shares.dtype.kind == "f"
        if not is_list or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"`training.replay` must hold shares from 0 to 1, got {file}.")
        return shares.tolist()

    def saved_steps(self) -> int | None:
        """Returns the steps of the repository in the folder, None if it holds none."""
        metrics = self.path / "metrics.json"

        def read() -> int | None:
            return json.loads(metrics.read_text())["training"]["steps"] if metrics.is_file() else None

        return on_main(read)

    def _check(self, resume: bool | None) -> tuple[bool, bool, list[str]]:
        """Refuses a folder that cannot be written or holds something else, before any work; returns whether a run in
        it goes on, whether it has checkpoints, and which keys it changes."""
        folder, saved = self.path, self.path / "recipe.yaml"
        resume, changed = saved.is_file() if resume is None else resume, []
        has_checkpoints = resume and bool(list_checkpoints(self.logs / "checkpoints"))
        if resume:
            if not saved.is_file():
                raise ValueError(f"The folder {folder} holds no run to resume.")
            before = as_mapping(str(saved), read_yaml(saved.read_text()))
            refused = resume_conflicts(before, self.recipe.sections, recorded=True)
            if refused and has_checkpoints:
                raise ValueError(f"`{refused[0]}` differs from the run in {folder}; it may not change on resume.")
            changed = resume_conflicts(before, self.recipe.sections)
        elif folder.exists() and (not folder.is_dir() or any(path.suffix != ".part" for path in folder.iterdir())):
            raise ValueError(
                f"The folder {folder} is not empty. Add --resume to go on with its run, or give another --output_dir."
            )
        existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise ValueError(f"The folder {folder} cannot be written.")
        return resume, has_checkpoints, changed


def truncate_log(path: Path, last_step: int):
    """Drops the records that a resumed run will write again, and a line that a crash left unfinished."""
    if not path.exists():
        return
    records = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            if json.loads(line).get("step", 0) <= last_step:
                records.append(line)
    atomic_write(path, "".join(line + "\n" for line in records))
