"""The plain values of a recipe: how long and how to train, what to measure while training."""

import math
from dataclasses import dataclass, field


@dataclass
class TrainingConfig:
    """How long, in which arithmetic, and what to write down on the way. Every `*_every` counts steps; 0 means never.

    Args:
        batch_size: images per optimizer step, over all processes and accumulated batches.
        gradient_accumulation: parts in which a process walks through its share of a batch, to save memory.
        epochs: passes through the training images; `max_steps` steps or `max_minutes` end training earlier.
        mixed_precision: "no" (float32), "bf16" or "fp16".
        max_grad_norm: gradients are scaled down to this norm; None leaves them alone.
        ema: component -> decay of the moving average of its weights, which is what is sampled and saved.
        compile: let torch.compile make the networks' kernels: a minute or two at the start, and a C++ compiler. Not
            for penalties on gradients.
        channels_last: memory format of images and convolutions, faster with bf16 and fp16.
        keep_checkpoints: how many of the newest checkpoints stay on disk.
        trackers: those of accelerate (tensorboard, trackio, wandb, ...), beside the plain `metrics.jsonl`.
    """

    seed: int = 0
    batch_size: int = 64
    gradient_accumulation: int = 1
    epochs: float = 1.0
    max_steps: int | None = None
    max_minutes: float | None = None
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
        for name in ("batch_size", "gradient_accumulation", "log_every", "keep_checkpoints", "num_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"`training.{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("validate_every", "sample_every", "checkpoint_every", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"`training.{name}` must be at least 0, got {getattr(self, name)}.")
        for name in ("epochs", "max_steps", "max_minutes", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"`training.{name}` must be above 0, got {value}.")
        if self.mixed_precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"`training.mixed_precision` must be no, bf16 or fp16, got {self.mixed_precision!r}.")
        for name, decay in self.ema.items():
            if not 0 <= decay < 1:
                raise ValueError(f"`training.ema.{name}` must lie in [0, 1), got {decay}.")

    def steps(self, num_images: int) -> int:
        """Returns the number of optimizer steps on `num_images` training images."""
        steps = math.ceil(self.epochs * num_images / self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)


@dataclass
class EvaluationConfig:
    """The figure of quality that is logged while training: KID on held-out images, of the averaged weights.

    Args:
        every: steps between two; 0 for none. The default costs below 5 % of training in batches of 64 where an image
            takes up to 75 passes; `arguments` can make it fewer.
        count: images that are generated.
        keep_best: save the repository with the lowest figure so far in `training/best`.
        arguments: of the pipeline's call, such as a smaller `num_inference_steps`.
    """

    every: int = 2000
    count: int = 256
    keep_best: bool = False
    arguments: dict[str, int | float | str] = field(default_factory=dict)

    def __post_init__(self):
        if self.every < 0:
            raise ValueError(f"`evaluation.every` must be at least 0, got {self.every}.")
        if self.count < 2:
            raise ValueError(f"`evaluation.count` must be at least 2, got {self.count}.")
