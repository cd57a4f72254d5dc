"""Images from a pipeline: `sample` for all purposes, and `Sampler` for evaluations by the protocol."""

import inspect
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import gather
from diffusers import DiffusionPipeline, SchedulerMixin
from torch import nn

from genhub.evaluation.protocol import to_bytes
from genhub.evaluation.speed import count_passes, peak_memory
from genhub.repository.capabilities import call_arguments, capabilities_of
from genhub.repository.load import find_class
from genhub.utils.cache import cached, content_hash, holds
from genhub.utils.progress import progress_bar
from genhub.utils.randomness import keyed_generator
from genhub.utils.schedulers import check_alike, check_range_of_latents, scheduler_from, undeclared_options
from genhub.utils.spelling import did_you_mean

WARM_UP, REPEATS = 3, 10  # calls before timing, and timed


@torch.no_grad()
def sample(
    pipeline: DiffusionPipeline,
    count: int,
    seed: int,
    batch_size: int = 64,
    labels: Sequence[int] | None = None,
    arguments: dict[str, Any] | None = None,
    indices: Sequence[int] | None = None,
    prompts: Sequence[str] | None = None,
) -> torch.Tensor:
    """Generates `count` images, (N, C, H, W) in [0, 1], on the CPU.

    Image i is a function of seed, i and its label or prompt; neither the batch size nor the count changes it.

    Args:
        labels: class of each image; the real classes in turn if None (never the null class), by i.
        arguments: further arguments of the pipeline's call, such as `num_inference_steps`.
        indices: i of each image, if not 0..count - 1.
        prompts: text of each image, for a pipeline that takes prompts.
    """
    indices = range(count) if indices is None else indices
    labels = labels_in_turn(pipeline, indices) if labels is None else labels
    images = []
    for start in range(0, count, batch_size):
        rows = slice(start, min(start + batch_size, count))
        generators = [keyed_generator("image", seed, index) for index in indices[rows]]
        classes, texts = None if labels is None else labels[rows], None if prompts is None else prompts[rows]
        call = call_arguments(pipeline, rows.stop - rows.start, classes, texts) | (arguments or {})
        images.append(_call(pipeline, call, generators).float().cpu())
    return torch.cat(images)


def _call(
    pipeline: DiffusionPipeline, arguments: dict[str, Any], generator: torch.Generator | list[torch.Generator]
) -> torch.Tensor:
    """Returns the images of one call, (B, C, H, W) in [0, 1]; some of diffusers' classes make arrays (B, H, W, C)."""
    images = cast(Callable[..., Any], pipeline)(**arguments, generator=generator, output_type="pt").images
    return images if isinstance(images, torch.Tensor) else torch.from_numpy(images).permute(0, 3, 1, 2)


def labels_in_turn(pipeline: DiffusionPipeline, indices: Sequence[int]) -> list[int] | None:
    """Returns a real class for each index, all classes in turn; None for an unconditional pipeline."""
    num_classes = capabilities_of(pipeline).num_classes
    return None if num_classes is None else [index % num_classes for index in indices]


def check_sampling_arguments(pipeline: DiffusionPipeline, arguments: dict[str, Any]) -> None:
    """Raises ValueError if the pipeline does not declare one of `arguments`."""
    known = sorted(capabilities_of(pipeline).sampling_arguments)
    for name in arguments:
        if name not in known:
            cls, hint = type(pipeline).__name__, did_you_mean(name, known)
            takes = f" It takes {', '.join(known)}." if known else ""
            raise ValueError(f"`{name}` must be unset: {cls} does not take it{hint}.{takes}")


def set_scheduler(pipeline: DiffusionPipeline, name: str | None, arguments: dict[str, Any] | None = None) -> None:
    """Replaces the scheduler of `pipeline` by the class `name` (None keeps it) with the same config, but for
    `arguments`, such as `use_karras_sigmas` or `sigma_max`.

    Raises:
        ValueError: there is no such scheduler, class or argument, the class refuses a value, it does not denoise step
            by step from noise, or its noise levels are not those that the network was trained on.
    """
    if name is None and not arguments:
        return
    if "scheduler" not in pipeline.components:
        raise ValueError(f"`scheduler` must be unset: {type(pipeline).__name__} has none.")
    cls = type(pipeline.scheduler) if name is None else find_class(name, SchedulerMixin)
    known = [*inspect.signature(cls).parameters, *undeclared_options(cls)]
    for key in arguments or {}:
        if key not in known:
            raise ValueError(f"There is no `scheduler.{key}`{did_you_mean(key, known)}: it is not in {cls.__name__}.")
    options = arguments or {}
    if pipeline.components.get("vae") is not None:
        options = check_range_of_latents(options, known)
    check_alike(pipeline.scheduler, new := scheduler_from(pipeline.scheduler.config, cls, options))
    pipeline.register_modules(scheduler=new)


@dataclass
class Sampler:
    """Generates sets of images by the protocol: over all processes, resumable, timed.

    Batch b is a function of (seed, b), whatever the number of processes.

    Args:
        shape: (C, H, W) of the images, checked.
        classes: number of classes to ask for in turn, equally often; None for an unconditional pipeline.
        captions: texts to ask for in turn, each with its class if it has one, for a pipeline that takes prompts.
        padding: black pixels around the images that the pipeline makes; they are cut off.
        arguments: further arguments of the pipeline's call, such as `num_inference_steps`.
        key: identifies the weights, so that an interrupted run is resumed from the cache; None caches nothing.
        is_quiet: hide progress.
    """

    pipeline: DiffusionPipeline
    shape: tuple[int, int, int]
    seed: int
    batch_size: int
    classes: int | None = None
    captions: Sequence[tuple[str, int | None]] | None = None
    padding: int = 0
    arguments: dict = field(default_factory=dict)
    key: str | None = None
    is_quiet: bool = False

    def __post_init__(self):
        self.state = PartialState()
        self.pipeline.set_progress_bar_config(disable=True)
        self.modules = [part for part in self.pipeline.components.values() if isinstance(part, nn.Module)]

    def labels(self, count: int) -> torch.Tensor | None:
        """Returns the class to ask for of each of `count` images, (N,)."""
        if self.captions is not None:
            labels = [self.captions[index % len(self.captions)][1] for index in range(count)]
            return None if None in labels else torch.tensor(labels)
        return None if self.classes is None else torch.arange(count) % self.classes

    def prompts(self, count: int) -> list[str] | None:
        """Returns the text to ask for of each of `count` images."""
        asked = self.captions
        return None if asked is None else [asked[index % len(asked)][0] for index in range(count)]

    def conditions(self, rows: slice) -> dict[str, list]:
        """Returns what the images in `rows` are asked for by."""
        if (prompts := self.prompts(rows.stop)) is not None:
            return {"prompts": prompts[rows]}
        labels = self.labels(rows.stop)
        return {} if labels is None else {"labels": labels[rows].tolist()}

    def call(self, batch: int, rows: slice) -> torch.Tensor:
        """Returns one batch, (B, C, H, W) in [0, 1]."""
        call = call_arguments(self.pipeline, rows.stop - rows.start, **self.conditions(rows)) | self.arguments
        images = _call(self.pipeline, call, keyed_generator("evaluation", self.seed, batch)).cpu()
        return F.pad(images, (-self.padding,) * 4)

    def try_one(self) -> None:
        """Generates one image, so that mistakes show before any work.

        Raises:
            ValueError: the image is not finite or of another shape, or the pipeline refuses its arguments.
        """
        to_bytes(self.call(0, slice(0, 1)), self.shape)

    def draw(self, count: int) -> tuple[torch.Tensor, list[float]]:
        """Returns `count` images, uint8 (N, C, H, W), in every process, and the seconds of each full batch of this
        process.

        Raises:
            ValueError: images are not finite, or of another shape.
        """
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        world, batches = self.state.num_processes, math.ceil(count / self.batch_size)
        is_silent = self.is_quiet or not self.state.is_main_process
        own, seconds = [], []
        with progress_bar(is_silent, total=count, desc="generating", unit="image") as bar:
            for batch in range(self.state.process_index, batches, world):
                images, took = self._batch(batch, count)
                own.append(images)
                if len(images) == self.batch_size:
                    seconds.append(took)
                bar.update(min(len(images) * world, count - bar.n))
        self.peak_memory = peak_memory()
        return self._exchange(own, count, batches), seconds

    def _batch(self, batch: int, count: int) -> tuple[torch.Tensor, float]:
        """Returns the uint8 images of one of the batches of `count` images, and the seconds that they took."""
        rows = slice(batch * self.batch_size, min((batch + 1) * self.batch_size, count))
        size = rows.stop - rows.start

        def compute() -> dict[str, torch.Tensor]:
            start = time.perf_counter()
            images = self.call(batch, rows)
            took = time.perf_counter() - start
            return {"images": to_bytes(images, self.shape), "seconds": torch.tensor(took)}

        if self.key is None:
            drawn = compute()
        else:
            (asked,) = self.conditions(rows).values() or (None,)
            key = content_hash(self.key, f"{self.seed} {batch} {size} {asked} {sorted(self.arguments.items())}")
            drawn = cached("samples", key, compute, holds(size, "images"))
        return drawn["images"], drawn["seconds"].item()

    def _exchange(self, own: list[torch.Tensor], count: int, batches: int) -> torch.Tensor:
        """Returns the images of all processes in the order of their batches."""
        world = self.state.num_processes
        if world == 1:
            return torch.cat(own)
        rounds = math.ceil(batches / world)
        padded = torch.zeros(rounds, self.batch_size, *self.shape, dtype=torch.uint8)
        for number, images in enumerate(own):
            padded[number, : len(images)] = images
        gathered = cast(torch.Tensor, gather(padded.to(self.state.device))).cpu()  # (W rounds, B, C, H, W)
        in_order = gathered.reshape(world, rounds, *padded.shape[1:]).transpose(0, 1)  # (rounds, W, B, C, H, W)
        return in_order.reshape(-1, *self.shape)[:count]

    def speed(self, seconds: list[float]) -> dict:
        """Returns the cost of an image: images/s at batch 1 and at `batch_size` (from the `seconds` of `draw`), passes
        through networks, their parameters, and peak memory."""
        one = slice(0, 1)
        with count_passes(self.modules) as passes:
            self.call(0, one)
        alone = []
        for repeat in range(WARM_UP + REPEATS):
            start = time.perf_counter()
            self.call(repeat, one)
            alone.append(time.perf_counter() - start)
        full = seconds[WARM_UP:] or seconds
        full_rate = round(self.batch_size / statistics.median(full), 2) if full else None
        return {
            "images_per_second_batch_1": round(1 / statistics.median(alone[WARM_UP:]), 3),
            f"images_per_second_batch_{self.batch_size}": full_rate,
            "passes_per_image": sum(passes.values()),
            "parameters": sum(p.numel() for module in self.modules for p in module.parameters()),
            "peak_memory_mb": round(self.peak_memory / 2**20),
        }
