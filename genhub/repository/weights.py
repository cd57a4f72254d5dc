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

from genhub.repository.format import PARTS, WEIGHTS, RepositoryError, read_json, repository_errors
from genhub.repository.index import check_integers
from genhub.repository.stored import stored_sets, variant_of
from genhub.utils.modules import at_most
from genhub.utils.ranges import MOST_STEPS, shown
from genhub.utils.reading import Stored, one_line, parse_object, read_text
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
        check_integers(config, path, MOST_STEPS)
        build(component, config, path)
    elif issubclass(component, ModelMixin):
        check_model(component, folder, "diffusion_pytorch_model")
    elif issubclass(component, nn.Module):
        check_model(component, folder, "model")
    else:
        for path in (path for path in folder.glob("*.json") if PARTS.fullmatch(path.name)):
            check_vocabulary(path)


def check_vocabulary(path: Path) -> None:
    """Checks that a file of a tokenizer is a JSON object; vocabularies have a million entries and more.

    Raises:
        RepositoryError: it is none, or too large.
    """
    with repository_errors():
        parse_object(read_text(path, LARGEST_TOKENIZER), path)


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
        check_integers(config, path, max(elements, MOST_NUMBER))
        with torch.device("meta"), at_most(8 * len(stored) + SPARE_TENSORS, 4 * elements + SPARE_ELEMENTS):
            model = build(component, config, path)
        expected = model.state_dict()
        if issubclass(component, ModelMixin):
            stored = renamed(model, stored, is_whole=source.suffix != ".json")
        elif expected.keys() != stored.keys():
            shared = expected.keys() & check_names(component, folder, source, stored)
            expected, stored = ({key: part[key] for key in shared} for part in (expected, stored))
        compare(expected, stored, source, component.__name__)


def renamed(model: ModelMixin, stored: dict[str, Stored], is_whole: bool) -> dict[str, Stored]:
    """Returns stored tensors by the names under which diffusers loads them, without those that it leaves out.

    Args:
        is_whole: whether they are in one file; of several, diffusers renames none.
    """
    left_out = model._keys_to_ignore_on_load_unexpected or []
    stored = {key: part for key, part in stored.items() if not any(re.search(pattern, key) for pattern in left_out)}
    if is_whole:
        model._fix_state_dict_keys_on_load(stored)  # pyright: ignore[reportArgumentType]  # of tensors; it moves keys
    return stored


def check_own(config: Any, path: Path) -> None:
    """Refuses a config that names code or weights from elsewhere, at whatever depth."""
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        allowed = OWN_CODE if "implementation" in str(key) else (None, False)
        if key in ELSEWHERE and not any(value is known or value == known for known in allowed):
            raise RepositoryError(f"{path}: `{key}` must be unset: it names code or weights from elsewhere.")
        if key == "model_type" and str(value).startswith("timm"):  # fetches an architecture by its name on the Hub
            raise RepositoryError(f"{path}: `model_type` must be a model of transformers, got {shown(value)}.")
        if key == "eos_token_id" and isinstance(value, list) and "clip" in str(config.get("model_type")):
            raise RepositoryError(f"{path}: `eos_token_id` of CLIP must be a whole number, got {shown(value)}.")
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
        _, found = component.from_pretrained(folder, device_map="meta", **options)  # holds no tensor
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


def check_finite(module: nn.Module, source: object) -> None:
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
