"""What figures of autoencoders are made of: the pipeline of a repository and the images that it was not trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from diffusers import DiffusionPipeline

from genhub import data
from genhub.evaluation.reconstructions import binarised
from genhub.recipes.recipe import Recipe, load_recipe
from genhub.repository.capabilities import is_conditional
from genhub.repository.load import AutoPipeline, download
from genhub.utils.environment import best_device

SPLITS = {"train": "training", "val": "validation", "test": "test"}
BATCH_SIZE = 250


@dataclass(frozen=True)
class Subject:
    """A repository that a figure is of."""

    pipeline: DiffusionPipeline
    recipe: Recipe

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def is_conditional(self) -> bool:
        return is_conditional(self.pipeline)

    @property
    def model(self):
        """The only network of the pipeline."""
        (model,) = (part for part in self.pipeline.components.values() if isinstance(part, torch.nn.Module))
        return model

    @property
    def held_out(self) -> str:
        """The split of images that the weights have not seen: those of validation, or of the test where none are."""
        return "val" if self.recipe.data.val_size else "test"

    def images(self, split: str, count: int | None = None) -> data.Images:
        """Returns the first `count` images of a split, all where it is None or there are fewer; with pixels that are 0
        or 255 where the model was trained on such.

        Raises:
            ValueError: the recipe's data are no pictures, or cannot be loaded here.
        """
        found = data.load(replace(self.recipe.data, streaming=False), split)
        if isinstance(found, data.Lazy):
            found = found.to_images(list(found.rows.select(range(min(count or len(found), len(found))))))
        if found.images.is_floating_point():
            raise ValueError(
                f"`repo` must be trained on pictures, got {self.name}, trained on {self.recipe.data.source}."
            )
        binarise = self.recipe.stages[-1].objective.arguments.get("binarise")
        return replace(found, images=binarised(found.images, binarise))[: count or len(found)]

    def each(self, function: Callable[..., torch.Tensor], images: data.Images) -> torch.Tensor:
        """Returns what `function` of the pipeline makes of images in [0, 1], a batch at a time, on the CPU; a
        conditional one is given their labels too."""
        parts = []
        for start in range(0, len(images), BATCH_SIZE):
            part = images[start : start + BATCH_SIZE]
            labels = {"class_labels": part.labels} if self.is_conditional else {}
            parts.append(function(part.images / 255, **labels).float().cpu())
        return torch.cat(parts)

    def codes(self, images: data.Images) -> torch.Tensor:
        """Returns the codes of images, (N, L)."""
        return self.each(self.pipeline.encode, images).flatten(1)

    def copies(self, images: data.Images) -> torch.Tensor:
        """Returns the reconstructions of images, (N, C, H, W) in [0, 1]."""
        return self.each(lambda *x, **y: self.pipeline.reconstruct(*x, output_type="pt", **y).images, images)


def load_subject(repo: str, method: str, such_as: str = "AutoencoderPipeline or VAEPipeline") -> Subject:
    """Loads a repository whose pipeline has `method`.

    Raises:
        ValueError: there is no such repository, its pipeline has no such method, or it does not say on what data it
            was trained.
    """
    folder = download(repo)
    pipeline = AutoPipeline.from_pretrained(folder)
    if not callable(getattr(type(pipeline), method, None)):
        raise ValueError(
            f"`repo` must hold a pipeline with `{method}`, such as {such_as}, got {type(pipeline).__name__}."
        )
    if not (folder / "recipe.yaml").is_file():
        raise ValueError(f"The repository {repo} has no recipe.yaml, which says what it was trained on.")
    pipeline.set_progress_bar_config(disable=True)
    return Subject(pipeline.to(best_device()), load_recipe(folder))


def class_names(images: data.Images) -> Sequence[str]:
    """Returns the names of the classes of labelled images: numbers where they have none."""
    return images.class_names or tuple(map(str, range(int(images.labels.max()) + 1)))


def scale_for(images: torch.Tensor, size: int = 84) -> int:
    """Returns how many times larger images are drawn, to be about `size` pixels high."""
    return max(1, round(size / images.shape[2]))
