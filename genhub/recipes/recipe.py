"""A recipe: one experiment as YAML. Class paths and constructor arguments, checked before any work starts.

Sections:

- `name`
- `data` (`DataConfig`)
- `components`: the parts of the pipeline by name. An entry is a class and its arguments, with optional `weights`: the
  saved component whose tensors it starts from; with `ignore_mismatched_sizes: true` those of another shape start anew.
  Or it is `from: FOLDER/COMPONENT`, a saved component with its own class and config. `frozen: true` keeps either from
  being trained.
- `objective`: a class and its arguments
- `optimizers`: component -> class and arguments, with an optional `schedule`
- `pipeline`: a class and its arguments. `call` holds those of its calls that name none, for a class whose config has
  no place for them.
- `training` (`TrainingConfig`) and `evaluation` (`EvaluationConfig`)
- `stages`: for training in several stages, a list whose entries override `objective`, `optimizers` and `training`
- `reported`: metrics of the source that the experiment reproduces, by genhub's names

A constructor's parameter that bears the name of a component receives that component. `in_channels`, `out_channels`,
`sample_size`, `num_classes`, `id2label`, `data_mean` and `data_std` come from the data where a recipe leaves them
out, and `num_training_steps`, `total_steps` and `T_max` of a learning-rate schedule from the length of its stage.
With `data.captions` a component `tokenizer` is learnt from the captions, if there is none, and text encoders are given
its numbers.
`num_class_embeds: auto` is one for each class of the data, and one for the null class of an objective that drops
labels, or none without labels.
"""

import inspect
import re
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline, SchedulerMixin
from torch import nn

from genhub import recipes
from genhub.data import Shape, token_counts
from genhub.recipes.checks import as_mapping, refuse_unknown
from genhub.recipes.comment import changed_comment, told_changes
from genhub.recipes.components import read_components
from genhub.recipes.configs import read_config
from genhub.recipes.find import find_recipe
from genhub.recipes.instantiate import Spec, without
from genhub.recipes.places import with_paths
from genhub.recipes.sections import FROM_DATA, SECTIONS, override
from genhub.recipes.stages import check_stage_overrides, read_stages
from genhub.recipes.yaml import LARGEST, comment_of, read_yaml, write_yaml
from genhub.utils.ranges import shown
from genhub.utils.reading import read_text
from genhub.utils.spelling import did_you_mean

FIXED_ARGUMENTS = ("batch_size", "class_labels", "generator", "latents", "output_type", "return_dict")


class Recipe:
    """A checked recipe.

    Attributes:
        sections: the recipe as plain values; `text` is the same as YAML, below its leading comment.
        names: of all components, in order.
        components: component -> class and arguments, of those that are built.
        pretrained: component -> saved component, of those that are loaded whole.
        weights: component -> saved component whose tensors it starts from.
        frozen: names of the components that are not trained.
        ignore_mismatched_sizes: names of those whose tensors of another shape than the saved ones start anew.
        pipeline: class and arguments of the pipeline.
        stages: of training, at least one.
        overrides: dotted key -> value, as passed to `load`.
        is_published: whether it is one of genhub's own recipes.

    Raises:
        ValueError: a section, key or value that is wrong; the message names it.
    """

    def __init__(
        self,
        sections: dict,
        name: str,
        comment: str = "",
        overrides: dict[str, object] | None = None,
        trust_code: bool = False,
    ):
        self.sections = {"name": name, **sections}
        self.name, self.comment, self.overrides = self.sections["name"], comment, overrides or {}
        self.is_published, self.trust_code = False, trust_code
        self._check_sections()
        self.data = read_config("data", self.sections.get("data"))
        self.training = read_config("training", self.sections.get("training"))
        self.evaluation = read_config("evaluation", self.sections.get("evaluation"))
        self.reported = self.sections.get("reported") or {}
        self.names = tuple(self.sections["components"])
        if self.data.captions is not None and "tokenizer" not in self.names:
            self.names += ("tokenizer",)
        components = read_components(self.sections["components"], trust_code)
        self.components, self.pretrained, self.weights, self.frozen, self.ignore_mismatched_sizes = components
        self._read_pipeline()
        self.stages = read_stages(self.sections, self.names, trust_code)
        for name, spec in self.components.items():
            spec.require(FROM_DATA if self._meets_data(name) else ())
        self._check_names()

    def build_components(
        self, shape: Shape, latent_shape: Shape | None = None, loaded: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Builds the parts of the pipeline; what the recipe leaves to the data is written into `sections`.

        Args:
            shape: of the images.
            latent_shape: of the latents that `data.encode` makes of them; required with it.
            loaded: components that exist already: all of `pretrained`, and the encoder if latents were made with it.

        Returns:
            Every component by name, in the recipe's order.

        Raises:
            ValueError: a class refuses its arguments, or `loaded` or `latent_shape` is incomplete.
        """
        loaded = loaded or {}
        if missing := [name for name in self.names if name not in {*loaded, *self.components}]:
            raise ValueError(f"`loaded` must hold {', '.join(missing)}, which the recipe does not build.")
        others_shape = shape
        if self.data.encode is not None:
            if latent_shape is None:
                raise ValueError(f"`latent_shape` must be set: `data.encode` is {self.data.encode}.")
            others_shape = latent_shape
        components = {}
        for name in self.names:
            met_shape = shape if name == self.data.encode else others_shape
            if name in loaded:
                components[name] = loaded[name]
            else:
                components[name] = self.build_component(name, met_shape, loaded.get("tokenizer"))
        known = {
            getattr(getattr(component, "config", None), key, None)
            for component in components.values()
            for key in ("num_class_embeds", "num_classes")
        } - {None}
        if known and shape.num_classes:
            found: dict[str, Any] = {"num_classes": shape.num_classes}
            if shape.class_names is not None and known & {shape.num_classes, shape.num_classes + 1}:
                found["id2label"] = {str(number): name for number, name in enumerate(shape.class_names)}
            for key in filter(self.pipeline.lacks, found):
                self.pipeline.arguments[key] = self.sections["pipeline"][key] = found[key]
        return components

    def build_component(self, name: str, shape: Shape, tokenizer: Any = None) -> nn.Module | SchedulerMixin:
        """Builds one component for data of `shape`, the images or latents that it meets, and for the `tokenizer`."""
        spec = self.components[name]
        filled: dict[str, Any] = {}
        if self._meets_data(name):
            size = shape.height if shape.height == shape.width else (shape.height, shape.width)
            values = (shape.channels, shape.channels, size, shape.num_classes, shape.mean, shape.std)
            found = {key: value for key, value in zip(FROM_DATA, values, strict=True) if value is not None}
            filled = {key: value for key, value in found.items() if spec.lacks(key)}
            if tokenizer is not None:
                filled |= {key: value for key, value in token_counts(tokenizer).items() if spec.lacks(key)}
        if "num_class_embeds" in spec.automatic:  # none without labels
            has_null_class = any("label_dropout" in stage.objective.parameters for stage in self.stages)
            filled["num_class_embeds"] = shape.num_classes + has_null_class if shape.num_classes else None
        component = spec.build(**filled)
        for key, value in filled.items():
            self.sections["components"][name][key] = list(value) if isinstance(value, tuple) else value
        return component

    def build_pipeline(self, components: dict[str, Any]) -> DiffusionPipeline:
        """Builds the pipeline of `components`; optional parts that are not among them are None."""
        pipeline = self.pipeline.build(**dict.fromkeys(self.pipeline.missing()) | components)
        pipeline.default_arguments = self.sections["pipeline"].get("call") or {}
        return pipeline

    @property
    def text(self) -> str:
        """The recipe as YAML, as it is run on this machine."""
        return self.comment + write_yaml(self.sections)

    def _meets_data(self, name: str) -> bool:
        """Whether images or latents reach a component: the objective has it, or it is the encoder."""
        return name == self.data.encode or any(name in stage.objective.given for stage in self.stages)

    def _check_sections(self):
        sections = self.sections
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.name):
            raise ValueError(f"`name` must be letters, digits, '.', '_' and '-', got {shown(self.name)}.")
        refuse_unknown("section", sections, SECTIONS)
        if missing := {"components", "objective", "optimizers", "pipeline"} - set(sections):
            raise ValueError(f"The recipe {self.name} must have the section(s) {', '.join(sorted(missing))}.")
        as_mapping("components", sections["components"])
        as_mapping("optimizers", sections["optimizers"])
        if not isinstance(sections.get("stages"), list | None):
            raise ValueError(f"`stages` must be a list, got {shown(sections['stages'])}.")
        for metric, value in as_mapping("reported", sections.get("reported") or {}).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"`reported.{metric}` must be a number, got {shown(value)}.")

    def _read_pipeline(self):
        entry = without(self.sections["pipeline"], "call")
        self.pipeline = Spec("pipeline", entry, (DiffusionPipeline,), self.names, self.trust_code)
        optional = tuple(self.pipeline.cls._optional_components)  # required parameters that may be None
        if missing := self.pipeline.missing(optional):
            raise ValueError(f"`components` must hold {', '.join(missing)}: {self.pipeline.path} is made of it.")
        known = inspect.signature(self.pipeline.cls.__call__).parameters.keys() - {"self", *FIXED_ARGUMENTS}
        refuse_unknown("evaluation.arguments", self.evaluation.arguments, known)
        call = as_mapping("pipeline.call", self.sections["pipeline"].get("call") or {})
        refuse_unknown("pipeline.call", call, known)

    def _check_names(self):
        """Checks the components that other sections name."""
        refuse_unknown("training.ema", self.training.ema, self.names)
        encode = self.data.encode
        if encode is None and self.data.standardise:
            raise ValueError("`data.standardise` must be left out without `data.encode`.")
        if encode is not None and encode not in self.names:
            raise ValueError(
                f"`data.encode` must be a component, got {shown(encode)}{did_you_mean(encode, self.names)}."
            )
        if encode in self.components and not issubclass(self.components[encode].cls, nn.Module):
            raise ValueError(f"`data.encode` must be a model, got {shown(encode)}.")
        for name in (name for stage in self.stages for name in stage.optimizers):
            if name.partition(".")[0] in self.frozen:
                raise ValueError(f"`optimizers.{name}` must be left out: the component is frozen.")


def load(source: str | Path, overrides: dict[str, object] | None = None, trust_code: bool = False) -> Recipe:
    """Loads a recipe by the name of a published one, or from a YAML file or a folder that holds `recipe.yaml`.

    Args:
        overrides: dotted key -> value, e.g. `{"training.max_steps": 100}`.
        trust_code: whether the recipe may name classes of any importable module, whose code then runs. The caller
            must pass False for a recipe that was downloaded, and for `recipe.yaml` of a saved repository.

    Raises:
        ValueError: no such recipe, a key that does not exist, a value of another type or out of range, or a class
            that needs `trust_code`.
    """
    path = find_recipe(str(source))
    text = read_text(path, LARGEST)
    sections = with_paths(as_mapping(str(path), read_yaml(text, path)), path)
    for key, value in (overrides or {}).items():
        override(sections, key, value)
    name = path.stem if path.name != "recipe.yaml" else path.resolve().parent.name
    comment = comment_of(text)
    if changed := told_changes(overrides or {}):
        comment = changed_comment(name, comment, changed)
    recipe = Recipe(sections, name, comment, overrides, trust_code)
    if changed:
        recipe.reported = {}
        recipe.sections.pop("reported", None)
    check_stage_overrides(overrides or {}, sections)
    recipe.is_published = path.parent == recipes.FOLDER
    return recipe
