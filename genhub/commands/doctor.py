"""`genhub doctor`: devices, processes, arithmetic and versions of this machine."""

import os
import platform
import time
from typing import Any

import torch
from accelerate import Accelerator

from genhub.utils.environment import device_name, versions

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def examine() -> dict[str, Any]:
    """Returns what this machine offers; under `accelerate launch`, what a training run would get."""
    accelerator = Accelerator()
    launched, device = int(os.environ.get("WORLD_SIZE", 1)), accelerator.device
    problem = f"{launched} processes were launched, each sees only itself. Set ACCELERATE_USE_CPU=true."
    return {
        "system": platform.platform(),
        "device": str(device),
        "device_name": device_name(device),
        "processes": accelerator.num_processes,
        "launched": launched,
        "distributed": accelerator.distributed_type.value,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "cuda_devices": torch.cuda.device_count(),
        "flops": {name: measure_flops(dtype, device) for name, dtype in DTYPES.items()},
        "versions": versions(),
        "problems": [problem] if accelerator.num_processes != launched else [],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Returns a report to paste into an issue."""
    threads = found["omp_num_threads"] or "unset"
    launched = f"{found['launched']} launched (accelerate: {found['distributed']})"
    rows = [
        ("system", found["system"]),
        ("device", f"{found['device']} ({found['device_name']})"),
        ("processes", f"{found['processes']} of {launched}"),
        ("threads", f"{found['threads']} for {found['cores']} cores, OMP_NUM_THREADS={threads}"),
        ("cuda devices", found["cuda_devices"]),
        *((f"products, {name}", rate(flops)) for name, flops in found["flops"].items()),
        ("versions", ", ".join(f"{name} {version}" for name, version in found["versions"].items())),
    ]
    return [f"{name:15} {value}" for name, value in rows] + [f"PROBLEM: {told}" for told in found["problems"]]


def rate(flops: float | None) -> str:
    """Returns a measured rate of matrix products, or "not supported"."""
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
