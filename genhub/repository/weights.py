"""The config and the weights of a component, checked against each other before anything of their size is made."""

import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_type_hints

import torch
from diffusers import ModelMixin, SchedulerMixin
from pydantic import TypeAdapter, ValidationError
from torch import nn

from genhub.repository.format import WEIGHTS, RepositoryError, read_json
from genhub.repository.index import MOST_STEPS, check_numbers
from genhub.utils.modules import at_most
from genhub.utils.ranges import shown
from genhub.utils.reading import FileError, Stored, one_line, stored_tensors
from genhub.utils.schedulers import check_timesteps

FLOATS = ("F64", "F32", "F16", "BF16")
OTHERS = {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL", torch.complex64: "C64"}
MOST_NUMBER = 10**7  # that a config may hold, whatever the size of the weights: a base of angles, a length of texts
SPARE_TENSORS, SPARE_ELEMENTS = 2000, 2**27  # of buffers, which are in no file
LARGEST_TOKENIZER = 2**26  # bytes
ELSEWHERE = (
    *("quantization_config", "use_pretrained_backbone", "use_timm_backbone"),
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation"),
)
OWN_CODE = (None, "eager", "sdpa", "flex_attention", "batched_mm", "grouped_mm")  # others come from the Hub, and run


def check_component(component: Any, folder: Path) -> None:
    """Checks a component's folder against its installed class.

    Raises:
        RepositoryError: the config or the weights are missing, damaged, pickled, or do not fit the class.
    """
    if issubclass(component, SchedulerMixin):
        path = folder / component.config_name
        config = read_json(path)
        check_numbers(config, path, MOST_STEPS)
        build(component, config, path)
    elif issubclass(component, ModelMixin):
        check_model(component, folder, "diffusion_pytorch_model")
    elif issubclass(component, nn.Module):
        check_model(component, folder, "model")
    else:
        for path in folder.glob("*.json"):
            read_json(path, LARGEST_TOKENIZER)


def check_model(component: Any, folder: Path, stem: str) -> None:
    """Checks that a model's folder holds safetensors, and that config and tensors fit the installed class.

    Args:
        stem: of the names of weight files.

    Raises:
        RepositoryError: they do not.
    """
    path = folder / "config.json"
    config, sets = read_json(path), stored_sets(folder, stem)
    if not sets:
        wanted = WEIGHTS if stem in WEIGHTS else f"{stem}.safetensors"
        raise RepositoryError(f"{folder} holds no {wanted}; genhub loads no pickled weights.")
    if issubclass(component, ModelMixin):
        check_keys(component, config, path)
    check_own(config, path)
    for source, stored in sets.items():
        elements = sum(torch.Size(tensor.shape).numel() for tensor in stored.values())
        check_numbers(config, path, max(elements, MOST_NUMBER))
        with torch.device("meta"), at_most(8 * len(stored) + SPARE_TENSORS, 4 * elements + SPARE_ELEMENTS):
            expected = build(component, config, path).state_dict()
        if not issubclass(component, ModelMixin) and expected.keys() != stored.keys():
            shared = expected.keys() & check_names(component, folder, source, stored)
            expected, stored = ({key: part[key] for key in shared} for part in (expected, stored))
        compare(expected, stored, source, component.__name__)


def check_own(config: Any, path: Path) -> None:
    """Refuses a config that names code or weights from elsewhere, at whatever depth."""
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        allowed = OWN_CODE if "implementation" in str(key) else (None, False)
        if key in ELSEWHERE and not any(value is known or value == known for known in allowed):
            raise RepositoryError(f"{path}: `{key}` must be unset: it names code or weights from elsewhere.")
        if key == "model_type" and str(value).startswith("timm"):  # fetches an architecture by its name on the Hub
            raise RepositoryError(f"{path}: `model_type` must be a model of transformers, got {shown(value)}.")
        if isinstance(value, dict | list):
            check_own(value, path)


def check_names(component: Any, folder: Path, source: Path, stored: Iterable[str]) -> set[str]:
    """Returns the names of stored tensors, of which transformers renames and ties some while it loads a model.

    Raises:
        RepositoryError: the model lacks a tensor or has one too many when it is loaded.
    """
    try:
        variant = ".".join(variant_of(source)) or None
        options = {"variant": variant, "use_safetensors": True, "output_loading_info": True}
        _, found = component.from_pretrained(folder, **options)
    except Exception as error:  # the library's own, of many kinds
        raise RepositoryError(f"{source} does not fit its config: {one_line(error)}") from error
    for kind in ("missing", "unexpected", "mismatched"):
        for key in sorted(map(str, found[f"{kind}_keys"])):
            raise RepositoryError(f"{source} does not fit its config: {key} is {kind}.")
    return {*stored}


def check_keys(component: Any, config: dict[str, Any], path: Path) -> None:
    """Refuses a config with keys that the installed class does not know, or of genhub's classes, with values of other
    types."""
    known = set(inspect.signature(component.__init__).parameters)
    unknown = sorted(key for key in config if not key.startswith("_") and key not in known and key != "auto_map")
    if unknown:
        raise RepositoryError(
            f"{path} sets {', '.join(unknown)}, which {component.__name__} as installed does not know; a newer "
            f"version wrote it (diffusers {config.get('_diffusers_version')})."
        )
    if component.__module__.partition(".")[0] != "genhub":  # of others, annotations are no promise
        return
    hints = get_type_hints(component.__init__)
    for key in config.keys() & hints.keys():
        try:
            TypeAdapter(hints[key]).validate_json(json.dumps(config[key]), strict=True)
        except ValidationError as error:
            raise RepositoryError(f"{path}: `{key}` must be {hints[key]}, got {shown(config[key])}.") from error


def build(component: Any, config: dict[str, Any], path: Path) -> Any:
    """Makes a model or scheduler of its config.

    Raises:
        RepositoryError: its class refuses the config, in whatever way.
    """
    try:
        check_timesteps("config", config)
        if hasattr(component, "config_class"):  # of transformers
            return component(component.config_class.from_dict(config))
        return component.from_config(config)
    except Exception as error:  # a constructor meets values that it was not written for
        raise RepositoryError(f"{path} does not fit {component.__name__}: {one_line(error)}") from error


def compare(expected: dict[str, torch.Tensor], stored: dict[str, Stored], source: Path, name: str) -> None:
    """Refuses stored tensors that are not the expected ones: by name, shape, or kind of number."""
    for key in sorted(expected.keys() | stored.keys()):
        tensor, found = expected.get(key), stored.get(key)
        shape = "missing" if tensor is None else tuple(tensor.shape)
        if tensor is None or found is None or shape != found.shape:
            in_file = "missing" if found is None else found.shape
            raise RepositoryError(
                f"{source} does not fit its config: {key} is {in_file} in the file and {shape} in {name}."
            )
        kinds = FLOATS if tensor.is_floating_point() else (OTHERS.get(tensor.dtype),)
        if found.dtype not in kinds:
            raise RepositoryError(
                f"{source}: {key} must be of type {' or '.join(map(str, kinds))}, got {found.dtype}."
            )


def stored_sets(folder: Path, stem: str) -> dict[Path, dict[str, Stored]]:
    """Returns the tensors of each set of weights in a folder, by the file that holds or lists them.

    There is one set for each variant, such as `fp16`: a file, or an index of several files.

    Raises:
        RepositoryError: a file is damaged, or of an index missing; or two sets are of one variant.
    """
    sets, variants = {}, {}
    for path in sorted(folder.glob(f"{stem}.*")):
        if "safetensors" not in path.name.split(".") or re.search(r"-\d{5}-of-\d{5}", path.name):
            continue
        variant, is_index = variant_of(path), path.suffix == ".json"
        if variant in variants:
            raise RepositoryError(f"{folder} must hold one set of weights, got {variants[variant]} and {path.name}.")
        variants[variant] = path.name
        sets[path] = listed_tensors(path, stem) if is_index else tensors_of(path)
    return sets


def variant_of(path: Path) -> tuple[str, ...]:
    """Returns what the name of a file of weights says beside that it is one: ("fp16",), or nothing."""
    return tuple(word for word in path.name.split(".")[1:] if word not in ("safetensors", "index", "json"))


def listed_tensors(index: Path, stem: str) -> dict[str, Stored]:
    """Returns the tensors that an index of several files lists, each in the file that it names."""
    listed, stored = read_json(index).get("weight_map"), {}
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise RepositoryError(f"{index}: `weight_map` must map names of tensors to files.")
    for name in sorted(set(listed.values())):
        if not re.fullmatch(rf"{stem}[\w.-]*\.safetensors", name) or not (index.parent / name).is_file():
            raise RepositoryError(f"{index} must list safetensors files beside it, got {name!r}.")
        found = tensors_of(index.parent / name)
        if found.keys() != {key for key, file in listed.items() if file == name}:
            raise RepositoryError(f"{index} lists other tensors than {name} holds.")
        stored |= found
    return stored


def tensors_of(path: Path) -> dict[str, Stored]:
    """Returns type and shape of each tensor of a safetensors file."""
    try:
        return stored_tensors(path)
    except FileError as error:
        raise RepositoryError(str(error)) from error


def check_numbers_of(module: nn.Module, source: object) -> None:
    """Refuses a loaded network that has a tensor without a value, or a value that is no finite number.

    Raises:
        RepositoryError: it has.
    """
    for name, tensor in module.state_dict().items():
        if tensor.device.type == "meta":
            raise RepositoryError(f"{source} lacks the tensor {name}.")
        is_finite = not tensor.is_floating_point() or tensor.sum().isfinite()  # one pass; a sum can overflow, too
        if not is_finite and not tensor.isfinite().all():
            raise RepositoryError(f"{source}: the tensor {name} holds NaN or infinite values.")
