"""The components of a recipe: those that are built, and those that are loaded whole."""

import importlib
import re
from importlib.util import find_spec
from typing import NamedTuple

from diffusers import ModelMixin, SchedulerMixin
from torch import nn

from genhub.recipes.checks import refuse_unknown
from genhub.recipes.instantiate import Spec, without
from genhub.utils.ranges import shown

NAME = re.compile(r"[A-Za-z]\w{0,99}")  # as in model_index.json, and a parameter of a class
NO_ARGUMENTS = ("weights", "frozen", "ignore_mismatched_sizes")  # keys of an entry that its class does not take


class Components(NamedTuple):
    """The section `components`, by name."""

    built: dict[str, Spec]
    pretrained: dict[str, str]  # -> the saved component that is loaded whole
    weights: dict[str, str]  # -> the saved component whose tensors a built one starts from
    frozen: set[str]
    ignore_mismatched_sizes: set[str]  # those whose tensors of another shape than the saved ones start anew


def read_components(entries: dict, trust_code: bool = False) -> Components:
    """Reads `components`: each entry names a `class`, or with `from` a saved component.

    Raises:
        ValueError: a key or value that is wrong.
    """
    components = Components({}, {}, {}, set(), set())
    for name, entry in entries.items():
        if not isinstance(name, str) or not NAME.fullmatch(name) or name == "self":
            raise ValueError(f"`components` must have names of letters, digits and '_', got {shown(name)}.")
        section = f"components.{name}"
        if isinstance(entry, dict) and "from" in entry:
            refuse_unknown(section, entry, ("from", "frozen"))
            components.pretrained[name] = _saved_component(f"{section}.from", entry["from"])
        else:
            kinds = _kinds(entry)
            components.built[name] = Spec(section, without(entry, *NO_ARGUMENTS), kinds, trust_code=trust_code)
        if entry.get("weights") is not None:
            components.weights[name] = _saved_component(f"{section}.weights", entry["weights"])
            if not issubclass(components.built[name].cls, nn.Module):
                raise ValueError(f"`{section}.weights` must be left out: {entry['class']} has none.")
        for flag, flagged in (
            ("frozen", components.frozen),
            ("ignore_mismatched_sizes", components.ignore_mismatched_sizes),
        ):
            if not isinstance(entry.get(flag, False), bool):
                raise ValueError(f"`{section}.{flag}` must be true or false, got {shown(entry[flag])}.")
            if entry.get(flag):
                flagged.add(name)
    return components


def _saved_component(section: str, value: object) -> str:
    if not isinstance(value, str) or "/" not in value.strip("/"):
        raise ValueError(f"`{section}` must be FOLDER/COMPONENT or USER/REPOSITORY/COMPONENT, got {shown(value)}.")
    return value


def _kinds(entry: object) -> tuple[type, ...]:
    """Returns what a component may be; transformers takes seconds to import, so only its own models need it."""
    dotted = entry.get("class") if isinstance(entry, dict) else None
    if isinstance(dotted, str) and dotted.startswith("transformers.") and find_spec("transformers"):
        return (ModelMixin, SchedulerMixin, importlib.import_module("transformers").PreTrainedModel)
    return (ModelMixin, SchedulerMixin)
