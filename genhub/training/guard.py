"""Stops a run before weights that are not finite are saved or judged."""

import math
from collections.abc import Mapping

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from genhub.training.distributed import TrainingStopped
from genhub.training.run_folder import RunFolder


class NotFinite(TrainingStopped):
    """Training ended by a loss or weights that are not finite."""


class Guard:
    """Checks the losses and weights of a stage, and says how to go on where they are not finite.

    Args:
        parameters, optimizers: by what the phases train, the first phase first.
    """

    def __init__(
        self,
        parameters: Mapping[str, list[nn.Parameter]],
        optimizers: Mapping[str, AcceleratedOptimizer],
        folder: RunFolder,
        stage: int,
    ):
        self.parameters, self.folder, self.stage = parameters, folder, stage
        groups = {name: optimizer.param_groups[0] for name, optimizer in optimizers.items()}
        self.rates = {name: float(group.get("initial_lr", group["lr"])) for name, group in groups.items()}

    def check_losses(self, values: dict[str, float], step: int, count: int, has_scaler: bool = False):
        """Checks the means of all logged values over the last `count` steps before `step`.

        Args:
            has_scaler: skips gradient norms, which may be infinite under fp16: its scaler then skips the step.

        Raises:
            NotFinite: a value is not finite.
        """
        losses = {name: value for name, value in values.items() if not (has_scaler and "grad_norm" in name)}
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if not bad:
            return
        trained = bad[0].rpartition("/")[0] or next(iter(self.parameters))
        where = f"at step {step}" if count == 1 else f"in the steps {step - count + 1} to {step}"
        shown = ", ".join(f"{name} = {value}" for name, value in values.items())
        raise NotFinite(f"The loss of {trained} is not finite {where} ({shown}). {self._advice()}")

    def check_weights(self, step: int):
        """Checks the weights of all phases after `step`: a finite loss may have a gradient that is not.

        Raises:
            NotFinite: a weight is not finite.
        """
        for name, trained in self.parameters.items():
            if not torch.stack(torch._foreach_norm([*trained])).isfinite().all():
                raise NotFinite(f"The weights of {name} are not finite after step {step}. {self._advice()}")

    def _advice(self) -> str:
        """Returns how to go on with lower rates."""
        path, step = self.folder.path, self.folder.newest
        known = "There is no checkpoint" if step is None else f"The checkpoint of step {step} is"
        goes_on = "starts again" if step is None else "goes on"
        if any("." in name for name in self.rates):  # parts of a component: no option names their optimizers
            change = "with a lower rate in `optimizers` of the recipe"
            return f"{known} from before that; `genhub train --resume {path}` {goes_on} {change}."
        stage = f"stages.{self.stage}." if len(self.folder.recipe.stages) > 1 else ""
        rates = " ".join(f"--{stage}optimizers.{name}.lr {rate / 10:g}" for name, rate in self.rates.items())
        return (
            f"{known} from before that; `genhub train --resume {path} {rates}` {goes_on} with a lower learning rate."
        )
