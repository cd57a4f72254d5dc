"""The cost of the training loop over a bare PyTorch loop with the same batches, losses, optimizers and clipping."""

import functools
import operator
import tempfile
import time
from pathlib import Path

import torch
from benchmarks.turns import in_turns
from tqdm.auto import tqdm

from genhub import recipes
from genhub.objectives.objective import Step
from genhub.training.arithmetic import flush_denormals, training_attention
from genhub.training.run import Run
from genhub.utils.randomness import BatchRandom

RECIPES = ("stacked-ae", "conv-ae", "gan", "dcgan", "ddpm-quick")
SECONDS = 1.0  # of a turn, about


class Contestant:
    """One recipe in training, by genhub's loop or bare; each call trains some steps and returns seconds per step."""

    def __init__(
        self, name: str, source: str, folder: Path, compiled: bool, overrides: dict[str, object] | None = None
    ):
        quiet = {f"training.{key}_every": 0 for key in ("checkpoint", "sample", "validate")}
        quiet |= {"data.source": source, "data.val_size": 0, "evaluation.every": 0, "training.max_minutes": None}
        quiet |= {"training.compile": compiled, "training.epochs": 1000.0}
        recipe = recipes.load(name, quiet | (overrides or {}))
        self.run = Run(recipe, folder, resume=False)
        self.run.folder.open()
        self.loop, self.batches = self.run.prepare_stage(0)
        self.bar, self.steps = tqdm(disable=True), 1
        self.by_loop()  # compiles, and warms up
        self.steps = max(1, round(SECONDS / self.by_loop()))

    def by_loop(self) -> float:
        """Trains by genhub's loop: keyed randomness, records, checks, averages."""
        start = time.perf_counter()
        self.loop.clock.steps = self.loop.progress.step + self.steps
        with flush_denormals():
            self.loop.run(self.batches, self.bar)
        return (time.perf_counter() - start) / self.steps

    def bare(self) -> float:
        """Trains by forward, backward, clipping and step."""
        objective, limit = self.loop.objective, self.loop.config.max_grad_norm
        optimizers = {name: optimizer.optimizer for name, optimizer in self.loop.optimizers.items()}
        start = time.perf_counter()
        with flush_denormals(), training_attention(self.loop.device):
            for index in range(self.steps):
                batch = next(self.batches)
                for number, phase in enumerate(objective.phases):
                    parameters = self._thaw(phase.trains)
                    size = len(batch["sample"])
                    random = BatchRandom(index, number, rows=range(size), total=size, device=self.loop.device)
                    losses = phase.loss(batch, Step(index, 0.0, random))
                    functools.reduce(operator.add, losses.values()).backward()
                    if limit is not None:
                        torch.nn.utils.clip_grad_norm_(parameters, limit)
                    optimizers[phase.trains].step()
                    if phase.trains in self.loop.schedules:
                        self.loop.schedules[phase.trains].step()
                    optimizers[phase.trains].zero_grad()
        return (time.perf_counter() - start) / self.steps

    def _thaw(self, name: str) -> list[torch.nn.Parameter]:
        if self.loop.trainable != name:
            for module in self.loop.objective.modules.values():
                module.requires_grad_(False)
            for parameter in self.loop.parameters[name]:
                parameter.requires_grad_(True)
            self.loop.trainable = name
        return self.loop.parameters[name]


def benchmark_loop(source: str, rounds: int, names: tuple[str, ...] = RECIPES):
    """Prints what the loop costs for each recipe, eager and compiled."""
    print(f"\nThe loop against a bare PyTorch loop, median of {rounds} turns (A/B/A/B)")
    for name in names:
        for compiled in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                contestant = Contestant(name, source, Path(folder) / "run", compiled)
                seconds = in_turns({"bare": contestant.bare, "loop": contestant.by_loop}, rounds)
            print(
                f"  {name:11} {'compiled' if compiled else 'eager':8} bare {1e3 * seconds['bare']:8.2f} ms a step, "
                f"loop {1e3 * seconds['loop']:8.2f}: {100 * (seconds.times('loop', 'bare') - 1):+.1f} %",
                flush=True,
            )
