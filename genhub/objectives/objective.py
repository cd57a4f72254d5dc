"""What the loop asks of an objective, whatever the family of its models."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from genhub.randomness import Draws

Batch = dict[str, torch.Tensor]  # "pixel_values" (B, C, H, W) in [-1, 1]; "labels" (B,) where the data set has them
Terms = dict[str, torch.Tensor]  # named parts of a loss, scalars; the loop adds them up and logs each one


@dataclass(frozen=True)
class Step:
    """Where training stands: `index` of the step, share of its stage that is done, and this batch's random numbers."""

    index: int
    progress: float
    draws: Draws


@dataclass(frozen=True)
class Phase:
    """One move of the game: the module of `Objective.modules` that moves, against which loss, and how often."""

    trains: str
    loss: Callable[[Batch, Step], Terms]
    every: int = 1


class Objective:
    """Judges modules. The loop replaces the entries of `modules` by their prepared selves, so losses look them up
    there."""

    modules: dict[str, nn.Module]
    phases: tuple[Phase, ...]

    def validate(self, batch: Batch, step: Step) -> Terms:
        """Returns the terms to watch on held-out images, without gradients: those of the first phase."""
        return self.phases[0].loss(batch, step)

    def state_dict(self) -> dict:
        """Returns what the objective itself remembers between steps: nothing here."""
        return {}

    def load_state_dict(self, state: dict):
        """Takes back what `state_dict` returned."""
