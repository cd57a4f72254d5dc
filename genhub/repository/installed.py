"""The installed form of a travelling pipeline or model class: what `genhub.GANPipeline` and `genhub.DenseVAE` are.

The class of the file that travels with the weights imports nothing of genhub's; installed, it reads no pickle, and a
pipeline also loads repositories without running their code, and pushes them with their sources.
"""

import functools
import os
import tempfile
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline, ModelMixin
from diffusers.pipelines import pipeline_loading_utils

from genhub.repository import card
from genhub.repository.load import InstalledClasses
from genhub.repository.push import push
from genhub.repository.save import save_repo

# `save_pretrained` records our classes as ["genhub", name], not by the module that defines them, which others lack.
# LOADABLE_CLASSES is private to diffusers: this is the one place that uses it, and a test watches it.
pipeline_loading_utils.LOADABLE_CLASSES.setdefault("genhub", {})


class InstalledPipeline(InstalledClasses):
    """Adds to a travelling pipeline class what needs genhub: loading, saving and pushing."""

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        use_flashpack: bool = False,
        **kwargs: Any,
    ) -> None:
        """Saves a repository that plain diffusers loads, as `genhub.save_repo` does, with a short card if it has none.

        Args:
            push_to_hub: also upload it, as `repo_id` or else the folder's name; `kwargs` are those of `genhub.push`.

        Raises:
            ValueError: an option that would change the files: a repository has one safetensors file a part.
        """
        for name, is_left_out in (
            ("safe_serialization", safe_serialization),
            ("variant", variant is None),
            ("max_shard_size", max_shard_size is None),
            ("use_flashpack", not use_flashpack),
        ):
            if not is_left_out:
                raise ValueError(f"`{name}` must be left out: a repository of genhub has one safetensors file a part.")
        folder = Path(save_directory)
        repo_id = str(kwargs.pop("repo_id", folder.name))
        if kwargs and not push_to_hub:
            raise ValueError(f"`{next(iter(kwargs))}` must be left out without `push_to_hub`.")
        has_card = (folder / "README.md").is_file()
        save_repo(self, folder, {} if has_card else {"README.md": card.minimal(self, repo_id)})
        if push_to_hub:
            push(folder, repo_id, **kwargs)

    def push_to_hub(self, repo_id: str, *args: Any, **kwargs: Any) -> str:
        """Uploads the pipeline with its sources and a short model card; returns its address.

        `genhub.push` uploads a saved repository with its own card, and takes the same arguments.
        """
        with tempfile.TemporaryDirectory() as folder:
            save_repo(self, folder, {"README.md": card.minimal(self, repo_id)})
            return push(folder, repo_id, *args, **kwargs)


class InstalledModel(ModelMixin):
    """Adds to a travelling model class that no pickle is read."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """Loads a model as in diffusers, from safetensors only.

        Raises:
            ValueError: `use_safetensors` is False.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError("`use_safetensors` must be true: genhub loads no pickled weights.")
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs | {"use_safetensors": True})


@functools.cache
def installed(cls: Any) -> Any:
    """Returns the installed form of a travelling pipeline or model class, anything else as it is."""
    if not isinstance(cls, type) or not cls.__module__.startswith("genhub."):
        return cls
    kinds = ((DiffusionPipeline, InstalledPipeline), (ModelMixin, InstalledModel))
    form = next((form for kind, form in kinds if issubclass(cls, kind)), None)
    if form is None:
        return cls
    # a class of the module genhub: that is where pickle and diffusers look it up by its name
    names = {"__module__": "genhub", "__qualname__": cls.__name__, "__doc__": cls.__doc__}
    return type(cls.__name__, (form, cls), names)
