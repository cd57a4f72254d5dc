"""What guidance costs, and what a step in latents costs beside one in pixels."""

from functools import partial
from typing import Any

import torch
from benchmarks.generation import build, timed
from benchmarks.turns import in_turns

from genhub import recipes
from genhub.data import Shape

STEPS = 4
CLASSES = tuple("0123456789")


def benchmark_conditioning(rounds: int, batch_size: int = 64):
    """Prints ratios of seconds, measured in turns."""
    print(f"\nConditioning, {STEPS} steps or calls a turn, median of {rounds} turns")
    for size in (1, 16, batch_size, 250):
        print(f"  `conditional-ddpm`, guided over not, in batches of {size}: {_guidance(rounds, size):.2f}")
    networks = {"latent-ddpm": Shape(4, 8, 8, CLASSES, 10), "conditional-ddpm": Shape(1, 28, 28, CLASSES, 10)}
    steps = {name: _steps(name, shape, batch_size) for name, shape in networks.items()}
    seconds = in_turns({name: partial(timed, step, torch.device("cpu")) for name, step in steps.items()}, rounds)
    ratio = seconds["latent-ddpm"] / seconds["conditional-ddpm"]
    print(f"  a step of `latent-ddpm` over one of `conditional-ddpm`, in batches of {batch_size}: {ratio:.2f}")


def _guidance(rounds: int, batch_size: int) -> float:
    """Returns the seconds of guided images over those of others."""
    pipeline, labels = build("conditional-ddpm")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.eval()
    labels |= {"guidance_interval": (0, 1)}
    call = partial(pipeline, batch_size=batch_size, num_inference_steps=STEPS, output_type="pt", **labels)
    contestants = {str(scale): partial(call, guidance_scale=scale) for scale in (1.0, 2.0)}
    seconds = in_turns({name: partial(timed, call, pipeline.device) for name, call in contestants.items()}, rounds)
    return seconds["2.0"] / seconds["1.0"]


def _steps(name: str, shape: Shape, batch_size: int) -> Any:
    """Returns a function that calls the network of a recipe `STEPS` times."""
    network: Any = recipes.load(name).build_component("unet", shape)
    sample = torch.randn(batch_size, shape.channels, shape.height, shape.width)
    labels, timesteps = torch.arange(batch_size) % 10, torch.arange(batch_size)

    @torch.no_grad()
    def call():
        for _ in range(STEPS):
            network.eval()(sample, timesteps, class_labels=labels)

    return call
