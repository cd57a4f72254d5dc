"""The training loop. It moves the weights that an objective's phases name, and knows no family of models.

One step: for each phase that is due, walk through this process's share of the batch, add up gradients, check that
they are finite, move. What a step does is a function of (recipe, step) and of the state that a checkpoint holds.
"""

import contextlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from genhub.objectives.objective import Batch, Objective, Phase, Step
from genhub.recipes.configs import TrainingConfig
from genhub.utils.environment import device_name
from genhub.utils.files import atomic_write
from genhub.utils.randomness import BatchRandom, seed_global, seed_of


class TrainingStopped(Exception):
    """Training ended before its last step; the message says why and where the state is."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Progress:
    """Where training stands: step 0..`steps` of a stage, totals over all stages, and on what they were made."""

    stage: int = 0
    step: int = 0
    total_steps: int = 0
    images: int = 0
    seconds: float = 0.0
    steps_on: dict[str, int] = field(default_factory=dict)  # by the name of the device


class Loop:
    """Runs one stage of training after the other, on the process that `accelerator` stands for.

    Args:
        modules: all trainable components by name, prepared by `accelerator`.
        averages: component -> moving average of its weights.
        log: called with one record of numbers, on the main process.
        save: called with the loop where a checkpoint is due; returns its path.
        watch: (every, action) pairs: what else to do after how many steps, on all processes.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        modules: dict[str, nn.Module],
        averages: dict[str, EMAModel],
        log: Callable[[dict], None],
        save: Callable[["Loop"], Path],
        watch: list[tuple[int, Callable[["Loop"], None]]],
    ):
        self.accelerator, self.modules, self.averages = accelerator, modules, averages
        self.log, self.save, self.watch = log, save, watch
        self.progress = Progress()
        self.signal: int | None = None
        self._asked_to_stop = self.out_of_time = False

    def run(
        self,
        objective: Objective,
        optimizers: dict[str, torch.optim.Optimizer],
        schedules: dict[str, object],
        batches: Iterator[Batch],
        config: TrainingConfig,
        steps: int,
        bar: tqdm,
    ):
        """Trains one stage from where `progress` stands to `steps`, or until the time is up.

        Raises:
            TrainingStopped: a loss or gradient is not finite, or a signal came.
        """
        self.objective, self.optimizers, self.schedules, self.config = objective, optimizers, schedules, config
        progress, window, device = self.progress, _Window(), device_name(self.accelerator.device)
        self._notes = {"lr", "grad_norm"}  # names of numbers that are no terms of a loss
        self._moves: dict[str, list[nn.Parameter]] = {}  # of each phase, by what it trains
        self._moving: str | None = None
        began = time.monotonic() - progress.seconds
        self.out_of_time = self._is_late()
        while progress.step < steps and not self.out_of_time:
            rank = self.accelerator.process_index
            seed_global(seed_of("global", config.seed, progress.stage, progress.step, rank), self.accelerator.device)
            share = [next(batches) for _ in range(config.gradient_accumulation)]
            due = [
                (number, phase) for number, phase in enumerate(objective.phases) if progress.step % phase.every == 0
            ]
            numbers: dict[str, float] = {}
            for number, phase in due:
                numbers |= self.move(phase, number, share, progress.step / steps)
            if not due:
                self._exchange([])
            objective.observe(numbers, config.batch_size)
            self._share_statistics()
            for name, average in self.averages.items():
                self.modules[name].requires_grad_(True)  # EMAModel copies what is frozen instead of averaging it
                self._moving = None
                average.step(state_of(self.modules[name]))

            progress.step += 1
            progress.total_steps += 1
            progress.steps_on[device] = progress.steps_on.get(device, 0) + 1
            progress.images += config.batch_size
            progress.seconds = time.monotonic() - began
            window.add(numbers, config.batch_size)
            bar.update()
            paused = 0.0
            if progress.total_steps % config.log_every == 0 or progress.step == steps:
                record = window.close(self._notes)
                self.log(self._position() | record)
                bar.set_postfix({"loss": f"{record['loss']:.4f}", "img/s": f"{record['images_per_second']:.0f}"})
            for every, action in self.watch:
                if every and progress.total_steps % every == 0:
                    paused += self._timed(action)
            if config.checkpoint_every and progress.total_steps % config.checkpoint_every == 0:
                paused += self._timed(self.save)
            began += paused
            window.start += paused
            if self._asked_to_stop:
                self._leave()

    def move(self, phase: Phase, number: int, share: list[Batch], progress: float) -> dict[str, float]:
        """Takes one step of one phase, and returns its terms, averaged over the batch and all processes."""
        module, moved = self._let_move(phase)
        optimizer = self.optimizers[phase.trains]
        sums: dict[str, torch.Tensor] = {}
        for part, batch in enumerate(share):
            last = part == len(share) - 1
            with (
                self.accelerator.no_sync(module) if not last else contextlib.nullcontext(),
                attention_backend(self.accelerator),
            ):
                step = self.step_of(number, part, len(batch["sample"]), progress, len(share))
                terms = phase.loss(batch, step)
                self.accelerator.backward(sum(terms.values()) / len(share))
            self._notes |= step.metrics.keys()
            for name, term in (terms | step.metrics).items():
                sums[name] = sums.get(name, 0) + term.detach().float() / len(share)
        self.accelerator.unscale_gradients(optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in moved if p.grad is not None])

        *values, norm = self._exchange([*sums.values(), norm])
        numbers = dict(zip(sums, values, strict=True))
        self._check_finite(phase, numbers, norm)
        if self.config.max_grad_norm is not None and norm > self.config.max_grad_norm:
            total = torch.tensor(norm, device=self.accelerator.device)
            nn.utils.clip_grads_with_norm_(moved, self.config.max_grad_norm, total)

        # accelerate's wrapper looks for packages in every step; only a gradient scaler needs it
        (optimizer if self.accelerator.scaler else optimizer.optimizer).step()
        if phase.trains in self.schedules and not optimizer.step_was_skipped:
            self.schedules[phase.trains].step()
        for parameter in moved:
            parameter.grad = None
        numbers |= {"grad_norm": norm, "lr": optimizer.param_groups[0]["lr"]}
        alone = len(self.objective.phases) == 1
        return numbers if alone else {f"{phase.trains}/{name}": value for name, value in numbers.items()}

    def _let_move(self, phase: Phase) -> tuple[nn.Module, list[nn.Parameter]]:
        """Freezes all that `phase` does not move; returns its module, prepared, and the parameters that it moves."""
        root, _, path = phase.trains.partition(".")
        module = self.objective.modules[root]
        if phase.trains not in self._moves:
            part = self.accelerator.unwrap_model(module).get_submodule(path)
            self._moves[phase.trains] = trainable_parameters(phase, part)
        if self._moving != phase.trains:
            for other in self.objective.modules.values():
                other.requires_grad_(False)
            for parameter in self._moves[phase.trains]:
                parameter.requires_grad_(True)
            self._moving = phase.trains
        return module, self._moves[phase.trains]

    def _exchange(self, values: list[torch.Tensor]) -> list[float]:
        """Returns the means of `values` over all processes, and learns whether any has to stop: one wait for both."""
        flags = [float(self.signal is not None), float(self._is_late())]
        if self.accelerator.num_processes == 1:
            values = torch.stack(values).tolist() if values else []
        else:
            row = torch.stack([*values, *torch.tensor(flags, device=self.accelerator.device)])
            *values, flags[0], flags[1] = self.accelerator.reduce(row, "mean").tolist()
        self._asked_to_stop, self.out_of_time = flags[0] > 0, flags[1] > 0
        return values

    def _is_late(self) -> bool:
        return self.config.max_minutes is not None and self.progress.seconds > 60 * self.config.max_minutes

    def _share_statistics(self):
        """Gives all processes the mean of what each one's buffers remember: running means and the like."""
        if self.accelerator.num_processes > 1:
            for module in self.objective.modules.values():
                buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
                if buffers:
                    flat = torch.cat([buffer.flatten() for buffer in buffers])
                    parts = self.accelerator.reduce(flat, "mean").split([buffer.numel() for buffer in buffers])
                    for buffer, part in zip(buffers, parts, strict=True):
                        buffer.copy_(part.view_as(buffer))

    def step_of(self, phase: int, part: int, size: int, progress: float, parts: int) -> Step:
        """Returns the place in training of one of the parts of a batch, with its random numbers."""
        first = (part * self.accelerator.num_processes + self.accelerator.process_index) * size
        key = ("training", self.config.seed, self.progress.stage, self.progress.step, phase)
        rows = range(first, first + size)
        draws = BatchRandom(*key, rows=rows, total=self.config.batch_size, device=self.accelerator.device)
        return Step(self.progress.step, progress, draws, parts)

    def state_dict(self) -> dict:
        """Returns all that a run needs to go on as if it had never stopped, but for the global random state; all
        processes call it."""
        unwrap, remembered = self.accelerator.unwrap_model, self.objective.state_dict()
        if self.accelerator.num_processes > 1:
            for name in self.objective.per_sample:  # in the same order on all processes
                if name in remembered:
                    remembered[name] = self.accelerator.reduce(remembered[name], "sum")
        return {
            "progress": asdict(self.progress),
            "modules": {name: unwrap(module).state_dict() for name, module in self.modules.items()},
            "averages": {name: average.state_dict() for name, average in self.averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "schedules": {name: schedule.state_dict() for name, schedule in self.schedules.items()},
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "objective": remembered,
        }

    def ask_to_stop(self, number: int, frame=None):
        """Handles a signal: the step in hand is finished first. A second one ends the process at once."""
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number

    def _leave(self):
        """Writes a checkpoint and ends training, since a signal came to one of the processes."""
        path, number = self.save(self), self.signal or signal.SIGTERM
        raise TrainingStopped(
            f"Stopped by {signal.Signals(number).name} at step {self.progress.total_steps}; the state is in {path}. "
            "Go on with --resume.",
            exit_code=128 + number,
        )

    def _check_finite(self, phase: Phase, numbers: dict[str, float], norm: float):
        """Stops before weights are spoiled. An infinite gradient under fp16 is what its scaler is for.

        Nothing is saved: an earlier phase of this step may have moved, and running statistics may be spoiled.
        """
        if all(map(math.isfinite, [*numbers.values(), *([] if self.accelerator.scaler else [norm])])):
            return
        bad = ", ".join(f"{name} = {value}" for name, value in {**numbers, "gradient norm": norm}.items())
        raise TrainingStopped(
            f"The loss of {phase.trains} is not finite at step {self.progress.total_steps + 1} ({bad}). The newest "
            "checkpoint is from before it. A lower learning rate, `training.max_grad_norm` or "
            "`training.mixed_precision` no may help."
        )

    def _position(self) -> dict:
        p = self.progress
        return {"step": p.total_steps, "stage": p.stage, "images": p.images, "seconds": round(p.seconds, 3)}

    def _timed(self, action: Callable) -> float:
        """Runs `action` and returns the seconds that it took: they do not count as training."""
        start = time.monotonic()
        action(self)
        return time.monotonic() - start


class _Window:
    """Averages of what happened since the last record."""

    def __init__(self):
        self.sums, self.counts, self.steps, self.images, self.start = {}, {}, 0, 0, time.monotonic()

    def add(self, numbers: dict[str, float], images: int):
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.steps += 1
        self.images += images

    def close(self, notes: set[str]) -> dict[str, float]:
        means = {name: self.sums[name] / self.counts[name] for name in self.sums}
        terms = [value / self.steps for name, value in self.sums.items() if name.split("/")[-1] not in notes]
        rate = self.images / (time.monotonic() - self.start)
        self.__init__()
        return {"loss": sum(terms), **means, "images_per_second": round(rate, 2)}


def attention_backend(accelerator: Accelerator):
    """PyTorch's fused attention has a slow backward pass on CPUs (half of a bf16 step here); plain products are
    faster."""
    return sdpa_kernel(SDPBackend.MATH) if accelerator.device.type == "cpu" else contextlib.nullcontext()


@torch.no_grad()
def validate(
    accelerator: Accelerator,
    objective: Objective,
    batch_of: Callable[[slice], Batch],
    count: int,
    batch_size: int,
    seed: int,
) -> dict[str, float]:
    """Returns the mean of each term over `count` held-out images, with the same random numbers every time."""
    prepared, objective.modules = (
        objective.modules,
        {k: accelerator.unwrap_model(m) for k, m in objective.modules.items()},
    )
    training = {name: module.training for name, module in objective.modules.items()}
    for module in objective.modules.values():
        module.eval()
    sums: dict[str, torch.Tensor] = {}
    for start in range(0, count, batch_size):
        total = min(batch_size, count - start)
        bounds = [total * rank // accelerator.num_processes for rank in range(accelerator.num_processes + 1)]
        rows = range(bounds[accelerator.process_index], bounds[accelerator.process_index + 1])
        if not rows:
            continue
        draws = BatchRandom("validation", seed, start, rows=rows, total=total, device=accelerator.device)
        terms = objective.validate(batch_of(slice(start + rows.start, start + rows.stop)), Step(0, 0.0, draws))
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.float() * len(rows)
    objective.modules = prepared
    for name, module in objective.modules.items():
        module.train(training[name])
    names = sorted(sums)
    row = accelerator.reduce(torch.stack([sums[name] for name in names]), "sum") / count
    return dict(zip(names, row.tolist(), strict=True))


def state_of(module: nn.Module) -> list[torch.Tensor]:
    """Returns what is averaged of a module: its parameters, and running statistics as if they were some. Buffers that
    it names in `not_averaged` bear no gradient, and so are copied."""
    apart = getattr(module, "not_averaged", ())
    buffers = ((name, buffer) for name, buffer in module.named_buffers() if buffer.is_floating_point())
    return [*module.parameters(), *(buffer.detach().requires_grad_(name not in apart) for name, buffer in buffers)]


def trainable_parameters(phase: Phase, module: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters that a phase moves of the module that it trains."""
    found = []
    for name in phase.submodules or ("",):
        parent, _, last = name.rpartition(".")
        part = getattr(module.get_submodule(parent), last) if last else module
        found += [part] if isinstance(part, nn.Parameter) else part.parameters()
    return found


@contextlib.contextmanager
def averaged(accelerator: Accelerator, modules: dict[str, nn.Module], averages: dict[str, EMAModel]):
    """Puts the moving averages in place of weights and running statistics, for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        for name, average in averages.items():
            parameters = state_of(accelerator.unwrap_model(modules[name]))
            average.store(parameters)
            average.copy_to(parameters)
            stack.callback(average.restore, parameters)
        yield


def truncate_log(path: Path, last_step: int):
    """Drops the records that a resumed run will write again, and a line that a crash left unfinished."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            if json.loads(line).get("step", 0) <= last_step:
                kept.append(line)
    atomic_write(path, "".join(line + "\n" for line in kept))
