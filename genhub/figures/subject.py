"""The repository that a figure shows: its pipeline, its recipe, its images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

from genhub import data, recipes
from genhub.evaluation.likelihood import binarise_pixels
from genhub.recipes.recipe import Recipe
from genhub.repository.capabilities import Capabilities, capabilities_of
from genhub.repository.download import download
from genhub.repository.format import member
from genhub.repository.load import AutoPipeline
from genhub.utils import reading
from genhub.utils.environment import best_device

SPLITS = {"train": "training", "val": "validation", "test": "test"}
BATCH_SIZE = 250


@dataclass(frozen=True)
class Subject:
    """A repository that a figure shows."""

    pipeline: DiffusionPipeline
    capabilities: Capabilities
    recipe: Recipe

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def is_conditional(self) -> bool:
        return self.capabilities.num_classes is not None

    @cached_property
    def class_names(self) -> Sequence[str]:
        """Names of the pipeline's classes, () if it is unconditional: those of its config, or of the data; numbers if
        there are none, or if the data set is not on this machine."""
        count = self.capabilities.num_classes
        if count is None:
            return ()
        if known := self.pipeline.config.get("id2label"):
            return tuple(known[str(number)] for number in range(count))
        numbers = tuple(map(str, range(count)))
        try:
            names = self.load("train").shape.class_names or numbers
        except ValueError:
            return numbers
        return names if len(names) == len(numbers) else numbers

    @property
    def held_out(self) -> str:
        """The split that the weights have not seen: validation, or test if no images were set aside."""
        return "val" if self.recipe.data.has_val else "test"

    def load(self, split: str) -> data.Images | data.Lazy:
        """Loads a split of the recipe's data set.

        Raises:
            ValueError: it cannot be loaded on this machine.
        """
        return data.load_whole(self.recipe.data, split)

    def images(self, split: str, count: int | None = None) -> data.Images:
        """Returns the first `count` images of a split, or all of them; binarised if the model was trained on binary
        images.

        Raises:
            ValueError: the data are not images, or cannot be loaded on this machine.
        """
        images = self.load(split)
        if isinstance(images, data.Lazy):
            images = images.to_images(list(images.rows.select(range(min(count or len(images), len(images))))))
        if isinstance(images, data.Points):
            raise ValueError(
                f"`repo` must be trained on pictures, got {self.name}, trained on {self.recipe.data.source}."
            )
        binarise = self.recipe.stages[-1].objective.arguments.get("binarise")
        return replace(images, images=binarise_pixels(images.images, binarise))[: count or len(images)]

    def codes(self, images: data.Images) -> torch.Tensor:
        """Encodes images; returns their codes (N, L)."""
        return self._map(self.pipeline.encode, images).flatten(1)

    def reconstructions(self, images: data.Images) -> torch.Tensor:
        """Reconstructs images; returns (N, C, H, W) in [0, 1]."""

        def reconstruct(batch: torch.Tensor, **labels: torch.Tensor) -> torch.Tensor:
            return self.pipeline.reconstruct(batch, output_type="pt", **labels).images

        return self._map(reconstruct, images)

    def _map(self, function: Callable[..., torch.Tensor], images: data.Images) -> torch.Tensor:
        """Calls `function` with batches of images in [0, 1], and with their labels if the pipeline is conditional;
        returns the results on the CPU."""
        results = []
        for start in range(0, len(images), BATCH_SIZE):
            batch = images[start : start + BATCH_SIZE]
            labels = {"class_labels": batch.labels} if self.is_conditional else {}
            results.append(function(batch.images / 255, **labels).float().cpu())
        return torch.cat(results)


def load_subject(repo: str, task: str, such_as: str = "AutoencoderPipeline or VAEPipeline") -> Subject:
    """Loads a repository whose pipeline performs `task`.

    Args:
        such_as: what does, for the error message.

    Raises:
        ValueError: there is no such repository, its pipeline does not perform the task, or it has no recipe.
    """
    subject = load_any(repo)
    if not subject.capabilities.can(task):
        pipeline = subject.pipeline
        networks = [type(part).__name__ for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
        raise ValueError(
            f"`repo` must hold a pipeline with the task `{task}`, such as {such_as}, got "
            f"{type(pipeline).__name__} with {' and '.join(networks)}."
        )
    return subject


def load_any(repo: str) -> Subject:
    """Loads a repository.

    Raises:
        ValueError: there is no such repository, or it has no recipe.
    """
    folder = download(repo)
    pipeline = AutoPipeline.from_pretrained(folder)
    if not (folder / "recipe.yaml").is_file():
        raise ValueError(f"The repository {repo} has no recipe.yaml, which names the data that it was trained on.")
    pipeline.set_progress_bar_config(disable=True)
    return Subject(pipeline.to(best_device()), capabilities_of(pipeline), recipes.load(folder))


def read_text(repo: str, name: str) -> str | None:
    """Returns the text of a file of a repository, None if it has no such file; downloads no weights."""
    folder = download(repo, allow_patterns=["model_index.json", name])
    limit = reading.LARGEST_LOG if name.endswith(".jsonl") else reading.LARGEST
    return reading.read_text(member(folder, name), limit) if (folder / name).is_file() else None


def pixels(output: ImagePipelineOutput) -> torch.Tensor:
    """Returns the images (N, C, H, W) in [0, 1] of a pipeline's output, on the CPU."""
    return torch.as_tensor(output.images).float().cpu()


def labels_of(images: data.Images) -> torch.Tensor:
    """Returns the labels (N,) of labelled images."""
    assert images.labels is not None
    return images.labels


def label_names(images: data.Images) -> Sequence[str]:
    """Returns the names of the classes of labelled images, numbers if they have none."""
    return images.class_names or tuple(map(str, range(int(labels_of(images).max()) + 1)))


def class_of(images: data.Images, index: int) -> str:
    """Returns the name of the class of a labelled image."""
    return label_names(images)[int(labels_of(images)[index])]


def shape_of(images: data.Images) -> tuple[int, int, int]:
    """Returns (C, H, W)."""
    _, channels, height, width = images.images.shape
    return channels, height, width


def blend(ends: torch.Tensor, count: int) -> torch.Tensor:
    """Returns `count` mixtures of two images (2, C, H, W) at equal steps from the first to the second, both included:
    the interpolation of pixels."""
    weights = torch.linspace(0, 1, count).view(-1, 1, 1, 1)
    return torch.lerp(ends[:1], ends[1:], weights)


def scale_for(images: torch.Tensor, size: int = 84) -> int:
    """Returns the whole factor that enlarges images (N, C, H, W) to a height of about `size` pixels."""
    return max(1, round(size / images.shape[2]))
