"""What the loop asks of an objective, whatever the family of its models."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from genhub.utils.randomness import BatchRandom

Batch = dict[str, torch.Tensor]  # "sample" (B, C, H, W) in [-1, 1]; "labels" (B,) where the data set has them
Losses = dict[str, torch.Tensor]  # named parts of a loss, scalars; the loop adds them up and logs each one


@dataclass(frozen=True)
class Step:
    """Where training stands, and this batch's random numbers.

    Args:
        index: of the step in its stage.
        progress: share of the stage that is done.
        accumulation_steps: number of micro-batches of this process.
        metrics: scalars that a loss function adds to the log, without a gradient.
    """

    index: int
    progress: float
    random: BatchRandom
    accumulation_steps: int = 1
    metrics: Losses = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """One move of the game: the module of `Objective.modules` that moves, against which loss, and how often; if not
    the whole of it, which of its parts, by their dotted names."""

    trains: str
    loss: Callable[[Batch, Step], Losses]
    every: int = 1
    submodules: tuple[str, ...] = ()


class Objective:
    """Judges modules. The loop replaces the entries of `modules` by their prepared selves, so losses look them up
    there."""

    modules: dict[str, nn.Module]
    phases: tuple[Phase, ...]
    has_diagnostics = False  # whether `diagnose` says anything
    needs_double_backward = False  # whether a loss holds gradients by what modules are given
    per_sample: tuple[str, ...] = ()  # tensors (B, ...) of `state_dict`, of which a process fills its samples' places

    def check(self, shape):
        """Refuses models that are made for other images than those of `shape` (a `genhub.data.Shape`).

        Raises:
            ValueError: channels, size or number of classes of a module differ from those of the images.
        """
        for name, module in self.modules.items():
            config = getattr(module, "config", {})
            for key in ("in_channels", "out_channels"):
                if config.get(key, shape.channels) != shape.channels:
                    raise ValueError(
                        f"`components.{name}.{key}` is {config[key]}, the images have {shape.channels} channel(s)."
                    )
            size = config.get("sample_size")
            height, width = size if isinstance(size, list | tuple) else (size, size)
            if size is not None and (height, width) != (shape.height, shape.width):
                raise ValueError(
                    f"`components.{name}.sample_size` is {size}, the images are {shape.height}x{shape.width}."
                )
            known, classes = config.get("num_class_embeds"), len(shape.class_names or ())
            if known is not None and known < classes:
                raise ValueError(
                    f"`components.{name}.num_class_embeds` is {known}, the data set has {classes} classes."
                )

    def check_batch(self, batch_size: int, share: int):
        """Refuses batches of `batch_size` images, of which a process takes `share` at a time.

        Raises:
            ValueError: statistics of a batch would be taken of one image.
        """
        for name, module in self.modules.items():
            if share == 1 and (
                getattr(module, "has_batch_statistics", False)
                or any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())
            ):
                raise ValueError(
                    f"`training.batch_size` must give each process at least 2 images at a time: the component {name} "
                    f"takes statistics of its batch, got {batch_size}, which gives 1."
                )

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns the terms to watch on held-out images, without gradients: those of the first phase."""
        return self.phases[0].loss(batch, step)

    def observe(self, numbers: dict[str, float], images: int):
        """Learns the terms and notes of a step, as they are logged: means over its `images`, over all processes."""

    def diagnose(self, records: list[dict], window: int = 1) -> dict[str, str]:
        """Returns what goes wrong by the newest of the records that were logged, by name: nothing here.

        Args:
            window: records that must agree; with 1, the first sign of a trouble counts.
        """
        return {}

    def state_dict(self) -> dict:
        """Returns what the objective itself remembers between steps: nothing here."""
        return {}

    def load_state_dict(self, state: dict):
        """Takes back what `state_dict` returned."""
