"""The files of a repository, as the Hub and diffusers know it.

model_index.json        the pipeline's class and, by name, the class of each component; read by diffusers
<component>/            config and safetensors, or the files of a tokenizer; the source of a class of genhub's
pipeline_*.py           the source of a pipeline class of genhub's
README.md recipe.yaml metrics.json *.png *.gif      documents: the model card, its pictures, and what it was made of

The entry `_genhub` of model_index.json, which diffusers ignores, names the classes that genhub loads, and records the
SHA-256 of each weight file.
"""

import json
import re
from pathlib import Path
from typing import Any

FORMAT = 1  # of `_genhub`; a higher one is refused
SCRATCH, STAGED = ".saving", ".saved"  # folders of a version being written, and of a complete one (see save.py)
WEIGHTS = "diffusion_pytorch_model.safetensors"
DOCUMENTS = ("LICENSE", "README.md", "metrics.json", "recipe.yaml")
AUTO_MAP = re.compile(r' *"auto_map": \{[^}]*\},\n')  # in model_index.json: where the code of the models is
PICTURE = re.compile(r"\]\(([^)/]+\.(?:png|gif))\)")  # a link in the card to a file beside it


class RepositoryError(ValueError):
    """A repository that cannot be found, reached, trusted or understood."""


def repo_files(folder: Path) -> list[str]:
    """Returns the files that belong to a saved repository, relative to its folder.

    A run's other files, caches and hidden files do not.
    """
    index, card = read_json(folder / "model_index.json"), folder / "README.md"
    names = ["model_index.json", *DOCUMENTS, *PICTURE.findall(card.read_text() if card.is_file() else "")]
    if isinstance(index.get("_class_name"), list):  # [file, class]
        names.append(f"{index['_class_name'][0]}.py")
    paths = {folder / name for name in names if (folder / name).is_file()}
    for component in component_entries(index):
        paths |= {path for path in (folder / component).rglob("*") if path.is_file()}
    files = [path.relative_to(folder) for path in paths]
    return sorted(file.as_posix() for file in files if not any(map(is_hidden, file.parts)))


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder is hidden, a cache or half-written."""
    return name.startswith((".", "__")) or name.endswith(".part")


def pipeline_class_name(index: dict[str, Any]) -> str:
    """Returns the name of the pipeline's class."""
    name = index.get("_genhub", {}).get("class_name") or index.get("_class_name")
    return name[1] if isinstance(name, list) and len(name) == 2 else str(name)  # [file, class]


def component_entries(index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Returns (library or file, class) of each component in model_index.json that is not None."""
    return {
        name: (entry[0], entry[1])
        for name, entry in index.items()
        if not name.startswith("_") and isinstance(entry, list) and [type(part) for part in entry] == [str, str]
    }


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file.

    Raises:
        RepositoryError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{path} cannot be read ({error}).") from error


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or the name of its class."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
