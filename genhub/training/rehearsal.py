"""One step of every phase on two samples, before any work: what does not fit shows at once."""

import functools
import operator
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from genhub.objectives.objective import Batch, Objective, Phase, Step
from genhub.recipes.stages import Stage
from genhub.training.arithmetic import training_attention
from genhub.training.ema import MovingAverage
from genhub.training.stage_optimizers import StageOptimizers, thaw
from genhub.training.trainable import trainable_parameters
from genhub.utils.randomness import BatchRandom

SAMPLES = 2
MAX_MORE = 32  # pixels by which sides are made longer to find a size that works
FAILURES = (RuntimeError, TypeError, ArithmeticError, LookupError, AttributeError, AssertionError)


class Rehearsal:
    """Takes one step of a stage, whose objective has copies of the components.

    Args:
        steps: of the stage.
        batch: of few samples of the data.
        averages: moving averages of the copies.
        padding: black pixels around the images; None for data that cannot be padded.

    Raises:
        ValueError: the components do not fit the data, or an optimizer does not fit the loop.
    """

    def __init__(
        self,
        objective: Objective,
        stage: Stage,
        steps: int,
        batch: Batch,
        averages: Mapping[str, MovingAverage],
        accelerator: Accelerator,
        padding: int | None,
    ):
        self.objective, self.stage, self.batch, self.averages = objective, stage, batch, averages
        self.device, self.padding = accelerator.device, padding
        self.parameters = {phase.trains: trainable_parameters(phase, objective) for phase in objective.phases}
        self.built = StageOptimizers(objective, stage, steps)
        has_autocast = accelerator.mixed_precision != "no"
        if has_autocast:
            trained = {name.partition(".")[0] for name in self.parameters}
            objective.modules |= {  # the others are not copies
                name: accelerator.prepare_model(objective.modules[name], evaluation_mode=True) for name in trained
            }
        with torch.random.fork_rng(), training_attention(self.device):
            for phase in objective.phases:
                thaw(objective, self.parameters[phase.trains])
                self._backward(phase)
                self._update(phase.trains)
        if has_autocast:
            accelerator.free_memory()

    def _backward(self, phase: Phase):
        """Computes the losses of a phase and their gradients."""
        try:
            self._loss(phase, self.batch).backward()
        except FAILURES as error:
            _, channels, height, width = self.batch["sample"].shape
            raise ValueError(
                f"`{self.stage.objective.section}` cannot be computed on {channels} x {height} x {width}: {error}"
                f"{self._size_that_works(phase)}"
            ) from error
        if all(parameter.grad is None for parameter in self.parameters[phase.trains]):
            raise ValueError(f"A loss of {self.stage.objective.path} reaches no parameter that its phase trains.")

    def _loss(self, phase: Phase, batch: Batch) -> Tensor:
        rows = range(len(batch["sample"]))
        random = BatchRandom("rehearsal", rows=rows, total=len(rows), device=self.device)
        return functools.reduce(operator.add, phase.loss(batch, Step(0, 0.0, random, averages=self.averages)).values())

    def _update(self, name: str):
        """Takes a step of the optimizer, then of its schedule."""
        spec, schedule = self.stage.optimizers[name]
        try:
            self.built.optimizers[name].step()
            if schedule is not None:
                spec = schedule
                self.built.schedules[name].step()
        except (*FAILURES, ValueError) as error:
            raise ValueError(f"`{spec.section}` cannot be {spec.path}: {error}") from error
        for parameter in self.parameters[name]:
            parameter.grad = None
        self.built.check_rates(name)

    def _size_that_works(self, phase: Phase) -> str:
        """Returns a sentence on the least larger size with which the losses can be computed, if there is any."""
        if self.padding is None:
            return ""
        _, _, height, width = self.batch["sample"].shape
        for more in range(1, MAX_MORE + 1):
            if more % 2 and height != width:
                continue
            sample = F.pad(self.batch["sample"], (0, more, 0, more), value=-1)
            try:
                self._loss(phase, self.batch | {"sample": sample})
            except (*FAILURES, ValueError):
                continue
            change = f"size {height + more - 2 * self.padding}" if more % 2 else f"padding {self.padding + more // 2}"
            return f" `--data.{change}` makes {height + more} x {width + more}, which fits."
        return ""
