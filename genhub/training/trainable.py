"""The modules and parameters that a phase trains."""

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from genhub.objectives.objective import Objective, Phase


def trainable_module(trains: str, objective: Objective) -> nn.Module:
    """Returns a module of the objective, or a submodule by its dotted name; unwrapped.

    Raises:
        ValueError: the objective has no such module.
    """
    root, _, path = trains.partition(".")
    try:
        module = objective.modules[root]
        module = module.module if isinstance(module, DistributedDataParallel) else module
        return module.get_submodule(path)
    except (KeyError, AttributeError) as error:
        raise ValueError(
            f"A phase of {type(objective).__name__} trains {trains!r}, which is not one of its modules."
        ) from error


def trainable_parameters(phase: Phase, objective: Objective) -> list[nn.Parameter]:
    """Returns the parameters that a phase trains: all of its module, or those of `submodules`."""
    module = trainable_module(phase.trains, objective)
    if not phase.submodules:
        return [*module.parameters()]
    parameters = []
    for name in phase.submodules:
        parent, _, last = name.rpartition(".")
        part = getattr(module.get_submodule(parent), last)
        parameters += [part] if isinstance(part, nn.Parameter) else part.parameters()
    return parameters
