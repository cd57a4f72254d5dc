"""The processes that take part in a run: what `accelerate` makes of them, and the signals that reach them."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, InitProcessGroupKwargs, ProjectConfiguration

from genhub.recipes.configs import TrainingConfig

PATIENCE = timedelta(hours=6)  # for which processes wait for the main one, which draws samples and measures alone
SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.MULTI_XPU)


def make_accelerator(config: TrainingConfig, logs: Path) -> Accelerator:
    """Returns the accelerator, after refusing what it would silently get wrong."""
    launched = int(os.environ.get("WORLD_SIZE", 1))
    # Without this a second run in one process would keep the first one's precision
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        accelerator = Accelerator(
            mixed_precision=config.mixed_precision,
            log_with=config.trackers or None,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
            project_config=ProjectConfiguration(project_dir=logs, logging_dir=logs),
        )
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"`training.mixed_precision={config.mixed_precision}` or `training.trackers`: {error}"
        ) from error
    accelerator.gradient_accumulation_steps = 1  # the loop accumulates; an environment variable would divide once more
    if accelerator.num_processes != launched:
        raise ValueError(
            f"{launched} processes were launched, and each believes to be alone. On CPUs set ACCELERATE_USE_CPU=true; "
            "`genhub doctor` shows what this machine gives."
        )
    if accelerator.distributed_type not in SUPPORTED:
        raise ValueError(
            f"genhub trains on one process or with data parallelism, not with {accelerator.distributed_type}."
        )
    if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("`training.mixed_precision` must be bf16 or no on a CPU, got fp16.")
    return accelerator


def micro_batch_size(config: TrainingConfig, images: int, accelerator: Accelerator) -> int:
    """Returns how many images one process takes at a time."""
    parts = accelerator.num_processes * config.gradient_accumulation
    if config.batch_size % parts:
        raise ValueError(
            f"`training.batch_size` must be divisible by {parts} ({accelerator.num_processes} process(es) x "
            f"{config.gradient_accumulation} accumulated), got {config.batch_size}."
        )
    if images < config.batch_size:
        raise ValueError(
            f"`training.batch_size` must be at most the {images} training images, got {config.batch_size}."
        )
    return config.batch_size // parts


@contextmanager
def handle_signals(handler: Callable):
    """Lets Ctrl-C and SIGTERM finish the step in hand and write a checkpoint."""
    if threading.current_thread() is not threading.main_thread():  # a notebook's or a server's thread cannot
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def flush_denormals():
    """Takes numbers below 1e-38 for 0, as the momentum of a weight at a pixel that is almost always black: a processor
    takes some hundred cycles for each. Threads inherit this from the one that starts them: those that PyTorch starts
    within the block keep it, those that it had before do not take it on."""
    was_on = (torch.tensor(1e-38) / 10).item() == 0  # PyTorch does not tell
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_on)
