"""Images per second of generators, and of a diffusion model beside the floor that its network sets."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from benchmarks.turns import in_turns
from torch.utils.flop_counter import FlopCounterMode

from genhub import recipes
from genhub.data import Shape
from genhub.evaluation.sampling import set_scheduler
from genhub.utils.environment import best_device

STEPS = 10
BATCH_SIZES = (1, 16, 250)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def benchmark_generation(rounds: int, diffusion: str = "ddpm-quick", batch_size: int = 250):
    """Prints how many images a second GAN generators make, in batches, and a diffusion model."""
    print(f"\nGeneration in batches of {batch_size}, by `pipe(output_type='pt')`")
    for name in ("gan", "dcgan", "conditional-dcgan", "progressive-gan", "stylegan"):
        pipeline, labels = build(name)
        pipeline.generator.eval()
        rates = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            for _ in range(4):
                pipeline(batch_size=batch_size, output_type="pt", **labels)
            rates.append(4 * batch_size / (time.perf_counter() - start))
        print(f"  {name:18} {statistics.median(rates[1:]):10,.0f} images/s")
    benchmark_diffusion(diffusion, rounds)


def build(name: str) -> tuple[Any, dict[str, int]]:
    """Returns the untrained pipeline of a recipe for images of Fashion MNIST, and the label to ask for, if any."""
    recipe = recipes.load(name)
    pipeline: Any = recipe.build_pipeline(
        recipe.build_components(Shape(1, 28, 28, tuple("0123456789"), num_classes=10))
    )
    return pipeline, {"class_labels": 3} if pipeline.config.get("num_classes") or "conditional" in name else {}


def benchmark_diffusion(name: str, rounds: int, batch_sizes: tuple[int, ...] = BATCH_SIZES):
    """Prints images per second, the share of the measured rate of matrix products that this is, and the share of time
    outside the network."""
    device = torch.device(best_device())
    print(f"\n`{name}` with {STEPS} steps of DPM-Solver++, median of {rounds} turns")
    for dtype_name, dtype in DTYPES.items():
        for is_compiled in (False, True):
            pipeline, labels = build(name)
            pipeline.set_progress_bar_config(disable=True)
            pipeline.to(device, dtype).unet.eval()
            set_scheduler(pipeline, "DPMSolverMultistepScheduler")
            with FlopCounterMode(display=False) as counter:
                sampling_call(pipeline, labels, 1)()
            if is_compiled:
                pipeline.unet.forward = torch.compile(pipeline.unet.forward)
            for size in batch_sizes:
                seconds = measure(pipeline, labels, size, rounds)
                used = size * counter.get_total_flops() / seconds["sampling"]
                print(
                    f"  {dtype_name} {'compiled' if is_compiled else 'eager':8} batch {size:3} "
                    f"{size / seconds['sampling']:8.1f} images/s, {used / 1e9:6.1f} of {seconds['rate'] / 1e9:6.1f} "
                    f"GFLOP/s: {used / seconds['rate']:4.0%}; outside the network {seconds['outside']:.1%}",
                    flush=True,
                )


def sampling_call(pipeline: Any, labels: dict[str, int], size: int) -> Callable[[], Any]:
    """Returns a function that generates `size` images."""
    return partial(pipeline, batch_size=size, num_inference_steps=STEPS, output_type="pt", **labels)


def measure(pipeline: Any, labels: dict[str, int], size: int, rounds: int) -> dict[str, float]:
    """Returns medians: seconds of `sampling` a batch, the share of them `outside` the network, and the `rate` of
    matrix products in FLOP/s."""
    call, network, inside = sampling_call(pipeline, labels, size), pipeline.unet, [0.0]

    def start(*_):
        inside[0] -= now(network.device)

    def stop(*_):
        inside[0] += now(network.device)

    shares: list[float] = []

    def sampling() -> float:
        inside[0] = 0.0
        seconds = timed(call, network.device)
        shares.append(1 - inside[0] / seconds)
        return seconds

    hooks = [network.register_forward_pre_hook(start), network.register_forward_hook(stop)]
    rate = partial(matrix_rate, network.dtype, network.device)
    turns = in_turns({"sampling": sampling, "rate": rate}, rounds)
    for hook in hooks:
        hook.remove()
    return {**turns, "outside": statistics.median(shares[1:])}


def matrix_rate(dtype: torch.dtype, device: torch.device, size: int = 1024, products: int = 8) -> float:
    """Returns the FLOP/s of products of `size` x `size` matrices."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)

    def multiply():
        for _ in range(products):
            a @ b

    return 2 * size**3 * products / timed(multiply, device)


def timed(function: Callable[[], Any], device: torch.device) -> float:
    """Returns the seconds that a call takes."""
    start = now(device)
    function()
    return now(device) - start


def now(device: torch.device) -> float:
    """Returns the time when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
