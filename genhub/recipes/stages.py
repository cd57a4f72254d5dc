"""The stages of a recipe: stretches of training, each with its own objective and optimizers."""

from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from genhub.objectives.objective import Objective
from genhub.recipes.checks import as_mapping, refuse_unknown
from genhub.recipes.configs import TrainingConfig, read_config
from genhub.recipes.instantiate import Spec, without
from genhub.recipes.sections import merge

FROM_LENGTH = ("num_training_steps", "total_steps", "T_max")  # arguments of schedules that the stage's length sets
STAGE_SECTIONS = ("objective", "optimizers", "training")
PER_STAGE = ("batch_size", "gradient_accumulation", "epochs", "max_steps", "max_grad_norm")  # keys of `training`


@dataclass
class Stage:
    """One stretch of training."""

    objective: Spec
    optimizers: dict[str, tuple[Spec, Spec | None]]  # component -> optimizer and learning-rate schedule
    training: TrainingConfig

    def changeable(self) -> dict[str, Any]:
        """Returns what a resumed run may change if that is recorded, by dotted key: arguments of optimizers and
        schedules, and the norm of gradients."""
        specs = [spec for pair in self.optimizers.values() for spec in pair if spec is not None]
        arguments = {f"{spec.section}.{name}": value for spec in specs for name, value in spec.arguments.items()}
        return arguments | {"training.max_grad_norm": self.training.max_grad_norm}


def read_stages(sections: dict, components: tuple[str, ...], trust_code: bool = False) -> list[Stage]:
    """Reads the stages of a recipe, of which there is one where it lists none.

    Args:
        components: their names, which an objective's parameters may bear.

    Raises:
        ValueError: a key or value that is wrong.
    """
    return [
        _stage(sections, f"stages.{number}", entry, components, trust_code)
        for number, entry in enumerate(sections.get("stages") or [{}])
    ]


def _stage(sections: dict, section: str, changes: dict, components: tuple[str, ...], trust_code: bool) -> Stage:
    refuse_unknown(section, as_mapping(section, changes), STAGE_SECTIONS)
    merged = {}
    for part in STAGE_SECTIONS:
        base = as_mapping(part, sections.get(part) or {})
        merged[part] = merge(base, as_mapping(f"{section}.{part}", changes.get(part) or {}))
    refuse_unknown(f"{section}.training", changes.get("training") or {}, PER_STAGE)
    return Stage(
        Spec("objective", merged["objective"], (Objective,), components, trust_code).require(),
        {name: _optimizer(f"optimizers.{name}", entry, trust_code) for name, entry in merged["optimizers"].items()},
        read_config("training", merged["training"]),
    )


def _optimizer(section: str, entry: dict, trust_code: bool) -> tuple[Spec, Spec | None]:
    """Reads an optimizer, and its learning-rate schedule if it has one."""
    optimizer = Spec(section, without(entry, "schedule"), (Optimizer,), ("params",), trust_code).require()
    if entry.get("schedule") is None:
        return optimizer, None
    schedule = Spec(f"{section}.schedule", entry["schedule"], (LRScheduler,), ("optimizer",), trust_code)
    return optimizer, schedule.require(FROM_LENGTH)


def check_stage_overrides(overrides: dict[str, object], sections: dict):
    """Raises ValueError for an override of `training` that every stage overrides again."""
    stages = [stage.get("training") or {} for stage in sections.get("stages") or []]
    if not stages or any(key.split(".")[0] == "stages" for key in overrides):
        return
    for key in overrides:
        section, _, name = key.partition(".")
        if section == "training" and all(name in stage for stage in stages):
            raise ValueError(f"`{key}` must be given for each stage, as `stages.0.{key}`: every stage has its own.")
