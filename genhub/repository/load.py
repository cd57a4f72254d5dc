"""Loading repositories without running their code.

The entry `_genhub` of model_index.json, which diffusers ignores, names the classes that genhub itself loads, by their
names, and the SHA-256 of every weight file.
"""

import inspect
import json
import os
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError, safe_open

from genhub.utils.files import sha256

FORMAT = 1  # of `_genhub`; a higher one is refused
WEIGHTS = "diffusion_pytorch_model.safetensors"
DOWNLOAD_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision")


class RepositoryError(ValueError):
    """A repository that cannot be found, reached, trusted or understood."""


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
        index = read_json(folder / "model_index.json")
        pipeline_class = find_class(_class_name(index), DiffusionPipeline)
        if not hasattr(pipeline_class, "is_installed"):  # those resolve the folder themselves
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
            f"There is no folder {name} here, and the repository {name} of the Hub {what} ({first_line(error)}). "
            "Check the name, the network and `HF_TOKEN`."
        ) from error
    if not (folder / required).is_file():
        raise RepositoryError(f"The repository {name} holds no {required}.")
    return folder


def download_recipe(source: str | os.PathLike) -> Path | None:
    """Returns the recipe.yaml of a Hub repository, None for a `source` that is here: a name, a file or a folder."""
    name = str(source)
    is_hub_id = name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith((".yaml", ".yml"))
    if not is_hub_id or Path(name).exists():
        return None
    return download(name, allow_patterns=["recipe.yaml"], required="recipe.yaml") / "recipe.yaml"


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
    config = read_json(folder / "config.json")
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


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{path} cannot be read ({error}).") from error
