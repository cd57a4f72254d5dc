"""The exponential moving average of a module's weights."""

from typing import Any

import torch
from torch import nn
from torch.func import functional_call


class MovingAverage:
    """Averages a module's parameters and floating-point buffers over steps: average += (1 - decay) (value - average).

    The decay rises as (1 + n) / (10 + n) in step n, so that early steps do not weigh on later ones. Buffers that the
    module names in `not_averaged` are copied. Called like the module, it computes with the averaged weights.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay, self.steps = module, decay, 0
        copied = getattr(module, "not_averaged", ())
        self.copied = {name: buffer.detach().clone() for name, buffer in module.named_buffers() if name in copied}
        self.averaged = {
            name: tensor.detach().clone()
            for name, tensor in [*module.named_parameters(), *module.named_buffers()]
            if tensor.is_floating_point() and name not in self.copied
        }

    @torch.no_grad()
    def update(self):
        """Moves the average towards the module's present weights."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        self.steps += 1
        present = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        averaged, values = [*self.averaged.values()], [present[name].detach() for name in self.averaged]
        torch._foreach_sub_(averaged, torch._foreach_sub(averaged, values), alpha=1 - decay)
        for name, copy in self.copied.items():
            copy.copy_(present[name])

    @torch.no_grad()
    def swap(self):
        """Exchanges the module's weights and the average."""
        present = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        for name, average in (self.averaged | self.copied).items():
            value = present[name].detach().clone()
            present[name].copy_(average)
            average.copy_(value)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        own = self.averaged | self.copied
        buffers = {name: own.get(name, buffer).clone() for name, buffer in self.module.named_buffers()}
        return functional_call(self.module, own | buffers, inputs, named)  # a call must not move statistics

    def state_dict(self) -> dict:
        return {"steps": self.steps, "averaged": self.averaged, "copied": self.copied}

    def load_state_dict(self, state: dict):
        if "averaged" not in state:
            raise ValueError("The moving averages of the checkpoint were written by an older genhub.")
        self.steps = state["steps"]
        for own, saved in ((self.averaged, state["averaged"]), (self.copied, state["copied"])):
            for name, tensor in own.items():
                tensor.copy_(saved[name])
