"""The sections of a recipe that are plain values: the data, how to train, what to measure while training."""

import math
from dataclasses import dataclass, field
from typing import Literal, overload

from genhub.data.config import DataConfig
from genhub.recipes.arguments import check_arguments
from genhub.recipes.checks import as_mapping
from genhub.utils.ranges import Range, check_ranges, shown

TRAINING_RANGES = {
    "seed": Range(0, 2**63 - 1),
    "batch_size": Range(1, 10**6),
    "gradient_accumulation": Range(1, 10**6),
    "epochs": Range(0, 10**6, is_open=True),
    "max_steps": Range(0, is_open=True),
    "max_minutes": Range(0, 10**6, is_open=True),
    "max_grad_norm": Range(0, is_open=True),
    "log_every": Range(1),
    "keep_checkpoints": Range(1),
    "num_samples": Range(1, 10**4),
}


@dataclass
class TrainingConfig:
    """How long to train, in which arithmetic, and what to log. Every `*_every` counts steps; 0 means never.

    Args:
        batch_size: images per optimizer step, over all processes and micro-batches.
        gradient_accumulation: number of micro-batches of each process in a step, to save memory.
        epochs: passes through the training images; `max_steps` or `max_minutes` may end training earlier.
        max_minutes: time to train. In a recipe of one stage the schedules of genhub and an objective's progress then
            follow the time, so that they end when it does.
        replay: folder of an earlier run that went by time, whose share of it before each step to repeat.
        mixed_precision: "no" (float32), "bf16", "fp16", or "auto": bf16 on a device that computes in it, else float32.
        max_grad_norm: norm to which gradients are clipped; None for no clipping.
        ema: component -> decay of the moving average of its weights, which are then the ones sampled and saved.
        compile: compile the networks with torch.compile, which takes a minute or two and needs a C++ compiler. Not
            with penalties on gradients.
        channels_last: memory format of images and convolutions, faster with bf16 and fp16.
        keep_checkpoints: number of checkpoints on disk, the newest.
        trackers: accelerate's trackers (tensorboard, trackio, wandb, ...) to log to, beside `metrics.jsonl`.
    """

    seed: int = 0
    batch_size: int = 64
    gradient_accumulation: int = 1
    epochs: float = 1.0
    max_steps: int | None = None
    max_minutes: float | None = None
    replay: str | None = None
    mixed_precision: str = "no"
    max_grad_norm: float | None = None
    ema: dict[str, float] = field(default_factory=dict)
    compile: bool = False
    channels_last: bool = False
    log_every: int = 10
    validate_every: int = 0
    sample_every: int = 0
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    num_samples: int = 64
    trackers: list[str] = field(default_factory=list)

    def __post_init__(self):
        check_ranges("training", self, TRAINING_RANGES)
        if self.mixed_precision not in ("auto", "no", "bf16", "fp16"):
            raise ValueError(
                f"`training.mixed_precision` must be auto, no, bf16 or fp16, got {shown(self.mixed_precision)}."
            )
        for name, decay in self.ema.items():
            if not 0 <= decay < 1:
                raise ValueError(f"`training.ema.{name}` must lie in [0, 1), got {decay}.")

    def steps(self, num_images: int) -> int:
        """Returns the number of optimizer steps for `num_images` training images."""
        steps = math.ceil(self.epochs * num_images / self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)


@dataclass
class EvaluationConfig:
    """Monitoring of quality while training: KID of generated to held-out images, with the averaged weights.

    Args:
        every: steps between two measurements; 0 for none. The default costs below 5 % of training in batches of 64 as
            long as an image takes at most 75 network evaluations; `arguments` can lower their number.
        count: number of generated images.
        keep_best: keep the repository with the lowest KID so far in `training/best`.
        arguments: arguments of the pipeline's call, such as a smaller `num_inference_steps`.
    """

    every: int = 2000
    count: int = 256
    keep_best: bool = False
    arguments: dict[str, int | float | str] = field(default_factory=dict)

    def __post_init__(self):
        check_ranges("evaluation", self, {"count": Range(2, 10**6)})


CONFIGS = {"data": DataConfig, "training": TrainingConfig, "evaluation": EvaluationConfig}


@overload
def read_config(section: Literal["data"], entries: object) -> DataConfig: ...
@overload
def read_config(section: Literal["training"], entries: object) -> TrainingConfig: ...
@overload
def read_config(section: Literal["evaluation"], entries: object) -> EvaluationConfig: ...
def read_config(section: str, entries: object) -> DataConfig | TrainingConfig | EvaluationConfig:
    """Reads a section of plain values; an absent one has the defaults.

    Raises:
        ValueError: a key that does not exist, a value of another type or out of range.
    """
    config = CONFIGS[section]
    return config(**check_arguments(section, config, as_mapping(section, entries or {})))
