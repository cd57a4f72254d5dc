"""Sets of images from a pipeline: spread over all processes, resumable, timed."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather
from diffusers import DiffusionPipeline
from torch import nn
from tqdm.auto import tqdm

from genhub.evaluation.protocol import to_bytes
from genhub.repository.capabilities import call_arguments
from genhub.utils.cache import cached, content_hash
from genhub.utils.randomness import keyed_generator

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
) -> torch.Tensor:
    """Generates `count` images, (N, C, H, W) in [0, 1], on the CPU.

    Image i is a function of (seed, i): neither the batch size nor the number of images changes it.

    Args:
        labels: class of each image.
        arguments: further arguments of the pipeline's call, such as `num_inference_steps`.
        indices: the images' indices i, if not 0..count - 1.
    """
    indices, images = range(count) if indices is None else indices, []
    for start in range(0, count, batch_size):
        part = indices[start : start + batch_size]
        generators = [keyed_generator("image", seed, index) for index in part]
        wanted = call_arguments(pipeline, len(part), None if labels is None else labels[start : start + batch_size])
        batch = pipeline(**wanted, generator=generators, output_type="pt", **(arguments or {}))
        images.append(batch.images.float().cpu())
    return torch.cat(images)


@dataclass
class Sampler:
    """Draws sets of images from a pipeline. Batch b is a function of (seed, b), so the number of processes changes
    nothing.

    Args:
        shape: (C, H, W) that the images must have.
        classes: number of classes to ask for in turn, equally often; None for an unconditional pipeline.
        arguments: what each call of the pipeline gets besides, such as `num_inference_steps`.
        key: what identifies the weights, so that an interrupted run goes on where it was; None keeps nothing.
        is_quiet: show no progress.
    """

    pipeline: DiffusionPipeline
    shape: tuple[int, int, int]
    seed: int
    batch_size: int
    classes: int | None = None
    arguments: dict = field(default_factory=dict)
    key: str | None = None
    is_quiet: bool = False

    def __post_init__(self):
        self.state = PartialState()
        self.pipeline.set_progress_bar_config(disable=True)
        self.modules = [part for part in self.pipeline.components.values() if isinstance(part, nn.Module)]

    def labels(self, count: int) -> torch.Tensor | None:
        """Returns the class that each of `count` images is asked to be of, (N,)."""
        return None if self.classes is None else torch.arange(count) % self.classes

    def call(self, batch: int, labels: torch.Tensor | None, size: int) -> torch.Tensor:
        """Returns one batch, (B, C, H, W) in [0, 1]."""
        asked = {} if labels is None else {"class_labels": labels.tolist()}
        generator = keyed_generator("evaluation", self.seed, batch)
        images = self.pipeline(batch_size=size, generator=generator, output_type="pt", **asked, **self.arguments)
        return images.images.cpu()

    def try_one(self):
        """Makes one image, to find what is wrong before any work.

        Raises:
            ValueError: the image is not finite or of another shape, or the pipeline refuses its arguments.
        """
        to_bytes(self.call(0, self.labels(1), 1), self.shape)

    def draw(self, count: int) -> tuple[torch.Tensor, list[float]]:
        """Returns `count` images, uint8 (N, C, H, W), on all processes, and the seconds that each full batch of this
        process took.

        Raises:
            ValueError: images are not finite, or of another shape.
        """
        starts = range(0, count, self.batch_size)
        labels, world, rank = self.labels(count), self.state.num_processes, self.state.process_index
        mine, seconds = [], []
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        bar = tqdm(
            total=count, desc="generating", unit="image", disable=self.is_quiet or not self.state.is_main_process
        )
        for batch in range(rank, len(starts), world):
            part = slice(starts[batch], min(starts[batch] + self.batch_size, count))
            size = part.stop - part.start

            def compute(batch=batch, part=part, size=size) -> dict[str, torch.Tensor]:
                began = time.perf_counter()
                images = self.call(batch, None if labels is None else labels[part], size)
                took = time.perf_counter() - began
                return {"images": to_bytes(images, self.shape), "seconds": torch.tensor(took)}

            wanted = None if labels is None else labels[part].tolist()
            asked = f"{self.seed} {batch} {size} {wanted} {sorted(self.arguments.items())}"
            drawn = cached("samples", content_hash(self.key, asked), compute) if self.key else compute()
            mine.append(drawn["images"])
            if size == self.batch_size:
                seconds.append(drawn["seconds"].item())
            bar.update(min(size * world, count - bar.n))
        bar.close()
        self.peak_memory = peak_memory()
        return self._exchange(mine, count, len(starts)), seconds

    def _exchange(self, mine: list[torch.Tensor], count: int, batches: int) -> torch.Tensor:
        """Returns the images of all processes in the order of their batches."""
        world = self.state.num_processes
        if world == 1:
            return torch.cat(mine)
        rounds = -(-batches // world)
        held = torch.zeros(rounds, self.batch_size, *self.shape, dtype=torch.uint8)
        for place, images in enumerate(mine):
            held[place, : len(images)] = images
        everything = gather(held.to(self.state.device)).cpu()  # (W rounds, B, C, H, W)
        in_order = everything.reshape(world, rounds, *held.shape[1:]).transpose(0, 1)  # (rounds, W, B, C, H, W)
        return in_order.reshape(-1, *self.shape)[:count]

    def speed(self, seconds: list[float]) -> dict:
        """Returns what an image costs: images/s at batch 1 and at `batch_size` (from the `seconds` of `draw`), its
        passes through networks, their parameters, and peak memory."""
        passes = 0

        def counted(action: Callable) -> Callable:
            def run(*positional, **named):
                nonlocal passes
                passes += len(next(x for x in (*positional, *named.values()) if isinstance(x, torch.Tensor)))
                return action(*positional, **named)

            return run

        ways = ("forward", "decode")  # a pipeline calls a network, or the half of it that makes images
        places = [(module, way) for module in self.modules for way in ways if way in dir(module)]
        for module, way in places:
            setattr(module, way, counted(getattr(module, way)))
        one = self.labels(1)
        self.call(0, one, 1)
        for module, way in places:
            delattr(module, way)
        alone = []
        for repeat in range(WARM_UP + REPEATS):
            began = time.perf_counter()
            self.call(repeat, one, 1)
            alone.append(time.perf_counter() - began)
        full = seconds[WARM_UP:] or seconds
        return {
            "images_per_second_batch_1": round(1 / statistics.median(alone[WARM_UP:]), 3),
            f"images_per_second_batch_{self.batch_size}": round(self.batch_size / statistics.median(full), 2)
            if full
            else None,
            "passes_per_image": passes,
            "parameters": sum(p.numel() for module in self.modules for p in module.parameters()),
            "peak_memory_mb": round(self.peak_memory / 2**20),
        }


def peak_memory() -> int:
    """Returns the most bytes that were in use: of the GPU where there is one, else of the whole process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
