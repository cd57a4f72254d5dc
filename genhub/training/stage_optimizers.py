"""The optimizers of a stage and their learning-rate schedules."""

import itertools
import math
import warnings
from collections.abc import Collection
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from genhub.objectives.objective import Objective
from genhub.recipes.stages import FROM_LENGTH, Stage
from genhub.training.trainable import trainable_parameters


class StageOptimizers:
    """Builds optimizers and learning-rate schedules for what the phases train; thaws that and nothing else.

    Attributes:
        optimizers, schedules: by what they train.
        lengths: of each schedule, the arguments that follow from the number of steps.

    Args:
        steps: of the stage.

    Raises:
        ValueError: a class refuses its arguments, or a schedule gives a rate that is no rate, or is too short.
    """

    def __init__(self, objective: Objective, stage: Stage, steps: int):
        trained = {phase.trains: trainable_parameters(phase, objective) for phase in objective.phases}
        thaw(objective, [*itertools.chain(*trained.values())])  # the rest stays out of the gradient exchange
        self.optimizers: dict[str, Optimizer] = {}
        self.schedules: dict[str, LRScheduler] = {}
        self.lengths: dict[str, dict[str, int]] = {}
        for name, (spec, schedule) in stage.optimizers.items():
            self.optimizers[name] = spec.build(trained[name])
            if schedule is not None:
                count = sum(math.ceil(steps / phase.every) for phase in objective.phases if phase.trains == name)
                self.lengths[name] = {key: count for key in FROM_LENGTH if schedule.lacks(key)}
                self.schedules[name] = schedule.build(self.optimizers[name], **self.lengths[name])
                self._check_length(name, count)
            self.check_rates(name)

    def follow(self, saved: dict, changed: Collection[str]):
        """Brings the `saved` state of optimizers to the recipe's arguments, as if they had been those from the start.

        Args:
            changed: dotted keys of the arguments that differ; schedules of another length are found here.
        """
        for name, optimizer in self.optimizers.items():
            last, length = saved["schedules"].get(name), self.lengths.get(name, {})
            is_changed = any(key.startswith(f"optimizers.{name}.") for key in changed)
            if not is_changed and all(last.get(key) == value for key, value in length.items()):
                continue
            if last is not None:
                with warnings.catch_warnings():  # of a schedule that moves before its optimizer
                    warnings.simplefilter("ignore")
                    for _ in range(min([last["last_epoch"], *length.values()])):
                        self.schedules[name].step()
                saved["schedules"][name] = self.schedules[name].state_dict()
            groups = zip(
                saved["optimizers"][name]["param_groups"], optimizer.state_dict()["param_groups"], strict=True
            )
            for group, present in groups:
                group |= present

    def check_rates(self, name: str):
        """Raises ValueError if a learning rate is negative or not finite."""
        for group in self.optimizers[name].param_groups:
            if not 0 <= float(group["lr"]) < math.inf:
                key = f"optimizers.{name}.{'schedule' if name in self.schedules else 'lr'}"
                raise ValueError(f"`{key}` must give finite rates of at least 0, got {float(group['lr']):g}.")

    def _check_length(self, name: str, count: int):
        """Raises ValueError if a schedule refuses to be asked for the last of `count` updates."""
        length: Any = getattr(self.schedules[name], "total_steps", None)
        if length is not None and length < count:
            key = f"optimizers.{name}.schedule.total_steps"
            raise ValueError(f"`{key}` must be at least the {count} updates of the stage, got {length}.")


def thaw(objective: Objective, parameters: list[nn.Parameter]):
    """Enables gradients for `parameters` only."""
    for module in objective.modules.values():
        module.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
