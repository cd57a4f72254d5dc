"""Disturbed training runs of several families, each against an undisturbed one."""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import FAULTS, KILLED, inject
from worlds import kill, same_bits, start, wait
from worlds import run as run_world

from genhub import recipes
from genhub.cli import main
from genhub.recipes.sections import override
from genhub.recipes.yaml import read_yaml, write_yaml

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
SAME = {
    "data.source": "sample",
    "data.labelled": 40,
    "training.batch_size": 4,
    "training.max_steps": 8,
    "training.max_minutes": None,
    "training.mixed_precision": "no",
    "training.channels_last": False,
    "training.num_samples": 2,
    "training.validate_every": 0,
    "training.sample_every": 3,
    "training.checkpoint_every": 2,
    "training.log_every": 1,
    "training.keep_checkpoints": 2,
    "evaluation.every": 0,
}
SMALL_UNET = {
    "components.unet.block_out_channels": [8, 8],
    "components.unet.layers_per_block": [1, 1],
    "components.unet.embedding_channels": 8,
    "training.num_samples": 11,
}
STAGES = [{"objective": {"level": level}, "training": {"max_steps": 4}} for level in (0, 1)]


@dataclass(frozen=True)
class Family:
    """Runs of one kind.

    Args:
        recipe: a published one.
        overrides: that make it tiny, beside those of all.
    """

    recipe: str
    overrides: dict[str, Any]
    processes: int = 1

    def write(self, file: Path):
        """Writes the tiny recipe."""
        sections: Any = read_yaml(recipes.path(self.recipe).read_text())
        for key, value in (SAME | self.overrides).items():
            if "." in key:
                override(sections, key, value)
            else:
                sections[key] = value
        file.write_text(write_yaml(sections))


FAMILIES = {
    "autoencoder": Family("conv-ae", {}),
    "variational autoencoder": Family("vae", {}),
    "GAN": Family("gan", {}),
    "growing GAN": Family("progressive-gan", {"stages": STAGES, "training.max_steps": None}),
    "diffusion": Family("ddpm-quick", SMALL_UNET),
    "diffusion, two processes": Family("ddpm-quick", SMALL_UNET, 2),
}


class Crashes:
    """Disturbed runs of a family, against an undisturbed one.

    Raises:
        SystemExit: the undisturbed run fails.
    """

    def __init__(self, name: str, folder: Path):
        self.family, self.folder, self.counts = FAMILIES[name], folder, Counter()
        folder.mkdir(parents=True)
        self.log, self.whole, self.recipe, self.runs = folder / "log", folder / "whole", folder / "tiny.yaml", 0
        self.family.write(self.recipe)
        began = time.monotonic()
        if any(self._train(self.whole)):
            raise SystemExit(f"{name} does not train:\n{self.log.read_text()[-3000:]}")
        self.seconds = time.monotonic() - began
        self.calls = len(self._calls()) if self.family.processes == 1 else 0

    def disturb(self, rng: random.Random) -> str | None:
        """Disturbs a run once or more, resumes it to its end; returns what is wrong, None for the same bits."""
        run = self.folder / f"run-{self.runs}" / "run"
        run.parent.mkdir()
        self.runs += 1
        ways = [*SIGNALS, *FAULTS] if self.calls else [*SIGNALS]
        told = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            way = rng.choice(ways)
            told.append(way)
            wrong = self._signal(run, way, rng) if way in SIGNALS else self._fault(run, way, rng)
            if wrong:
                break
            self.counts[way] += 1
        wrong = wrong or self._finish(run)
        if wrong is None:
            shutil.rmtree(run.parent)
            return None
        return f"{' then '.join(told)}: {wrong} ({run.parent})"

    def _signal(self, run: Path, way: str, rng: random.Random) -> str | None:
        self.log.write_text("")
        children = start(self._action(run), self.family.processes, self.log)
        time.sleep(rng.uniform(0, self.seconds))
        kill(children, SIGNALS[way])
        codes = wait(children)
        right = {0, -SIGNALS[way], 128 + SIGNALS[way]}
        return self._complaint(codes, right)

    def _fault(self, run: Path, way: str, rng: random.Random) -> str | None:
        self.log.write_text("")
        outcome = inject(lambda root: self._logged(root / "run"), run.parent, rng.randint(1, self.calls), way)
        if outcome.error:
            return f"at {outcome.call}: {outcome.error.rstrip().splitlines()[-1]}"
        wrong = self._complaint([outcome.code], {0, 1, KILLED})
        return wrong and f"at {outcome.call}: {wrong}"

    def _finish(self, run: Path) -> str | None:
        """Resumes a run, or starts it again if it had not begun, and compares it."""
        self.log.write_text("")
        codes = self._train(run)
        return self._complaint(codes, {0}) or difference(self.whole, run)

    def _complaint(self, codes: list[int], right: set[int]) -> str | None:
        lines = self.log.read_text(errors="replace").rstrip().splitlines()
        if "Traceback (most recent call last)" in "\n".join(lines):
            return f"a traceback: {lines[-1]}"
        return None if {*codes} <= right else f"exit codes {codes}: {lines[-1] if lines else 'no word'}"

    def _train(self, run: Path) -> list[int]:
        return run_world(self._action(run), self.family.processes, self.log)

    def _action(self, run: Path) -> Callable[[], None]:
        """Trains, in a process of its own: resumes a run whose recipe was written, in whichever of its places."""
        has_begun = (run / "recipe.yaml").is_file() or (run / "training/recipe.yaml").is_file()
        anew = [str(self.recipe), "--output_dir", str(run), "--auto_resume"]

        def action():
            words = ["--resume", str(run)] if has_begun else anew
            raise SystemExit(main(["train", *words]))

        return action

    def _logged(self, run: Path):
        """The same in a child that shares the streams of this process."""
        handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = sys.stderr = open(handle, "w", buffering=1)
        self._action(run)()

    def _calls(self) -> list[str]:
        """Counts the calls of a whole run that write."""
        root = self.folder / "counted"
        root.mkdir()
        outcome = inject(lambda root: self._logged(root / "run"), root, 10**9)
        shutil.rmtree(root)
        return outcome.calls


def difference(whole: Path, run: Path) -> str | None:
    """Returns what two finished runs differ in: weights, recipe, the records of their steps."""
    if not same_bits(whole, run):
        return "other weights"
    for read in (recipe_of, records_of):
        if read(whole) != read(run):
            return f"other {read.__name__.removesuffix('_of')}"
    return None


def recipe_of(run: Path) -> str:
    return (run / "recipe.yaml").read_text()


def records_of(run: Path) -> list[dict]:
    """Returns the records of the steps, without times; one that a resumed run wrote again counts once."""
    lines = (run / "training/metrics.jsonl").read_text().splitlines()
    timed = ("seconds", "per_second", "rate")
    records = [{k: v for k, v in json.loads(line).items() if not any(t in k for t in timed)} for line in lines]
    return [record for index, record in enumerate(records) if record not in records[:index]]
