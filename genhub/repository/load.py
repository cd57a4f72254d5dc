"""Loading repositories without running their code."""

import contextlib
import importlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.utils import DummyObject

from genhub.repository.download import DOWNLOAD_ARGUMENTS, download
from genhub.repository.format import RepositoryError, component_entries, pipeline_class_name
from genhub.repository.index import check_files, read_index
from genhub.repository.weights import check_component, check_finite
from genhub.utils.extras import how_to_install
from genhub.utils.reading import one_line
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
        index = read_index(folder)
        name = pipeline_class_name(index)
        pipeline = loader_of(find_class(name, DiffusionPipeline)).from_pretrained(folder, **kwargs)
        pipeline.default_arguments = index.get("_genhub", {}).get("call", {})
        if os.environ.get("TQDM_DISABLE"):  # tqdm's own variable, which diffusers overrules
            pipeline.set_progress_bar_config(disable=True)
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
        folder = cls.download(pretrained_model_name_or_path, **kwargs)
        with loading(folder):
            pipeline = super().from_pretrained(folder, **kwargs)
        for name, part in pipeline.components.items():
            if isinstance(part, torch.nn.Module) and name not in kwargs:
                check_finite(part, f"{folder}/{name}")
        return pipeline

    @classmethod
    def download(cls, pretrained_model_name: str | os.PathLike, **kwargs) -> str:
        """Downloads a repository without its source files; returns its folder."""
        known = {key: kwargs[key] for key in DOWNLOAD_ARGUMENTS if kwargs.get(key) is not None}
        return str(download(pretrained_model_name, **known))

    @classmethod
    def load_config(cls, pretrained_model_name_or_path: str | os.PathLike, *args, **kwargs):
        """Reads model_index.json, checks the weights, and puts the installed classes in place of the recorded ones."""
        folder = Path(pretrained_model_name_or_path)
        is_repository = (folder / "model_index.json").is_file()
        if is_repository:
            read_index(folder)
        loaded = super().load_config(pretrained_model_name_or_path, *args, **kwargs)
        if is_repository:
            resolve(folder, loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded


@contextlib.contextmanager
def loading(folder: str | os.PathLike) -> Iterator[None]:
    """Turns what a library raises while it reads a file that it was not written for into one kind of error.

    Raises:
        RepositoryError: in place of any other error, but those of a file and of memory.
    """
    try:
        yield
    except (RepositoryError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise RepositoryError(f"{folder} cannot be loaded: {one_line(error)}") from error


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
        RepositoryError: neither has it, it needs transformers, or it is no subclass of `kind`.
    """
    import diffusers

    import genhub

    cls = getattr(genhub, name) if name in genhub.__all__ else getattr(diffusers, name, None)
    if isinstance(cls, DummyObject) and "transformers" in (cls._backends or ()):
        raise RepositoryError(f"{name} needs transformers: {how_to_install('text')}.")
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
        raise RepositoryError(f"{name} is a class of transformers: {how_to_install('text')}.") from error
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
    """Puts the installed classes into `index` (of model_index.json, as `read_index` returns it), after checking that
    files, configs and weights fit them.

    Raises:
        RepositoryError: a file is missing, damaged or does not fit, or a class is not installed.
    """
    check_files(folder, index)
    index["_class_name"] = pipeline_class_name(index)
    own = index.pop("_genhub", {})
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
        check_component(component, component_folder(folder, name))


def component_folder(folder: Path, name: str) -> Path:
    """Returns where diffusers looks for a component: in the folder of its name, or in the repository's own, as in
    google/ddpm-cifar10-32."""
    return folder / name if (folder / name).exists() else folder


def load_part(folder: Path, name: str) -> Any:
    """Loads one component of a repository, with its own class and config.

    Raises:
        RepositoryError: it does not load.
        KeyError: there is none of this name.
    """
    index = read_index(folder)
    resolve(folder, index)
    library, cls = component_entries(index)[name]
    loadable: Any = getattr(importlib.import_module(library), cls)
    options = {"use_safetensors": True} if issubclass(loadable, torch.nn.Module) else {}
    load = loadable.from_pretrained  # pyright: ignore[reportAttributeAccessIssue]
    place = component_folder(folder, name)
    with loading(place):
        part = load(place, **options)
    if isinstance(part, torch.nn.Module):
        check_finite(part, place)
    return part
