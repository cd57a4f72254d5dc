"""Stops a run before weights that are not finite are saved or judged."""

import math

import torch
from torch import nn

from genhub.objectives.objective import Objective
from genhub.training.distributed import TrainingStopped


def check_losses(values: dict[str, float], objective: Objective, step: int, count: int, has_scaler: bool):
    """Checks the means of all logged values over the last `count` steps before `step`.

    Args:
        has_scaler: skips gradient norms, which may be infinite under fp16: its scaler then skips the step.

    Raises:
        TrainingStopped: a value is not finite.
    """
    losses = {name: value for name, value in values.items() if not (has_scaler and "grad_norm" in name)}
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if not bad:
        return
    trained = bad[0].rpartition("/")[0] or objective.phases[0].trains
    where = f"at step {step}" if count == 1 else f"in the steps {step - count + 1} to {step}"
    shown = ", ".join(f"{name} = {value}" for name, value in values.items())
    raise TrainingStopped(
        f"The loss of {trained} is not finite {where} ({shown}). The newest checkpoint is from before that. A lower "
        "learning rate, `training.max_grad_norm` or `training.mixed_precision` no may help."
    )


def check_weights(parameters: dict[str, list[nn.Parameter]], step: int):
    """Checks the weights of all phases after `step`: a finite loss may have a gradient that is not.

    Raises:
        TrainingStopped: a weight is not finite.
    """
    for name, trained in parameters.items():
        if not torch.stack(torch._foreach_norm([*trained])).isfinite().all():
            raise TrainingStopped(
                f"The weights of {name} are not finite after step {step}. The newest checkpoint is from before that. "
                "A lower learning rate or `training.max_grad_norm` may help."
            )
