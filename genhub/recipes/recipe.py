"""A recipe: one experiment as YAML. Class paths and constructor arguments, checked before any work starts.

Sections: `name`, `data` (`DataConfig`), `components` (name -> class and arguments: the pipeline's parts; `weights`, if
given, is the saved component that one starts from), `objective`, `optimizers` (component -> class and arguments, with
an optional `schedule`), `pipeline`, `training` (`TrainingConfig`), `evaluation` (`EvaluationConfig`), for training in
several stages `stages`, a list whose entries override `objective`, `optimizers` and `training`, and `reported`:
figures of the source that the experiment repeats, by the names that they have here.

A constructor's parameter that bears the name of a component is given that component. `in_channels`, `out_channels`,
`sample_size` and `num_classes` are filled in from the data where a recipe leaves them out, and so are
`num_training_steps`, `total_steps` and `T_max` of learning-rate schedules.
"""

import copy
import dataclasses
import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

import torch
import yaml
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin

from genhub.data import DataConfig, Shape
from genhub.objectives.objective import Objective
from genhub.recipes.configs import EvaluationConfig, TrainingConfig
from genhub.recipes.instantiate import Spec, as_mapping, check_arguments, nearest, refuse_unknown
from genhub.recipes.yaml import read_yaml, write_yaml

RECIPES = Path(__file__).parent
SECTIONS = (
    *("name", "data", "components", "objective", "optimizers", "pipeline", "training", "evaluation", "stages"),
    "reported",
)
FROM_DATA = ("in_channels", "out_channels", "sample_size", "num_classes")
FROM_LENGTH = ("num_training_steps", "total_steps", "T_max")
STAGE_SECTIONS = ("objective", "optimizers", "training")
PER_STAGE = ("batch_size", "gradient_accumulation", "epochs", "max_steps", "max_grad_norm")
FIXED_ARGUMENTS = ("batch_size", "class_labels", "generator", "latents", "output_type", "return_dict")
CHANGEABLE_ON_RESUME = (
    *("epochs", "max_steps", "max_minutes", "log_every", "validate_every", "sample_every", "checkpoint_every"),
    *("keep_checkpoints", "num_samples", "trackers", "compile"),
)
CONFIGS = {"data": DataConfig, "training": TrainingConfig, "evaluation": EvaluationConfig}  # sections of plain values


@dataclass
class Stage:
    """One stretch of training with an objective and optimizers of its own."""

    objective: Spec
    optimizers: dict[str, tuple[Spec, Spec | None]]  # component -> optimizer and learning-rate schedule
    training: TrainingConfig


class Recipe:
    """A checked recipe. `text` is its YAML as published: comment first, every section, nothing left to a default
    file."""

    def __init__(self, sections: dict, name: str, comment: str = "", overrides: dict[str, object] | None = None):
        name = sections.get("name", name)
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            raise ValueError(f"`name` must be letters, digits, '.', '_' and '-', got {name!r}.")
        self.sections, self.name, self.comment = {"name": name, **sections}, name, comment
        self.overrides, self.is_published = overrides or {}, False
        sections = self.sections
        refuse_unknown("section", sections, SECTIONS)
        missing = {"components", "objective", "optimizers", "pipeline"} - set(sections)
        if missing:
            raise ValueError(f"The recipe {name} must have the section(s) {', '.join(sorted(missing))}.")
        self.data = _config("data", DataConfig, sections.get("data"))
        self.training = _config("training", TrainingConfig, sections.get("training"))
        self.evaluation = _config("evaluation", EvaluationConfig, sections.get("evaluation"))
        entries = as_mapping("components", sections["components"])
        self.components = {
            name: Spec(f"components.{name}", _without("weights", entry), (ModelMixin, SchedulerMixin)).complete(
                FROM_DATA
            )
            for name, entry in entries.items()
        }
        self.weights = {name: entry["weights"] for name, entry in entries.items() if entry.get("weights") is not None}
        for name, weights in self.weights.items():
            if not isinstance(weights, str) or not issubclass(self.components[name].cls, ModelMixin):
                raise ValueError(
                    f"`components.{name}.weights` must be FOLDER/COMPONENT, for a model, got {weights!r}."
                )
        self.reported = as_mapping("reported", sections.get("reported") or {})
        for figure, value in self.reported.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"`reported.{figure}` must be a number, got {value!r}.")
        names = tuple(self.components)
        self.pipeline = Spec("pipeline", sections["pipeline"], DiffusionPipeline, given=names)
        missing = self.pipeline.missing(names)
        if missing:
            raise ValueError(f"`components` must hold {', '.join(missing)}: {self.pipeline.path} is made of it.")
        takes = inspect.signature(self.pipeline.cls.__call__).parameters
        free = [name for name in takes if name not in ("self", *FIXED_ARGUMENTS)]
        refuse_unknown("evaluation.arguments", self.evaluation.arguments, free)
        refuse_unknown("training.ema", self.training.ema, names)
        as_mapping("optimizers", sections["optimizers"])
        if not isinstance(sections.get("stages"), list | None):
            raise ValueError(f"`stages` must be a list, got {sections['stages']!r}.")
        self.stages = [self._stage(number, entry) for number, entry in enumerate(sections.get("stages") or [{}])]

    def _stage(self, number: int, entry: dict) -> Stage:
        section = f"stages.{number}" if self.sections.get("stages") else ""
        refuse_unknown(section, as_mapping(section, entry), STAGE_SECTIONS)
        for part in STAGE_SECTIONS:
            as_mapping(f"{section}.{part}", entry.get(part) or {})
        refuse_unknown(f"{section}.training", entry.get("training") or {}, PER_STAGE)
        merged = {part: merge(self.sections.get(part) or {}, entry.get(part) or {}) for part in STAGE_SECTIONS}
        names = tuple(self.components)
        optimizers = {}
        for name, optimizer in merged["optimizers"].items():
            where = f"optimizers.{name}"
            spec = Spec(where, _without("schedule", optimizer), torch.optim.Optimizer, given=("params",)).complete()
            schedule = optimizer.get("schedule")
            if schedule is not None:
                schedule = Spec(
                    f"{where}.schedule", schedule, _schedule_kind(schedule), given=("optimizer",)
                ).complete(FROM_LENGTH)
            optimizers[name] = (spec, schedule)
        training = _config("training", TrainingConfig, merged["training"])
        return Stage(Spec("objective", merged["objective"], Objective, given=names).complete(), optimizers, training)

    def build_components(self, shape: Shape) -> dict[str, ModelMixin | SchedulerMixin]:
        """Builds the parts of the pipeline for images of `shape`; what the recipe left open is written into it."""
        size = shape.height if shape.height == shape.width else (shape.height, shape.width)
        fitting = {"in_channels": shape.channels, "out_channels": shape.channels, "sample_size": size}
        if shape.num_classes:
            fitting["num_classes"] = shape.num_classes
        components = {}
        for name, spec in self.components.items():
            filled = {key: value for key, value in fitting.items() if spec.lacks(key)}
            components[name] = spec.build(**filled)
            for key, value in filled.items():
                self.sections["components"][name][key] = list(value) if isinstance(value, tuple) else value
        return components

    def build_pipeline(self, components: dict) -> DiffusionPipeline:
        """Builds the pipeline of `components`."""
        return self.pipeline.build(**components)

    @property
    def text(self) -> str:
        """The recipe as YAML."""
        return self.comment + write_yaml(self.sections)


def load_recipe(source: str | Path, overrides: dict[str, object] | None = None) -> Recipe:
    """Loads a recipe by the name of a published one, or from a YAML file or a folder that holds `recipe.yaml`.

    Args:
        overrides: dotted key -> value, e.g. `{"training.max_steps": 100}`.

    Raises:
        ValueError: no such recipe, a key that does not exist, a value of another type or out of range.
    """
    path = find_recipe(str(source))
    text = path.read_text()
    comment = "".join(line + "\n" for line in _leading_comment(text))
    try:
        sections = read_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    sections = _unshared(as_mapping(str(path), sections))
    for key, value in (overrides or {}).items():
        _override(sections, key, value)
    name = path.stem if path.name != "recipe.yaml" else path.resolve().parent.name
    recipe = Recipe(sections, name, comment, overrides)
    for key in overrides or {}:
        part = key.removeprefix("training.")
        own = [part in (stage.get("training") or {}) for stage in sections.get("stages") or []]
        if part != key and own and all(own) and not any(one.split(".")[0] == "stages" for one in overrides):
            raise ValueError(f"`{key}` must be given for each stage, as `stages.0.{key}`: every stage has its own.")
    recipe.is_published = path.parent == RECIPES
    return recipe


def find_recipe(source: str) -> Path:
    """Returns the file of a recipe: its name, a YAML file, or a folder that holds `recipe.yaml`."""
    if (RECIPES / f"{source}.yaml").is_file():
        return RECIPES / f"{source}.yaml"
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        if (path / "recipe.yaml").is_file():
            return path / "recipe.yaml"
        raise ValueError(f"The folder {path} has no recipe.yaml.")
    hint = nearest(source, recipe_names())
    raise ValueError(f"There is no recipe {source!r}{hint}. `genhub recipes` lists them; a YAML file works too.")


def recipe_names() -> list[str]:
    """Returns the names of the published recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def describe(name: str) -> str:
    """Returns the first line of a recipe: what it is."""
    return " ".join(_leading_comment((RECIPES / f"{name}.yaml").read_text())[:1]).lstrip("# ")


def merge(base: dict, over: dict) -> dict:
    """Returns `base` with the entries of `over` in place, level by level; another `class` starts afresh."""
    if "class" in over and over["class"] != base.get("class"):
        return copy.deepcopy(over)
    merged = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def same_experiment(saved: dict, now: dict) -> list[str]:
    """Returns the dotted keys in which two recipes differ and which may not change when a run is resumed."""
    a, b = _flatten(saved), _flatten(now)
    free = {f"training.{name}" for name in CHANGEABLE_ON_RESUME}
    differ = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
    return [key for key in differ if key not in free and key.split(".")[0] not in ("evaluation", "reported")]


def _unshared(value: object) -> object:
    """Returns a copy in which nothing stands in two places, as what YAML's aliases name does."""
    if isinstance(value, dict):
        return {key: _unshared(one) for key, one in value.items()}
    return [_unshared(one) for one in value] if isinstance(value, list) else value


def _flatten(sections: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in sections.items():
        nested = isinstance(value, dict) and value
        flat.update(_flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": json.dumps(value)})
    return flat


def _override(sections: dict, dotted: str, value: object):
    """Sets one value; keys are checked with the recipe."""
    keys = dotted.split(".")
    refuse_unknown("section", keys[:1], SECTIONS)
    place = sections
    for depth, key in enumerate(keys[:-1]):
        if isinstance(place, list):
            if not key.isdigit() or int(key) >= len(place):
                raise ValueError(f"`{'.'.join(keys[:depth])}` has entries 0..{len(place) - 1}, got {key!r}.")
            place = place[int(key)]
            continue
        if depth == 1 and keys[0] in ("components", "optimizers"):
            refuse_unknown(keys[0], [key], place)
        place = place.setdefault(key, {})
        if not isinstance(place, dict | list):
            raise ValueError(f"`{'.'.join(keys[: depth + 1])}` is a value, so `{dotted}` does not exist.")
    if len(keys) == 2 and keys[0] in CONFIGS:
        refuse_unknown(keys[0], keys[1:], [f.name for f in dataclasses.fields(CONFIGS[keys[0]])])
    place[int(keys[-1]) if isinstance(place, list) else keys[-1]] = value


def _config(section: str, cls, entries: dict | None):
    entries = as_mapping(section, entries or {})
    return cls(**check_arguments(section, cls, dict(entries)))


def _without(key: str, entry: object) -> object:
    """Returns an entry of a recipe without what is not an argument of its class."""
    return {name: value for name, value in entry.items() if name != key} if isinstance(entry, dict) else entry


def _schedule_kind(entry: object):
    function = isinstance(entry, dict) and str(entry.get("class", "")).startswith("diffusers.optimization.")
    return FunctionType if function else torch.optim.lr_scheduler.LRScheduler


def _leading_comment(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line)
    return lines
