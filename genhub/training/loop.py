"""The training loop: it updates the weights that an objective's phases name, and knows no family of models.

A step is a function of (recipe, step) and of the state that a checkpoint holds.
"""

import contextlib
import functools
import operator
import signal
from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from tqdm.auto import tqdm

from genhub.objectives.objective import Batch, Objective, Phase, Step
from genhub.recipes.configs import TrainingConfig
from genhub.training.arithmetic import sampling_attention, training_attention
from genhub.training.callbacks import Callback, SaveCheckpoint
from genhub.training.clock import Clock
from genhub.training.distributed import StopSignal, TrainingStopped, all_reduce, average_buffers
from genhub.training.ema import MovingAverage
from genhub.training.guard import Guard
from genhub.training.optimizers import LinearDecay
from genhub.training.run_folder import RunFolder
from genhub.training.trainable import trainable_parameters
from genhub.training.window import Window
from genhub.utils.environment import device_name
from genhub.utils.randomness import BatchRandom, seed_global, seed_of


class Loop:
    """Trains one stage: for each batch, the due phases in order, each over all micro-batches, then one optimizer step.

    Args:
        objective: its modules are prepared by `accelerator`.
        optimizers, schedules: by what they train, as phases name it; prepared too.
        averages: moving averages by component.
        clock: says which share of the stage is done.
        callbacks: called every so many steps, on all processes; their time does not count as training.
        checkpoint: saves the state of the run.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        objective: Objective,
        optimizers: dict[str, AcceleratedOptimizer],
        schedules: dict[str, torch.optim.lr_scheduler.LRScheduler],
        averages: dict[str, MovingAverage],
        config: TrainingConfig,
        clock: Clock,
        folder: RunFolder,
        stop: StopSignal,
        callbacks: Sequence[Callback],
        checkpoint: SaveCheckpoint,
    ):
        self.accelerator, self.objective, self.averages = accelerator, objective, averages
        self.optimizers, self.schedules, self.config = optimizers, schedules, config
        self.progress, self.clock, self.folder, self.stop = clock.progress, clock, folder, stop
        self.callbacks, self.checkpoint = callbacks, checkpoint
        self.window, self.device = Window(self.progress.seconds), accelerator.device
        self.parameters = {phase.trains: trainable_parameters(phase, objective) for phase in objective.phases}
        self.guard = Guard(self.parameters, optimizers, folder, self.progress.stage)
        self.trainable: str | None = None  # what the phase in hand trains
        self.is_stopping = self.is_out_of_time = False
        for module in objective.modules.values():
            module.requires_grad_(False)

    def run(self, batches: Iterator[Batch], bar: tqdm):
        """Trains from where the clock is to its last step, or until the time is up.

        Raises:
            TrainingStopped: a loss or gradient is not finite, or a signal came.
        """
        progress, config, name = self.progress, self.config, device_name(self.device)
        steps = self.clock.steps
        self.share, self.is_out_of_time = self._agree(self.clock.share()), self._agree(self.clock.is_over()) > 0
        if not progress.total_steps:
            self._run_callbacks()
        with training_attention(self.device):
            while progress.step < steps and not self.is_out_of_time:
                self.step([next(batches) for _ in range(config.gradient_accumulation)])
                progress.advance(config.batch_size, name)
                bar.update()
                if progress.total_steps % config.log_every == 0 or progress.step == steps:
                    self._log(bar)
                self._run_callbacks()
                if self.is_stopping:
                    self._leave()
            if self.window.steps:  # the time is up
                self._log(bar)
        self.guard.check_weights(self.progress.total_steps)

    def step(self, micro_batches: list[Batch]):
        """Takes one step: all due phases, then the objective, buffers and averages."""
        progress, objective = self.progress, self.objective
        key = (self.config.seed, progress.stage, progress.step)
        seed_global(seed_of("global", *key, self.accelerator.process_index), self.device)
        self._follow_share()
        due = [(n, phase) for n, phase in enumerate(objective.phases) if progress.step % phase.every == 0]
        rows = [self.optimizer_step(number, phase, micro_batches) for number, phase in due]
        values = self._average([torch.stack([*row.values()]) for row in rows])
        metrics = {}
        for (_, phase), row, means in zip(due, rows, values, strict=True):
            prefix = f"{phase.trains}/" if len(objective.phases) > 1 else ""
            names = [prefix + name for name in row]
            self.window.add(names, means)
            self.window.add_number(f"{prefix}lr", self.optimizers[phase.trains].param_groups[0]["lr"])
            metrics |= dict(zip(names, means.unbind(), strict=True))
        self.window.close_step(self.config.batch_size)
        objective.after_step(self._step(0, 0, micro_batches), metrics)
        average_buffers(objective.modules.values(), self.accelerator)
        for average in self.averages.values():
            average.update()

    def optimizer_step(self, number: int, phase: Phase, micro_batches: list[Batch]) -> dict[str, Tensor]:
        """Takes one optimizer step of one phase; returns its losses and metrics, means over this process's images."""
        module, parameters, optimizer = self._thaw(phase), self.parameters[phase.trains], self.optimizers[phase.trains]
        count, last, means = len(micro_batches), len(micro_batches) - 1, {}
        for index, batch in enumerate(micro_batches):
            with self.accelerator.no_sync(module) if index < last else contextlib.nullcontext():
                step = self._step(number, index, micro_batches)
                losses = phase.loss(batch, step)
                loss = functools.reduce(operator.add, losses.values())
                backward = self.accelerator.backward if self.accelerator.scaler else torch.Tensor.backward
                backward(loss if count == 1 else loss / count)  # accelerate's divides by 1 once more
            self.window.metrics |= step.metrics.keys()
            for name, value in (losses | step.metrics).items():
                value = value.detach().float()
                means[name] = value if count == 1 else means.get(name, 0) + value / count
        if self.accelerator.scaler:
            self.accelerator.unscale_gradients(optimizer)
        if self.config.max_grad_norm is not None or phase.every >= self._steps_to_record():
            means["grad_norm"] = self._clip(parameters)
        # accelerate's wrapper looks for packages in every step; only a gradient scaler needs it
        (optimizer if self.accelerator.scaler else optimizer.optimizer).step()
        if phase.trains in self.schedules and not optimizer.step_was_skipped:
            self.schedules[phase.trains].step()
        for parameter in parameters:
            parameter.grad = None
        return means

    def _thaw(self, phase: Phase) -> nn.Module:
        """Enables gradients for the parameters of `phase` only; returns its prepared module."""
        if self.trainable != phase.trains:
            for parameter in self.parameters.get(self.trainable or "", ()):
                parameter.requires_grad_(False)
            for parameter in self.parameters[phase.trains]:
                parameter.requires_grad_(True)
            self.trainable = phase.trains
        return self.objective.modules[phase.trains.partition(".")[0]]

    def _steps_to_record(self) -> int:
        """Returns the steps to the next record, this one included: the last norm before it is logged."""
        progress, every = self.progress, self.config.log_every
        return min(every - progress.total_steps % every, self.clock.steps - progress.step)

    def _step(self, phase: int, index: int, micro_batches: list[Batch]) -> Step:
        """Returns the step of one micro-batch, with its random numbers."""
        size = len(micro_batches[index]["sample"])
        first = (index * self.accelerator.num_processes + self.accelerator.process_index) * size
        key = ("training", self.config.seed, self.progress.stage, self.progress.step, phase)
        random = BatchRandom(*key, rows=range(first, first + size), total=self.config.batch_size, device=self.device)
        return Step(self.progress.step, self.share, random, len(micro_batches), averages=self.averages)

    def _clip(self, parameters: list[nn.Parameter]) -> Tensor:
        """Scales gradients down to `max_grad_norm`, without waiting for the device; returns their norm before."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            raise ValueError(f"A loss of {type(self.objective).__name__} reaches no parameter that its phase trains.")
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        limit = self.config.max_grad_norm
        if limit is not None:
            torch._foreach_mul_(gradients, torch.where(norm > limit, limit / (norm + 1e-6), 1.0))
        return norm

    def _average(self, rows: list[Tensor]) -> list[Tensor]:
        """Averages rows of values over all processes and agrees whether to stop, in one collective."""
        self.clock.tick()
        self.is_stopping, self.is_out_of_time = self.stop.number is not None, self.clock.is_over(taken=1)
        if self.accelerator.num_processes == 1:
            return rows
        flags = [self.is_stopping, self.is_out_of_time, self.clock.share(taken=1)]
        row = torch.cat([*rows, torch.tensor(flags, device=self.device)])
        *rows, flags = all_reduce(row, self.accelerator, "mean").split([*map(len, rows), len(flags)])
        # reading the flags waits for the device
        is_read = self.device.type == "cpu" or (self.progress.total_steps + 1) % self.config.log_every == 0
        self.is_stopping = self.is_out_of_time = False
        if is_read:
            *stops, self.share = flags.tolist()
            self.is_stopping, self.is_out_of_time = [flag > 0 for flag in stops]
        return rows

    def _log(self, bar: tqdm):
        """Logs the means since the last record."""
        self._check_finite()
        record = self.window.close(self.progress.seconds)
        progress = self.progress
        position = {"step": progress.total_steps, "stage": progress.stage, "images": progress.images}
        self.folder.log(position | {"seconds": round(progress.seconds, 3)} | record)
        bar.set_postfix({"loss": f"{record['loss']:.4f}", "img/s": f"{record['images_per_second']:.0f}"})

    def _run_callbacks(self):
        """Runs what is due after this step, or before the first one, the checkpoint last; the clock of training stands
        still meanwhile."""
        total = self.progress.total_steps
        due = [callback for callback in (*self.callbacks, self.checkpoint) if callback.is_due(total)]
        if due:
            self._check_finite()
            self.guard.check_weights(self.progress.total_steps)
            with self.clock.pause(), sampling_attention():
                for callback in due:
                    callback(self.progress)

    def _check_finite(self):
        """Stops if a loss since the last record is not finite."""
        has_scaler = bool(self.accelerator.scaler)
        self.guard.check_losses(self.window.read(), self.progress.total_steps, self.window.steps, has_scaler)

    def _agree(self, value: float) -> float:
        """Returns the mean of a value over all processes."""
        if self.accelerator.num_processes == 1:
            return value
        return all_reduce(torch.tensor(float(value), device=self.device), self.accelerator, "mean").item()

    def _follow_share(self):
        """Moves schedules to the share of training that is done, and records it if it is one of time."""
        if self.accelerator.num_processes == 1 or not self.clock.is_measured:
            self.share = self.clock.share()
        if self.clock.is_timed:
            self.progress.shares.append(self.share)
        for schedule in self.schedules.values():
            if isinstance(schedule, LinearDecay):
                schedule.move_to(self.share)

    def _leave(self):
        """Saves a checkpoint and ends training, as a signal came to one of the processes."""
        self._check_finite()
        self.guard.check_weights(self.progress.total_steps)
        path, number = self.checkpoint(self.progress), self.stop.number or signal.SIGTERM
        raise TrainingStopped(
            f"Stopped by {signal.Signals(number).name} at step {self.progress.total_steps}; the state is in {path}. "
            "Go on with --resume.",
            128 + number,
        )
