"""The processes of a run, and the signals that reach them."""

import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import (
    DistributedType,
    ProjectConfiguration,
    broadcast_object_list,
    parse_flag_from_env,
)
from torch import nn

from genhub.recipes.configs import TrainingConfig
from genhub.training.arithmetic import best_precision
from genhub.utils.extras import how_to_install
from genhub.utils.notebook import in_notebook

Result = TypeVar("Result")
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo")  # in errors of PyTorch
UNSUPPORTED = {  # what accelerate's launcher sets -> its name
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
EXTRAS = ("tensorboard", "trackio", "wandb")  # of genhub, each a tracker
TIMEOUT = timedelta(hours=6)  # of processes that wait while the main one samples and measures
SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.MULTI_XPU)


def make_accelerator(config: TrainingConfig, logs: Path) -> Accelerator:
    """Returns the accelerator.

    Raises:
        ValueError: a setting that accelerate would silently get wrong.
    """
    check_launcher()
    check_trackers(config.trackers)
    launched = int(os.environ.get("WORLD_SIZE", 1))
    # Without this a second run in one process would keep the first one's precision
    AcceleratorState._reset_state(reset_partial_state=True)
    device: Any = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=TIMEOUT).device
    try:
        accelerator = Accelerator(
            mixed_precision=best_precision(device) if config.mixed_precision == "auto" else config.mixed_precision,
            log_with=[*config.trackers] or None,
            project_config=ProjectConfiguration(project_dir=str(logs), logging_dir=str(logs)),
        )
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"`training.mixed_precision={config.mixed_precision}` or `training.trackers`: {error}"
        ) from error
    accelerator.gradient_accumulation_steps = 1  # the loop accumulates; an environment variable would divide once more
    if accelerator.num_processes != launched:
        raise ValueError(
            f"{launched} processes were launched, but each sees only itself. On CPUs set ACCELERATE_USE_CPU=true; "
            "`genhub doctor` shows what this machine supports."
        )
    if accelerator.distributed_type not in SUPPORTED:
        raise ValueError(
            f"genhub trains on one process or with data parallelism, not with {accelerator.distributed_type}."
        )
    if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("`training.mixed_precision` must be bf16 or no on a CPU, got fp16.")
    return accelerator


@contextmanager
def accelerator_aside() -> Iterator[None]:
    """Puts the state of the caller's `Accelerator` aside for the block, also that there is none; but processes that
    were launched together stay so."""
    shared = [kind._shared_state for kind in (AcceleratorState, PartialState, GradientState)]
    before = [dict(state) for state in shared]
    try:
        yield
    finally:
        if before[1].get("num_processes", 1) == int(os.environ.get("WORLD_SIZE", 1)):
            for state, values in zip(shared, before, strict=True):
                state.clear()
                state.update(values)


def check_launcher():
    """Raises ValueError for a kind of parallelism that accelerate was launched with and genhub does not train by."""
    for variable, name in UNSUPPORTED.items():
        if parse_flag_from_env(variable):
            raise ValueError(
                f"genhub trains by data parallelism, not by {name}: leave it out of accelerate's config and options."
            )


def check_trackers(names: Sequence[str]):
    """Raises ValueError for a tracker that accelerate would pass over, as its package is not installed."""
    available = [str(name) for name in get_available_trackers()]
    missing = [name for name in names if name in LOGGER_TYPE_TO_CLASS and name not in available]
    if missing:
        how = how_to_install(missing[0]) if missing[0] in EXTRAS else f"`pip install {missing[0]}`"
        raise ValueError(f"`training.trackers` must be installed, got {missing[0]}: {how}.")
    if "all" in names and not available:
        raise ValueError("`training.trackers` must be installed: `all` finds none.")


def micro_batch_size(config: TrainingConfig, images: int, accelerator: Accelerator) -> int:
    """Returns the number of images in a micro-batch of one process."""
    parts = accelerator.num_processes * config.gradient_accumulation
    if config.batch_size % parts:
        raise ValueError(
            f"`training.batch_size` must be divisible by {parts} ({accelerator.num_processes} process(es) x "
            f"{config.gradient_accumulation} accumulated), got {config.batch_size}."
        )
    if images < config.batch_size:
        fitting = parts * 2 ** int(math.log2(images / parts)) if images >= parts else None
        hint = f"; `training.batch_size: {fitting}` fits" if fitting else ""
        raise ValueError(
            f"`training.batch_size` must be at most the {images} training images, got {config.batch_size}{hint}."
        )
    return config.batch_size // parts


def on_main(function: Callable[[], Result]) -> Result:
    """Calls `function` on the main process only; returns its result, or raises its error, on all processes."""
    if PartialState().num_processes == 1:
        return function()
    result, error = None, None
    if PartialState().is_main_process:
        try:
            result = function()
        except Exception as raised:
            error = raised
    result, error = broadcast_object_list([result, error])
    if error is not None:
        raise error
    return cast(Result, result)


def all_reduce(tensor: torch.Tensor, accelerator: Accelerator, reduction: str) -> torch.Tensor:
    """Returns the "sum" or "mean" of a tensor over all processes."""
    return cast(torch.Tensor, accelerator.reduce(tensor, reduction))


@torch.no_grad()
def average_buffers(modules: Iterable[nn.Module], accelerator: Accelerator):
    """Averages floating-point buffers, such as BatchNorm statistics, over processes."""
    if accelerator.num_processes == 1:
        return
    for module in modules:
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        if buffers:
            flat = all_reduce(torch.cat([buffer.flatten() for buffer in buffers]), accelerator, "mean")
            for buffer, mean in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
                buffer.copy_(mean.view_as(buffer))


def is_first_to_fail() -> bool:
    """Returns whether no process of the run has reported an error before, so that it is printed once."""
    is_first_here = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if not torch.distributed.is_initialized():
        return is_first_here
    try:
        return torch.distributed.distributed_c10d._get_default_store().add("errors of genhub", 1) == 1
    except RuntimeError:  # the process that held the store has ended
        return is_first_here


@contextmanager
def end_with_the_others() -> Iterator[None]:
    """Raises `TrainingStopped` when another process has ended within the block."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and not any(sign in str(error) for sign in LOST):
            raise
        raise TrainingStopped(
            "Another process of the run has ended, and this one with it; `--auto_resume` goes on from its checkpoint "
            f"({str(error).splitlines()[0]})."
        ) from error


class TrainingStopped(Exception):
    """Training ended before its last step; the message says why and where the state is."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


class StopSignal:
    """Remembers Ctrl-C or SIGTERM, so that the step in hand is finished and a checkpoint written.

    Attributes:
        number: of the signal, None if none came.
    """

    def __init__(self):
        self.number: int | None = None

    @contextmanager
    def handle(self) -> Iterator[None]:
        """Handles signals for as long as the block lasts, unless another thread than the main one calls it."""
        if threading.current_thread() is not threading.main_thread():  # a notebook's or a server's thread cannot
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame):
        """Asks training to stop; a second signal ends the process at once, in a notebook the cell."""
        if self.number is not None:
            is_cell = number == signal.SIGINT and in_notebook()
            signal.signal(number, signal.default_int_handler if is_cell else signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number
