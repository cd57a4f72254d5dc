"""The state of a run: named parts, saved and loaded by the same lines."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from genhub.objectives.objective import Objective
from genhub.training.distributed import all_reduce
from genhub.utils.cache import content_hash
from genhub.utils.ranges import shown


class State(dict):
    """Named parts, each with `state_dict` and `load_state_dict`, among them other states."""

    def state_dict(self) -> dict:
        return {name: part.state_dict() for name, part in self.items()}

    def load_state_dict(self, state: dict):
        for name, part in self.items():
            if name not in state:
                raise ValueError(f"The checkpoint has no {name}: another recipe or an older genhub wrote it.")
            part.load_state_dict(state[name])


@dataclass
class Progress:
    """How far training is: the step 0..`steps` of a stage, totals over all stages, the steps of each device, the share
    of time that was done before each step of training by time, and the values that a resumed run changed."""

    stage: int = 0
    step: int = 0
    total_steps: int = 0
    images: int = 0
    seconds: float = 0.0
    steps_on: dict[str, int] = field(default_factory=dict)  # by device name
    shares: list[float] = field(default_factory=list)
    changeable: dict[str, Any] = field(default_factory=dict)  # values of the stage by dotted key, as of the last step
    changes: list[dict] = field(default_factory=list)

    def change(self, values: dict[str, Any]) -> list[dict]:
        """Takes the values of a run that goes on; returns those that differ, which are recorded with the step."""
        before, self.changeable = self.changeable, values
        new = [
            {"step": self.total_steps, "key": key, "from": before.get(key), "to": values.get(key)}
            for key in sorted(before.keys() | values.keys())
            if before and before.get(key) != values.get(key)
        ]
        self.changes = self.changes + new
        return new

    def advance(self, images: int, device: str):
        """Counts one step on a batch of `images`."""
        self.step += 1
        self.total_steps += 1
        self.images += images
        self.steps_on[device] = self.steps_on.get(device, 0) + 1

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict):
        for name, default in asdict(Progress()).items():
            kinds = (int, float) if isinstance(default, float) else type(default)
            value = state.get(name, default)  # an older genhub had fewer
            if not isinstance(value, kinds) or (isinstance(value, int | float) and not 0 <= value < math.inf):
                raise ValueError(f"the progress of a run cannot have {name} {shown(value)}")
        vars(self).update(state)


class FrozenState:
    """A component that training leaves alone: its content stays out of the checkpoint, which holds a hash of it.

    Args:
        part: a module, or a tokenizer.
    """

    def __init__(self, name: str, part: Any):
        if isinstance(part, nn.Module):
            content = [each for item in part.state_dict().items() for each in item]
        else:
            content = [repr(sorted(part.get_vocab().items()))]
        self.name, self.hash = name, content_hash(*content)

    def state_dict(self) -> dict:
        return {"hash": self.hash}

    def load_state_dict(self, state: dict):
        if state != self.state_dict():
            raise ValueError(f"The frozen component {self.name} is another one than in the run that is resumed.")


class ObjectiveState:
    """What an objective remembers between steps. Of tensors indexed by sample each process owns its rows: they are
    gathered when saved, and the others cleared when loaded.

    Args:
        micro_batch_size: images of a process at a time, of a batch of `batch_size`.
    """

    def __init__(self, objective: Objective, accelerator: Accelerator, batch_size: int, micro_batch_size: int):
        self.objective, self.accelerator = objective, accelerator
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size

    def state_dict(self) -> dict:
        state = self.objective.state_dict()
        if self.accelerator.num_processes > 1:
            for name in self.objective.per_sample:  # in the same order on all processes
                if name in state:
                    state[name] = all_reduce(state[name], self.accelerator, "sum")
        return state

    def load_state_dict(self, state: dict):
        rank = torch.arange(self.batch_size) // self.micro_batch_size % self.accelerator.num_processes
        own = rank == self.accelerator.process_index  # (B,)
        rows = {
            name: state[name] * own.view(-1, *[1] * (state[name].ndim - 1))
            for name in self.objective.per_sample
            if name in state
        }
        self.objective.load_state_dict(state | rows)


def training_state(progress: Progress, **parts: dict[str, Any] | Any) -> State:
    """Returns the state of a run; a dict of parts becomes a state of its own, None is left out."""
    named = {name: State(part) if isinstance(part, dict) else part for name, part in parts.items()}
    return State(progress=progress, **{name: part for name, part in named.items() if part is not None})
