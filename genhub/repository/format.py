"""The files of a repository, as the Hub and diffusers know it.

model_index.json        the pipeline's class and, by name, the class of each component; read by diffusers
<component>/            config and safetensors, or the files of a tokenizer; the source of a class of genhub's
pipeline_*.py           the source of a pipeline class of genhub's
onnx/                   the networks for other runtimes, as `genhub export` writes them
README.md recipe.yaml metrics.json *.png *.gif      documents: the model card, its pictures, and what it was made of

The entry `_genhub` of model_index.json, which diffusers ignores, names the classes that genhub loads, and records the
SHA-256 of each weight file (`sha256`), config and source (`texts`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from genhub.utils.ranges import shown
from genhub.utils.reading import FileError, read_text
from genhub.utils.reading import read_json as read_json_file

FORMAT = 1  # of `_genhub`; a higher one is refused
SCRATCH, STAGED = ".saving", ".saved"  # folders of a version being written, and of a complete one (see replace.py)
LARGEST = 4 * 2**20  # bytes of an index or a config
WEIGHTS = "diffusion_pytorch_model.safetensors"
DOCUMENTS = ("LICENSE", "README.md", "metrics.json", "recipe.yaml")
AUTO_MAP = re.compile(r'(?m)^ *"auto_map": \{[^{}]*\},\n')  # in model_index.json: where the code of the models is
TEXTS = re.compile(r',\n *"texts": \{[^{}]*\}')  # in model_index.json: the SHA-256 of configs and sources
PICTURE = re.compile(r"\]\(([^][()/\n]+\.(?:png|gif))\)")  # a link in the card to a file beside it

# files of diffusers' and transformers' parts: configs and vocabularies, and those with the weights
CONFIGS = (
    r"[a-z_]*config\.json|[\w-]*vocab\.json|merges\.txt|(tokenizer|special_tokens_map|added_tokens)\.json|"
    r"chat_template\.jinja|(spiece|tokenizer|sentencepiece\.bpe)\.model|vocab\.txt"
)
INDEX = r"\.safetensors(\.index(\.\w+)?\.json)?"
PARTS = re.compile(rf"(diffusion_pytorch_model|model)([.-][\w.-]+)?{INDEX}|{CONFIGS}")
READ = re.compile(rf".*{INDEX}|.*\.py|{CONFIGS}")


class RepositoryError(ValueError):
    """A repository that cannot be found, reached, trusted or understood."""


def repo_files(folder: Path) -> list[str]:
    """Returns the files that belong to a saved repository, relative to its folder.

    A run's other files, caches and hidden files do not.
    """
    index, card = read_json(folder / "model_index.json"), folder / "README.md"
    names = ["model_index.json", *DOCUMENTS, *PICTURE.findall(read_text(card) if card.is_file() else "")]
    if (source := source_name(index)) is not None:
        names.append(source)
    files = {name for name in names if (folder / name).is_file() and not is_hidden(name)}
    return sorted({*files, *component_files(folder, index)})


def component_files(folder: Path, index: dict[str, Any]) -> list[str]:
    """Returns what lies in the folders of the components, hidden files aside, relative to the repository."""
    files = []
    for parent in (folder / name for name in component_entries(index)):
        paths = [parent] if parent.is_symlink() else parent.rglob("*")
        files += [path.relative_to(folder) for path in paths if path.is_symlink() or not path.is_dir()]
    return sorted(file.as_posix() for file in files if not any(map(is_hidden, file.parts)))


def source_name(index: dict[str, Any]) -> str | None:
    """Returns the file of the pipeline's class, None if it is diffusers' own."""
    name = index.get("_class_name")
    return f"{name[0]}.py" if isinstance(name, list) else None  # [file, class]


def member(folder: Path, name: str) -> Path:
    """Returns the path of a file of a repository.

    Raises:
        RepositoryError: it is missing or no regular file, or a link that leads out of the repository; the files that
            the Hub's client has downloaded are links into the `blobs` beside its snapshots.
    """
    path, home = folder / name, folder.resolve()
    homes = [home, (home.parent.parent / "blobs").resolve()] if home.parent.name == "snapshots" else [home]
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # also a circle of links, or a name that is none
        raise RepositoryError(f"{folder} lacks {name}.") from error
    if not target.is_file() or not any(target.is_relative_to(home) for home in homes):
        raise RepositoryError(f"{path} must be a regular file of the repository, got {target}.")
    return path


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


def read_json(path: Path, limit: int = LARGEST) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
        RepositoryError: it is missing or not that.
    """
    with repository_errors():
        return read_json_file(path, limit=limit)


@contextmanager
def repository_errors() -> Iterator[None]:
    """Turns a `FileError` within the block into a `RepositoryError` of the same words."""
    try:
        yield
    except FileError as error:
        raise RepositoryError(str(error)) from error


def is_read(name: str) -> bool:
    """Returns whether a loader reads a file of a component, named relative to its folder."""
    return READ.fullmatch(name) is not None


def validate(model: type[BaseModel], value: Any, source: object, prefix: str = "") -> None:
    """Checks a value of JSON against a model.

    Args:
        source, prefix: what the error names: a file, and the keys that lead to the value.

    Raises:
        RepositoryError: it does not fit; says where first.
    """
    try:
        model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = prefix + ".".join(map(str, first["loc"]))
        rule = re.sub(r"^\w+ should ", "must ", first["msg"]) if first["type"] != "missing" else "must be set"
        raise RepositoryError(f"{source}: `{place}` {rule}, got {shown(first['input'])}.") from error
