"""Loading repositories without running their code."""

import inspect
import os
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from safetensors import SafetensorError, safe_open

from genhub.repository.download import DOWNLOAD_ARGUMENTS, download
from genhub.repository.format import (
    FORMAT,
    WEIGHTS,
    RepositoryError,
    component_entries,
    pipeline_class_name,
    read_json,
)
from genhub.utils.files import sha256
from genhub.utils.spelling import did_you_mean


class AutoPipeline:
    """Loads the pipeline of any repository: `genhub.AutoPipeline.from_pretrained(repo_or_folder)`."""

    def __init__(self):
        raise OSError("Use `AutoPipeline.from_pretrained(repo_or_folder)`.")

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike, **kwargs) -> DiffusionPipeline:
        """Loads the pipeline of a folder or a Hub repository without running code from it.

        Args:
            kwargs: those of `DiffusionPipeline.from_pretrained`, such as `revision` or `dtype`.

        Raises:
            RepositoryError: the repository does not exist or cannot be reached; its weights are damaged, pickled or
                do not fit; or a newer genhub wrote it.
        """
        folder = download(name_or_path, **{key: kwargs.pop(key) for key in DOWNLOAD_ARGUMENTS if key in kwargs})
        index = read_json(folder / "model_index.json")
        name = pipeline_class_name(index)
        pipeline = loader_of(find_class(name, DiffusionPipeline)).from_pretrained(folder, **kwargs)
        pipeline.default_arguments = index.get("_genhub", {}).get("call", {})
        return pipeline


class InstalledClasses(DiffusionPipeline):
    """Makes a pipeline class load with the installed classes of genhub, diffusers and transformers, found by name:
    no code of a repository is run, and no pickle is read."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs):
        """Loads a pipeline as in diffusers, from safetensors only."""
        for name in ("custom_pipeline", "trust_remote_code"):  # no code of a repository is run
            kwargs.pop(name, None)
        kwargs["use_safetensors"] = True
        return super().from_pretrained(cls.download(pretrained_model_name_or_path, **kwargs), **kwargs)

    @classmethod
    def download(cls, pretrained_model_name: str | os.PathLike, **kwargs) -> str:
        """Downloads a repository without its source files; returns its folder."""
        known = {key: kwargs[key] for key in DOWNLOAD_ARGUMENTS if kwargs.get(key) is not None}
        return str(download(pretrained_model_name, **known))

    @classmethod
    def load_config(cls, pretrained_model_name_or_path: str | os.PathLike, *args, **kwargs):
        """Reads model_index.json, checks the weights, and puts the installed classes in place of the recorded ones."""
        loaded = super().load_config(pretrained_model_name_or_path, *args, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        if os.path.isdir(pretrained_model_name_or_path) and "_class_name" in config:
            resolve(Path(pretrained_model_name_or_path), config)
        return loaded


def loader_of(pipeline_class: type[DiffusionPipeline]) -> type[DiffusionPipeline]:
    """Returns a class whose `from_pretrained` loads an instance of `pipeline_class` with the installed classes."""
    if issubclass(pipeline_class, InstalledClasses):
        return pipeline_class
    make = {
        "__new__": lambda loader, **components: pipeline_class(**components)
    }  # an instance of diffusers' own class
    return type(pipeline_class.__name__, (InstalledClasses, pipeline_class), make)


def find_class(name: str, kind: type | tuple[type, ...]) -> type:
    """Returns the class `name` of genhub or diffusers.

    Raises:
        RepositoryError: neither has it, or it is no subclass of `kind`.
    """
    import diffusers

    import genhub

    cls = getattr(genhub, name) if name in genhub.__all__ else getattr(diffusers, name, None)
    if not (inspect.isclass(cls) and issubclass(cls, kind)):
        versions = f"genhub {genhub.__version__} nor diffusers {diffusers.__version__}"
        hint = did_you_mean(name, [*genhub.__all__, *dir(diffusers)])
        raise RepositoryError(f"Neither {versions} has such a class: {name}{hint}.")
    return cls


def find_transformers_class(name: str) -> type:
    """Returns the model, tokenizer or processor class `name` of transformers.

    Raises:
        RepositoryError: transformers is not installed, or has no such class.
    """
    try:
        import transformers
    except ImportError as error:
        raise RepositoryError(f"{name} is a class of transformers: `pip install transformers`.") from error
    kinds = (
        transformers.PreTrainedModel,
        transformers.PreTrainedTokenizerBase,
        transformers.ProcessorMixin,
        transformers.FeatureExtractionMixin,
        transformers.ImageProcessingMixin,
    )
    cls = getattr(transformers, name, None)
    if not (inspect.isclass(cls) and issubclass(cls, kinds)):
        raise RepositoryError(f"transformers {transformers.__version__} has no such model or tokenizer: {name}.")
    return cls


def resolve(folder: Path, index: dict[str, Any]):
    """Puts the installed classes into `index` (of model_index.json), after checking that the weights fit them.

    Raises:
        RepositoryError: a newer genhub wrote the repository, weights are missing, damaged or do not fit, or a class is
            not installed.
    """
    index["_class_name"] = pipeline_class_name(index)
    own = index.pop("_genhub", {})
    if own.get("format", FORMAT) > FORMAT:
        raise RepositoryError(f"{folder} was written by a newer genhub ({own.get('version')}); update genhub.")
    for name, digest in own.get("sha256", {}).items():
        if not (folder / name).is_file():
            raise RepositoryError(f"{folder} lacks {name}.")
        if sha256(folder / name) != digest:
            raise RepositoryError(f"{folder / name} is damaged: its SHA-256 is not the one in model_index.json.")
    arguments = own.get("arguments", {})
    if reserved := [name for name in arguments if name.startswith("_") or name in component_entries(index)]:
        raise RepositoryError(f"{folder} records {reserved[0]!r} as an argument of its pipeline, which it is not.")
    index.update(arguments)
    for name, (library, recorded) in component_entries(index).items():
        class_name = own.get("components", {}).get(name) or recorded
        if library == "transformers":
            component = find_transformers_class(class_name)
        else:
            component = find_class(class_name, (ModelMixin, SchedulerMixin))
            library = component.__module__.partition(".")[0]
        index[name] = [library, class_name]
        if issubclass(component, torch.nn.Module):
            check_weights(component, folder / name)


def check_weights(component: Any, folder: Path):
    """Checks that a model's folder holds safetensors, and, for genhub's and diffusers' models, that config and tensors
    fit the installed class.

    Raises:
        RepositoryError: they do not.
    """
    if ModelMixin not in component.__mro__:  # transformers: it renames tensors of older versions while it loads
        if not any(folder.glob("model*.safetensors")):
            raise RepositoryError(f"{folder} holds no model.safetensors; genhub loads no pickled weights.")
        return
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
        expected = {name: tuple(tensor.shape) for name, tensor in component.from_config(config).state_dict().items()}
    stored = stored_shapes(folder / WEIGHTS)
    for name in sorted(expected.keys() | stored.keys()):
        if expected.get(name) != stored.get(name):
            raise RepositoryError(
                f"{folder / WEIGHTS} does not fit its config: {name} is {stored.get(name, 'missing')} in the file and "
                f"{expected.get(name, 'missing')} in {component.__name__}."
            )


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each tensor of a safetensors file."""
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RepositoryError(f"{path} is not a readable safetensors file ({error}).") from error
