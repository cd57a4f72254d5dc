"""`genhub doctor`: devices, processes, arithmetic and versions of this machine."""

import os
import platform
import time

import torch
from accelerate import Accelerator

from genhub.utils.environment import device_name, versions


def report() -> str:
    """Returns a report to paste into an issue; under `accelerate launch`, of what a training run would get."""
    accelerator = Accelerator()
    launched = int(os.environ.get("WORLD_SIZE", 1))
    device = accelerator.device
    rows = [
        ("system", platform.platform()),
        ("device", f"{device} ({device_name(device)})"),
        (
            "processes",
            f"{accelerator.num_processes} of {launched} launched (accelerate: {accelerator.distributed_type.value})",
        ),
        (
            "threads",
            f"{torch.get_num_threads()} for {os.cpu_count()} cores, "
            f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}",
        ),
        ("cuda devices", str(torch.cuda.device_count())),
        *[(f"products, {name}", matmul_rate(dtype, device)) for name, dtype in DTYPES.items()],
        ("versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
    ]
    lines = [f"{name:15} {value}" for name, value in rows]
    if accelerator.num_processes != launched:
        lines.append(
            f"PROBLEM: {launched} processes were launched, each sees only itself. Set ACCELERATE_USE_CPU=true."
        )
    return "\n".join(lines)


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def matmul_rate(dtype: torch.dtype, device: torch.device) -> str:
    """Returns the measured rate of matrix products, or "not supported"."""
    flops = measure_flops(dtype, device)
    return "not supported" if flops is None else f"{flops / 1e9:,.{0 if flops > 1e10 else 1}f} GFLOP/s"


def measure_flops(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float | None:
    """Returns floating-point operations per second of square matrix products, the best of `repeats`; None if they are
    not supported.

    The size doubles up to 8192 until a product takes 50 ms, so that a type without hardware support ends soon.
    """
    try:
        for size in (256, 512, 1024, 2048, 4096, 8192):
            a = torch.ones(size, size, device=device, dtype=dtype)
            times = []
            for _ in range(repeats + 1):  # the first warms up
                start = time.perf_counter()
                (a @ a)[0, 0].item()
                times.append(time.perf_counter() - start)
            if min(times) > 0.05:
                break
    except RuntimeError:
        return None
    return 2 * size**3 / min(times[1:])
