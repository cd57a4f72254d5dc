"""The tensors that a component's files of weights say they hold: in one file, or in several that an index lists."""

import re
from pathlib import Path

from genhub.repository.format import RepositoryError, read_json, repository_errors
from genhub.utils.reading import Stored, stored_tensors


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
    with repository_errors():
        return stored_tensors(path)
