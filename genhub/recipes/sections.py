"""A recipe's sections as plain dicts: merged, overridden, compared."""

import copy
import dataclasses
import json
import re
from collections.abc import Mapping

from genhub.data import TOKENIZER_KEYS
from genhub.recipes.checks import refuse_unknown
from genhub.recipes.configs import CONFIGS

SECTIONS = (
    "name",
    "data",
    "components",
    "objective",
    "optimizers",
    "pipeline",
    "training",
    "evaluation",
    "stages",
    "reported",
)
FROM_DATA = ("in_channels", "out_channels", "sample_size", "num_classes", "data_mean", "data_std")
CHANGEABLE_ON_RESUME = (  # keys of `training`
    "epochs",
    "max_steps",
    "max_minutes",
    "log_every",
    "validate_every",
    "sample_every",
    "checkpoint_every",
    "keep_checkpoints",
    "num_samples",
    "trackers",
    "compile",
)


RECORDED_ON_RESUME = re.compile(
    r"((stages\.\d+\.)?optimizers\..*(?<!\.class)|(stages\.\d+\.)?training\.max_grad_norm)$"
)


def merge(base: dict, changes: dict) -> dict:
    """Returns a copy of `base` with `changes` applied level by level; another `class` replaces the whole entry."""
    if "class" in changes and changes["class"] != base.get("class"):
        return copy.deepcopy(changes)
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def as_overrides(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Returns nested values by their dotted keys; a mapping with a `class` is one value."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value and "class" not in value:
            flat |= as_overrides(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def override(sections: dict, dotted: str, value: object):
    """Sets one value in place, by its dotted key, to a copy of `value`; a number is an index of a list.

    Raises:
        ValueError: there is no such section, component, optimizer, config field or list entry, or the key leads
            through a value.
    """
    *parents, last = keys = dotted.split(".")
    refuse_unknown("section", keys[:1], SECTIONS)
    if len(keys) == 2 and keys[0] in CONFIGS:
        refuse_unknown(keys[0], [last], [field.name for field in dataclasses.fields(CONFIGS[keys[0]])])
    node = sections
    for depth, key in enumerate(parents):
        if depth == 1 and keys[0] in ("components", "optimizers"):
            refuse_unknown(keys[0], [key], node)
        node = _entry(node, keys[:depth], key) if isinstance(node, list) else node.setdefault(key, {})
        if not isinstance(node, dict | list):
            raise ValueError(f"`{'.'.join(keys[: depth + 1])}` is a value, so `{dotted}` does not exist.")
    if isinstance(node, list):
        _entry(node, parents, last)
        node[int(last)] = copy.deepcopy(value)
    else:
        node[last] = copy.deepcopy(value)


def resume_conflicts(saved: dict, current: dict, recorded: bool = False) -> list[str]:
    """Returns the dotted keys in which two recipes differ though a resumed run may not change them.

    Args:
        recorded: whether the run records the step at which the arguments of its optimizers change, so that they may.
    """
    before, after = _flatten(saved), _flatten(current)
    changeable = {f"training.{name}" for name in CHANGEABLE_ON_RESUME}
    return [
        key
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
        and not _is_automatic(key, before.get(key), after.get(key))
        and key not in changeable
        and key.partition(".")[0] not in ("evaluation", "reported")
        and not (recorded and RECORDED_ON_RESUME.match(key))
    ]


def _is_automatic(key: str, *values: str | None) -> bool:
    """Returns whether a recipe may leave a value to the data."""
    is_filled = not {*FROM_DATA, *TOKENIZER_KEYS, "id2label"}.isdisjoint(key.split("."))
    return is_filled or (key.endswith(".num_class_embeds") and '"auto"' in values)


def _entry(entries: list, parents: list[str], index: str) -> object:
    """Returns an entry of a list, by its index as a word."""
    if not index.isdigit() or int(index) >= len(entries):
        raise ValueError(f"`{'.'.join(parents)}` has entries 0..{len(entries) - 1}, got {index!r}.")
    return entries[int(index)]


def _flatten(sections: dict, prefix: str = "") -> dict[str, str]:
    """Returns the values, as JSON, by their dotted keys; an entry of a list of mappings has its index in its key."""
    flat = {}
    for key, value in sections.items():
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            value = {str(index): entry for index, entry in enumerate(value)}
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value)
    return flat
