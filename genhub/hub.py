"""Repositories: saving with source and card, loading without running their code, sharing.

A saved repository loads in plain diffusers. Parts that diffusers has itself are recorded as such; a class of genhub's
travels as its source file beside its weights. The entry `_genhub` of model_index.json, which diffusers ignores, names
the classes that genhub itself loads, by their names, and the SHA-256 of every weight file.
"""

import inspect
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
import yaml
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.pipelines import pipeline_loading_utils
from huggingface_hub import HfApi, ModelCard, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError, safe_open

from genhub.files import sha256

FORMAT = 1  # of `_genhub`; a higher one is refused
WEIGHTS = "diffusion_pytorch_model.safetensors"
DOWNLOAD_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision")
DOCUMENTS = ("README.md", "recipe.yaml", "metrics.json")
PICTURE = re.compile(r"\]\(([^)/]+\.(?:png|gif))\)")  # of a card, beside it

# The name under which `save_pretrained` records our classes; without it, it would write where they are defined.
# LOADABLE_CLASSES is private in diffusers: this is the one place that uses it, and tests/test_hub.py watches it.
pipeline_loading_utils.LOADABLE_CLASSES.setdefault("genhub", {})


class RepositoryError(ValueError):
    """A repository that cannot be found, reached, trusted or understood."""


class InstalledClasses:
    """Makes `from_pretrained` of a pipeline take its classes from genhub and diffusers as installed, by their
    names."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Loads a pipeline as in diffusers, and never a pickle."""
        return super().from_pretrained(pretrained_model_name_or_path, **{**kwargs, "use_safetensors": True})

    @classmethod
    def download(cls, pretrained_model_name, **kwargs):
        """Downloads a repository without its source files."""
        given = {k: kwargs[k] for k in DOWNLOAD_ARGUMENTS if kwargs.get(k) is not None}
        return str(download(pretrained_model_name, **given))

    @classmethod
    def load_config(cls, pretrained_model_name_or_path, **kwargs):
        """Reads model_index.json, checks the weights that it records, and names the installed classes."""
        loaded = super().load_config(pretrained_model_name_or_path, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        if os.path.isdir(pretrained_model_name_or_path) and "_class_name" in config:
            resolve(Path(pretrained_model_name_or_path), config)
        return loaded


class AutoPipeline:
    """Loads whatever pipeline a repository holds: `genhub.AutoPipeline.from_pretrained(repo_or_folder)`."""

    def __init__(self):
        raise OSError("Use `AutoPipeline.from_pretrained(repo_or_folder)`.")

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike, **kwargs) -> DiffusionPipeline:
        """Returns the pipeline of a folder or of a repository of the Hub, without running code of it.

        Args:
            kwargs: those of `DiffusionPipeline.from_pretrained`, such as `revision` or `torch_dtype`.

        Raises:
            RepositoryError: there is no such repository, the Hub cannot be reached, weights are damaged, pickled or do
                not fit, or a newer genhub wrote it.
        """
        folder = download(name_or_path, **{k: kwargs.pop(k) for k in DOWNLOAD_ARGUMENTS if k in kwargs})
        index = _read_json(folder / "model_index.json")
        pipeline_class = find_class(_class_name(index), DiffusionPipeline)
        if not issubclass(pipeline_class, InstalledClasses):  # those resolve the folder themselves
            resolve(folder, index)
        return pipeline_class.from_pretrained(folder, use_safetensors=True, **kwargs)


def download(name_or_path: str | os.PathLike, required: str = "model_index.json", **kwargs) -> Path:
    """Returns the folder of a repository: a local one as it is, one of the Hub from its cache or downloaded,
    without code."""
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        if not (path / required).is_file():
            raise RepositoryError(f"The folder {path} holds no {required}: it is not a saved repository.")
        return path
    name = str(name_or_path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise RepositoryError(f"{name!r} is neither an existing folder nor a repository of the Hub (user/name).")
    try:
        folder = Path(snapshot_download(name, ignore_patterns=["*.py", "*.bin", "*.pt", "*.pkl"], **kwargs))
    except (
        RepositoryNotFoundError,
        HFValidationError,
        EntryNotFoundError,
        LocalEntryNotFoundError,
        HfHubHTTPError,
        OSError,
    ) as error:
        missing = isinstance(error, RepositoryNotFoundError | HFValidationError)
        what = "does not exist or is private" if missing else "could not be reached"
        raise RepositoryError(
            f"There is no folder {name} here, and the repository {name} of the Hub {what} ({_first_line(error)}). "
            "Check the name, the network and `HF_TOKEN`."
        ) from error
    if not (folder / required).is_file():
        raise RepositoryError(f"The repository {name} holds no {required}.")
    return folder


def find_class(name: str, kind: type | tuple[type, ...]) -> type:
    """Returns the class of genhub or of diffusers that bears `name`, which must be of `kind`."""
    import diffusers

    import genhub

    found = getattr(genhub, name) if name in genhub.__all__ else getattr(diffusers, name, None)
    if not (inspect.isclass(found) and issubclass(found, kind)):
        raise RepositoryError(
            f"Neither genhub {genhub.__version__} nor diffusers {diffusers.__version__} has such a class: {name}."
        )
    return found


def _class_name(index: dict) -> str:
    name = index.get("_genhub", {}).get("class_name") or index.get("_class_name")
    return name[1] if isinstance(name, list) and len(name) == 2 else str(name)


def resolve(folder: Path, index: dict):
    """Names in `index` (of model_index.json) the installed classes, after checking that the weights fit them."""
    index["_class_name"] = _class_name(index)
    ours = index.pop("_genhub", {})
    if ours.get("format", FORMAT) > FORMAT:
        raise RepositoryError(
            f"{folder} was written by a newer genhub ({ours.get('version')}): `pip install -U genhub`."
        )
    for name, digest in ours.get("sha256", {}).items():
        if not (folder / name).is_file():
            raise RepositoryError(f"{folder} lacks {name}.")
        if sha256(folder / name) != digest:
            raise RepositoryError(f"{folder / name} is damaged: its SHA-256 is not the one in model_index.json.")
    index.update(ours.get("arguments", {}))
    for name, entry in list(index.items()):
        is_component = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)
        if name.startswith("_") or not is_component or entry[0] == "transformers":
            continue
        component = find_class(ours.get("components", {}).get(name) or entry[1], (ModelMixin, SchedulerMixin))
        index[name] = ["genhub" if component.__module__.startswith("genhub.") else "diffusers", component.__name__]
        if issubclass(component, ModelMixin):
            check_weights(component, folder / name)


def check_weights(component: type[ModelMixin], folder: Path):
    """Refuses a model's folder whose config or weights this class cannot take, or that holds only a pickle."""
    config = _read_json(folder / "config.json")
    known = set(inspect.signature(component.__init__).parameters)
    unknown = sorted(key for key in config if not key.startswith("_") and key not in known and key != "auto_map")
    if unknown:
        raise RepositoryError(
            f"{folder / 'config.json'} sets {', '.join(unknown)}, which {component.__name__} as installed does not "
            f"know; a newer version wrote it (diffusers {config.get('_diffusers_version')})."
        )
    if not (folder / WEIGHTS).is_file():
        if any(folder.glob("diffusion_pytorch_model*.safetensors")):  # sharded, or of another precision
            return
        raise RepositoryError(f"{folder} holds no {WEIGHTS}; genhub loads no pickled weights.")
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in component.from_config(config).state_dict().items()}
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RepositoryError(f"{folder / WEIGHTS} is not a readable safetensors file ({error}).") from error
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise RepositoryError(
                f"{folder / WEIGHTS} does not fit its config: {name} is {found.get(name, 'missing')} in the file and "
                f"{wanted.get(name, 'missing')} in {component.__name__}."
            )


def generates(pipeline: DiffusionPipeline) -> bool:
    """Whether a pipeline makes images of nothing: it is called with how many, and in which form."""
    return {"batch_size", "output_type"} <= inspect.signature(pipeline.__call__).parameters.keys()


def is_conditional(pipeline: DiffusionPipeline) -> bool:
    """Whether a pipeline is asked for images of classes."""
    return num_classes(pipeline.components.values()) > 0


def num_classes(parts: Iterable) -> int:
    """Returns how many classes the parts of a pipeline know, one that stands for none among them; 0 for no classes."""
    return max(part.config.get("num_class_embeds") or 0 for part in parts)


def save_repo(
    pipeline: DiffusionPipeline, folder: str | os.PathLike, documents: dict[str, str | bytes] | None = None
) -> Path:
    """Saves `pipeline` as a repository that plain diffusers loads, with `documents` (file name -> content) beside it.

    Everything is written to a scratch folder first and then moved, so a failure leaves what was there before.
    """
    import genhub

    folder = Path(folder)
    scratch = folder / ".saving"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    own = type(pipeline).__module__.startswith("diffusers.")
    plain = pipeline if own else pipeline.to_diffusers()
    (plain or pipeline).save_pretrained(scratch, safe_serialization=True)

    index = _read_json(scratch / "model_index.json")
    components = {name: type(part).__name__ for name, part in pipeline.components.items()}
    if plain is None:
        for name, part in pipeline.components.items():
            if type(part).__module__.startswith("genhub."):
                source = source_file(type(part))
                shutil.copy(source, scratch / name / source.name)
                index[name] = [source.stem, type(part).__name__]
        source = source_file(type(pipeline))
        shutil.copy(source, scratch / source.name)
        index["_class_name"] = [source.stem, type(pipeline).__name__]
    arguments = {k: v for k, v in pipeline.config.items() if not k.startswith("_") and k not in components}
    weights = sorted(path.relative_to(scratch).as_posix() for path in scratch.rglob("*.safetensors"))
    index["_genhub"] = {
        "format": FORMAT,
        "version": genhub.__version__,
        "class_name": type(pipeline).__name__,
        "components": components,
        "arguments": arguments,
        "sha256": {name: sha256(scratch / name) for name in weights},
    }
    index.pop("_name_or_path", None)
    _write_json(scratch / "model_index.json", index)
    for path in scratch.glob("*/*config.json"):
        _write_json(path, {key: value for key, value in _read_json(path).items() if key != "_name_or_path"})

    for name, content in (documents or {}).items():
        (scratch / name).write_bytes(content.encode() if isinstance(content, str) else content)
    (folder / "model_index.json").unlink(missing_ok=True)  # there again last of all: without it, it is no repository
    for path in sorted(scratch.iterdir(), key=lambda path: path.name == "model_index.json"):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
    scratch.rmdir()
    return folder


def source_file(cls: type) -> Path:
    """Returns the file that travels with a class of genhub's: that of the class itself, not of how we install it."""
    own = next(c for c in cls.__mro__ if c.__name__ == cls.__name__ and InstalledClasses not in c.__mro__)
    return Path(sys.modules[own.__module__].__file__)


def repo_files(folder: Path) -> list[str]:
    """Returns the files of a saved repository, relative to it: what is shared, and not what training left beside
    it."""
    index = _read_json(folder / "model_index.json")
    components = [name for name, entry in index.items() if isinstance(entry, list) and not name.startswith("_")]
    inside = [
        path
        for name in components
        for path in (folder / name).rglob("*")
        if path.suffix in (".json", ".safetensors", ".py")
    ]
    beside = [folder / name for name in ("model_index.json", *DOCUMENTS) if (folder / name).is_file()]
    card = folder / "README.md"
    shown = {folder / name for name in PICTURE.findall(card.read_text() if card.is_file() else "")}
    beside += [path for path in folder.iterdir() if path.suffix == ".py" or path in shown]
    return sorted(path.relative_to(folder).as_posix() for path in [*beside, *inside])


def push(folder: str | os.PathLike, repo_id: str, private: bool = False, revision: str | None = None) -> str:
    """Uploads a saved repository to the Hub and returns its address.

    Raises:
        RepositoryError: the folder is not a saved repository or its card is not valid, before anything is sent; there
            is no valid token, or the Hub cannot be reached.
    """
    folder = download(folder)
    if not (folder / "README.md").is_file():
        raise RepositoryError(f"The folder {folder} has no README.md: a repository is shared with its card.")
    resolve(folder, _read_json(folder / "model_index.json"))
    try:
        ModelCard.load(folder / "README.md")
    except (ValueError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        raise RepositoryError(f"The card {folder / 'README.md'} is not valid: {first}.") from error
    api = HfApi()
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id,
            folder_path=folder,
            allow_patterns=repo_files(folder),
            commit_message="Upload with genhub",
            revision=revision,
        )
    except HFValidationError as error:
        raise RepositoryError(f"`repo_id` must be user/name: {error}") from error
    except Exception as error:  # the client raises errors of several HTTP libraries, which change with its version
        raise RepositoryError(
            f"Could not upload to {repo_id} ({_first_line(error)}). "
            "Check the network and the token (`hf auth login`, `HF_TOKEN`)."
        ) from error
    return str(url)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{path} cannot be read ({error}).") from error


def _write_json(path: Path, content: dict):
    path.write_text(json.dumps(content, indent=2) + "\n")
