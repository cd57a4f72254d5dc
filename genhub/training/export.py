"""The pipeline of the averaged weights: its samples, and the repository that a run becomes."""

import inspect
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn

from genhub import plotting
from genhub.data import Images, Lazy, Points
from genhub.evaluation.likelihood import binarise_pixels
from genhub.evaluation.protocol import to_bytes
from genhub.evaluation.sampling import sample
from genhub.recipes.places import published, published_text, published_value
from genhub.recipes.recipe import Recipe
from genhub.repository import card
from genhub.repository.capabilities import capabilities_of
from genhub.repository.save import save_repo
from genhub.training.describe import describe_images, describe_networks
from genhub.training.ema import MovingAverage
from genhub.training.restore import keep_recipe
from genhub.training.state import Progress
from genhub.utils.environment import hardware, versions
from genhub.utils.modules import evaluation_mode

ENCODED_AT_ONCE = 250  # images


class Exporter:
    """Samples and saves the pipeline of a run.

    Args:
        components: of the pipeline, by name.
        train, held_out: images, not latents.
        prompts: texts that a pipeline that takes them is asked for, in turn.
        notes: sentences for the card, about how the images differ from their files.
    """

    def __init__(
        self,
        recipe: Recipe,
        components: dict[str, Any],
        averages: dict[str, MovingAverage],
        train: Images | Lazy,
        held_out: Images | None,
        progress: Progress,
        accelerator: Accelerator,
        prompts: Sequence[str] | None = None,
        notes: Sequence[str] = (),
    ):
        self.recipe, self.components, self.averages = recipe, components, averages
        self.train, self.held_out, self.progress, self.accelerator = train, held_out, progress, accelerator
        self.prompts, self.notes, self.is_averaged = prompts, notes, False
        self.modules = {name: part for name, part in components.items() if isinstance(part, nn.Module)}
        self.capabilities = capabilities_of(recipe.build_pipeline(components))
        self.generates = self.capabilities.can("generate")
        are_pictures = not isinstance(train, Points)
        can = {task for task in ("reconstruct", "encode") if self.capabilities.can(task) and held_out}
        self.makes_images = are_pictures and (self.generates or "reconstruct" in can)
        self.encodes = are_pictures and "encode" in can

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Puts the moving averages in place of the weights for as long as the outermost block lasts."""
        if self.is_averaged:
            yield
            return
        with ExitStack() as stack:
            for average in self.averages.values():
                average.swap()
                stack.callback(average.swap)
            self.is_averaged = True
            stack.callback(setattr, self, "is_averaged", False)
            yield

    @contextmanager
    def pipeline(self) -> Iterator[Any]:
        """Yields the pipeline of the averaged weights for as long as the block lasts."""
        with self.averaged_weights(), evaluation_mode(self.modules.values()):
            pipeline = self.recipe.build_pipeline(self.components)
            if self.prompts:
                pipeline.example_prompt = self.prompts[-1]
            pipeline.set_progress_bar_config(disable=True)
            yield pipeline

    def generate(self, count: int, arguments: dict[str, Any]) -> torch.Tensor:
        """Generates images, split over processes; returns all, uint8 (N, C, H, W), in every process.

        Raises:
            ValueError: an image is not finite or of another shape than the training images, or the pipeline refuses
                `arguments`.
        """
        shape, accelerator = self.train.shape, self.accelerator
        each = math.ceil(count / accelerator.num_processes)
        own = range(accelerator.process_index * each, (accelerator.process_index + 1) * each)
        indices = [min(index, count - 1) for index in own]  # as many in each process
        with self.pipeline() as pipeline:
            seed, prompts = self.recipe.training.seed, self._prompts(indices)
            images = sample(pipeline, each, seed, arguments=arguments, indices=indices, prompts=prompts)
        images = cast(torch.Tensor, accelerator.gather(images.to(accelerator.device)))[:count].cpu()
        return to_bytes(images, (shape.channels, shape.height, shape.width))  # refuses in all processes, or in none

    def rehearse(self):
        """Makes one image, so that what the pipeline refuses shows before any work: a diffusion model as far as the
        first call of its network, and one of latents in one step, too.

        Raises:
            ValueError: the pipeline refuses its arguments, or does not fit the data.
        """
        if not self.makes_images:
            return
        size = f"{self.train.shape.height} x {self.train.shape.width}"
        try:
            with torch.random.fork_rng():
                if not self.generates:
                    self.reconstruct(1)
                else:
                    with _until_first_call(self.modules.values()):
                        self.generate(1, {})
                    if self.recipe.data.encode is not None:
                        self.generate(1, {"num_inference_steps": 1})
        except (ValueError, RuntimeError) as error:
            hint = "which `data.size` and `data.padding` set"
            raise ValueError(f"`pipeline` cannot make images of {size}, {hint}: {error}") from error

    def _prompts(self, indices: Sequence[int]) -> list[str] | None:
        """Returns the texts to ask for, if the pipeline takes any."""
        prompts = self.prompts
        return None if prompts is None else [prompts[index % len(prompts)] for index in indices]

    def samples(self) -> tuple[torch.Tensor, float]:
        """Returns `training.num_samples` images (N, C, H, W) in [0, 1] and the seconds that they took; for a pipeline
        that only reconstructs, held-out images above their reconstructions."""
        config, start = self.recipe.training, time.monotonic()
        if self.generates:
            with self.pipeline() as pipeline:
                prompts = self._prompts(range(config.num_samples))
                images = sample(pipeline, config.num_samples, config.seed, prompts=prompts)
        else:
            images = self.reconstruct(max(config.num_samples // 2, 1))
        return images, time.monotonic() - start

    def reconstruct(self, count: int) -> torch.Tensor:
        """Returns `count` held-out images above their reconstructions, (N, C, H, W) in [0, 1]."""
        with self.pipeline() as pipeline:
            parts = [(x, pipeline.reconstruct(x, **y, output_type="pt").images) for x, y in self._held_out(count)]
        originals, images = (torch.cat(images).float().cpu() for images in zip(*parts, strict=True))
        return plotting.pairs(originals, images)

    def codes(self, count: int) -> torch.Tensor:
        """Returns the codes (N, L) of `count` held-out images."""
        with self.pipeline() as pipeline:
            codes = [pipeline.encode(x, **labels) for x, labels in self._held_out(count)]
        return torch.cat(codes).flatten(1).float().cpu()

    def _held_out(self, count: int) -> Iterator[tuple[torch.Tensor, dict[str, Any]]]:
        """Yields the first held-out images in [0, 1], binarised as in training, with the labels that the pipeline
        takes, in batches."""
        assert self.held_out is not None  # as `makes_images` and `encodes` say
        binarise = self.recipe.stages[-1].objective.arguments.get("binarise")
        images = replace(self.held_out, images=binarise_pixels(self.held_out.images, binarise))[:count]
        for start in range(0, len(images), ENCODED_AT_ONCE):
            batch = images[start : start + ENCODED_AT_ONCE]
            is_conditional = self.capabilities.num_classes is not None
            yield batch.images / 255, {"class_labels": batch.labels} if is_conditional else {}

    def save(self, path: Path, results: list[dict]):
        """Saves the pipeline with its recipe, metrics, samples and card."""
        metrics = self.metrics(results)
        documents: dict[str, str | bytes] = {"recipe.yaml": published_text(self.recipe.text)}
        if self.makes_images:
            images, seconds = self.samples()
            documents["samples.png"] = plotting.png(plotting.grid(images, columns=8))
            generated = {"images": len(images), "seconds": round(seconds, 1)}
            metrics["sampling"] = generated if self.generates else {"reconstructions": len(images) // 2}
        with self.pipeline() as pipeline:
            documents["metrics.json"] = json.dumps(metrics, indent=2) + "\n"
            words = earlier.read_text(encoding="utf-8") if (earlier := path / "README.md").is_file() else ""
            documents["README.md"] = card.write(pipeline, metrics, self.experiment(), words)
            keep_recipe(path, self.recipe)  # so that it is evaluated, and gone on from
            save_repo(pipeline, path, documents)

    def experiment(self) -> card.Experiment:
        """Returns what the card says about the recipe."""
        recipe, images, source = self.recipe, len(self.train), self.recipe.data.source
        return card.Experiment(
            description="\n".join(line.lstrip("# ").rstrip() for line in recipe.comment.splitlines()),
            batch_size=recipe.training.batch_size,
            mixed_precision=self.accelerator.mixed_precision,
            planned_steps=sum(stage.training.steps(images) for stage in recipe.stages),
            images=describe_images(self.train),
            notes=[note.replace(source, published_value("data.source", source)) for note in self.notes],
            networks=describe_networks(recipe, self.modules),
            planned_minutes=recipe.training.max_minutes if self.progress.shares else None,
            overrides=published(recipe.overrides) if recipe.is_published else None,
        )

    def metrics(self, results: list[dict]) -> dict:
        """Returns what was measured in this run, and on what machine."""
        progress, recipe = self.progress, self.recipe
        return {
            "recipe": recipe.name,
            "data": published_value("data.source", recipe.data.source),
            "reported": recipe.reported,
            "results": results,
            "training": {
                "steps": progress.total_steps,
                "images": progress.images,
                "seconds": round(progress.seconds, 1),
                "images_per_second": round(progress.images / max(progress.seconds, 1e-9), 1),
                "parameters": {k: sum(x.numel() for x in m.parameters()) for k, m in self.modules.items()},
                "train_images": len(self.train),
                "seed": recipe.training.seed,
                "steps_on": progress.steps_on,
                **({"changes": progress.changes} if progress.changes else {}),
            },
            "hardware": hardware(self.accelerator),
            "versions": versions(),
        }


class _Called(BaseException):
    """A denoiser has answered."""


@contextmanager
def _until_first_call(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Ends the block when a network that is asked at a `timestep` has answered once."""

    def leave(*_):
        raise _Called

    denoisers = [module for module in modules if "timestep" in inspect.signature(module.forward).parameters]
    hooks = [module.register_forward_hook(leave) for module in denoisers]
    try:
        yield
    except _Called:
        pass
    finally:
        for hook in hooks:
            hook.remove()
