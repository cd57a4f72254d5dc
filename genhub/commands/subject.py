"""What is evaluated: the pipeline of a repository, or images that are already there."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from genhub import recipes
from genhub.data import Images
from genhub.data.image_files import load_image_files
from genhub.recipes.recipe import Recipe
from genhub.repository.capabilities import Capabilities, capabilities_of
from genhub.repository.download import download
from genhub.repository.format import AUTO_MAP, TEXTS
from genhub.repository.load import AutoPipeline
from genhub.repository.replace import finish_save
from genhub.utils.cache import content_hash
from genhub.utils.files import expanded, sha256
from genhub.utils.reading import read_text


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Args:
        source: as the user named it.
        key: identifies weights and configs, or images.
        pipeline: None for images that are already there.
        recipe: that of its training, None if it is unknown.
        folder: the repository, None if genhub did not train it.
        images: None for a pipeline.
    """

    source: str
    key: str
    pipeline: DiffusionPipeline | None = None
    recipe: Recipe | None = None
    folder: Path | None = None
    images: Images | None = None

    @property
    def name(self) -> str:
        path = expanded(self.source)
        return path.stem if path.is_file() else path.resolve().name

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities() if self.pipeline is None else capabilities_of(self.pipeline)

    def target(self, output: str | None) -> Path:
        """Returns the folder of the results: by default a repository that genhub trained here, or
        `evaluation-<name>`."""
        if output is not None:
            return Path(output)
        if self.folder is not None and expanded(self.source).is_dir():
            return self.folder
        return Path(f"evaluation-{self.name}")


def load_subject(source: str, device: str | torch.device) -> Subject:
    """Loads a folder or an archive of images, or the pipeline of a folder or of a repository of the Hub.

    Raises:
        ValueError: there is nothing like that, or it cannot be read.
    """
    path = expanded(source)
    finish_save(path)
    is_repository = any((path / name).is_file() for name in ("model_index.json", "recipe.yaml"))
    if path.is_file() or (path.is_dir() and not is_repository):
        images = load_image_files(path)
        parts = [images.images] if images.labels is None else [images.images, images.labels]
        return Subject(source, content_hash(*parts), images=images)
    folder = download(source)
    recipe: Recipe | None = recipes.load(folder) if (folder / "recipe.yaml").is_file() else None
    pipeline = AutoPipeline.from_pretrained(folder).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return Subject(source, _hash(folder), pipeline, recipe, None if recipe is None else folder)


def _hash(folder: Path) -> str:
    """Returns what identifies a repository: a hash of its weights, configs and tokens, wherever their code is."""
    weights = [sha256(path) for path in sorted(folder.glob("*/*.safetensors"))]
    configs = [folder / "model_index.json", *folder.glob("*/*config.json"), *folder.glob("*/tokenizer.json")]
    texts = (TEXTS.sub("", AUTO_MAP.sub("", read_text(path))) for path in sorted(configs))
    return content_hash(*weights, *texts)
