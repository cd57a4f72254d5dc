"""The interface between an objective and the training loop, the same for every family of models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from genhub.utils.randomness import BatchRandom

Batch = dict[
    str, torch.Tensor
]  # "sample" (B, C, H, W): images in [-1, 1] or latents; "labels" (B,) if the data has any
Losses = dict[str, torch.Tensor]  # named scalars, which the loop adds up and logs one by one


@dataclass(frozen=True)
class Step:
    """The position in training, with the random numbers of the batch.

    Args:
        index: number of the step in its stage, from 0.
        progress: share of the stage that is done, in [0, 1].
        random: random numbers for the batch; `random.total` is the batch size over all processes.
        accumulation_steps: number of micro-batches per process.
        metrics: scalars to log without optimising them, filled in by loss functions, without gradients.
        averages: moving averages of modules by name, for those of `training.ema`.
    """

    index: int
    progress: float
    random: BatchRandom
    accumulation_steps: int = 1
    metrics: Losses = field(default_factory=dict)
    averages: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def average(self, name: str) -> Callable[..., Any] | None:
        """Returns the moving average of a module, to be called like the module; None if the recipe keeps none."""
        return self.averages.get(name)


@dataclass(frozen=True)
class Phase:
    """One update of one module within a step.

    Args:
        trains: key of `Objective.modules`, or the dotted name of a part of that module.
        loss: computes the losses of a micro-batch.
        every: number of steps from one update to the next.
        submodules: dotted names of the parts to update; empty for all of `trains`.
    """

    trains: str
    loss: Callable[[Batch, Step], Losses]
    every: int = 1
    submodules: tuple[str, ...] = ()


class Objective:
    """Computes the losses that modules are trained on.

    `modules` holds the modules that meet the data: images, or latents if the recipe encodes its images. The loop
    replaces them by their prepared versions, so losses must look them up there.
    """

    modules: dict[str, nn.Module]
    phases: tuple[Phase, ...]
    has_diagnostics = False  # whether `diagnose` can report problems
    needs_double_backward = False  # whether a loss contains gradients with respect to a module's input
    notes: tuple[str, ...] = ()  # sentences about what it makes of the images
    per_sample: tuple[str, ...] = ()  # entries of `state_dict` indexed by sample; each process owns only its rows

    def check(self, shape) -> None:
        """Compares the modules with the shape of the data.

        Args:
            shape: `genhub.data.Shape` of the images, or of the latents if the recipe encodes its images.

        Raises:
            ValueError: the number of channels or the size differ.
        """
        for name, config in self._configs():
            for key in ("in_channels", "out_channels"):
                if config.get(key, shape.channels) != shape.channels:
                    raise ValueError(
                        f"`components.{name}.{key}` is {config[key]}, the images have {shape.channels} channel(s)."
                    )
            size = config.get("sample_size")
            if size is not None and as_pair(size) != (shape.height, shape.width):
                raise ValueError(
                    f"`components.{name}.sample_size` is {size}, the images are {shape.height}x{shape.width}."
                )

    def check_labels(self, images) -> None:
        """Compares the classes that the modules know with the labels of the data.

        A module that is conditioned on K classes (`num_class_embeds`) or predicts K (`num_classes`) needs labels in
        0..K-1.

        Args:
            images: a data set with `shape`, `has_labels` and `labels`, which is None if they are not in memory.

        Raises:
            ValueError: there are no labels, or a module does not know all classes.
        """
        num_classes, labels = images.shape.num_classes, images.labels
        for name, config in self._configs():
            for key in ("num_class_embeds", "num_classes"):
                known = config.get(key)
                if not known:
                    continue
                if not images.has_labels:
                    raise ValueError(f"`components.{name}.{key}` is {known}, the data set has no labels.")
                if num_classes is not None and known < num_classes:
                    raise ValueError(f"`components.{name}.{key}` is {known}, the data set has {num_classes} classes.")
                if labels is not None and not 0 <= labels.min() <= labels.max() < known:
                    raise ValueError(
                        f"`components.{name}.{key}` is {known}, the labels run from {labels.min()} to {labels.max()}."
                    )

    def check_batch(self, batch_size: int, micro_batch_size: int) -> None:
        """Checks that batch statistics are never computed over a single image.

        Raises:
            ValueError: a module computes statistics over its batch, and micro-batches hold one image.
        """
        for name, module in self.modules.items():
            if micro_batch_size == 1 and has_batch_statistics(module):
                raise ValueError(
                    f"`training.batch_size` must give each process at least 2 images at a time: the component {name} "
                    f"takes statistics of its batch, got {batch_size}, which gives 1."
                )

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns the values to log for held-out images, computed without gradients: by default those of the first
        phase."""
        return self.phases[0].loss(batch, step)

    def after_step(self, step: Step, metrics: dict[str, torch.Tensor]) -> None:
        """Reacts to a finished optimizer step.

        Args:
            metrics: the logged losses and metrics of the step, averaged over the batch and all processes, as detached
                tensors on the device; keys such as "discriminator/real" with several phases, "loss" with one.
        """

    def diagnose(self, records: list[dict], window: int = 1) -> dict[str, str]:
        """Returns the failure modes that the newest log records show, name -> description.

        Args:
            window: number of consecutive records that must agree; 1 reports the first sign.
        """
        return {}

    def state_dict(self) -> dict:
        """Returns the objective's own state, beside the modules' and optimizers'."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restores a state from `state_dict`."""

    def _configs(self) -> list[tuple[str, Mapping]]:
        """Returns the names and configs of the modules that have one as diffusers' models do."""
        configs = ((name, getattr(module, "config", None)) for name, module in self.modules.items())
        return [(name, config) for name, config in configs if isinstance(config, Mapping)]


def has_batch_statistics(module: nn.Module) -> bool:
    """Returns whether the output for one image depends on the others of its batch, at least in training."""
    return getattr(module, "has_batch_statistics", False) or any(
        isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()
    )


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the height and width of a `sample_size`."""
    return (size, size) if isinstance(size, int) else cast("tuple[int, int]", tuple(size))
