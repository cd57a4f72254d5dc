"""The machine and the packages that a run depends on."""

import contextlib
import importlib.metadata
import platform
import sys

import torch
from accelerate import Accelerator

from genhub.version import VERSION

PACKAGES = ("torch", "diffusers", "accelerate", "datasets", "huggingface_hub", "safetensors")


def best_device() -> str:
    """Returns the device that PyTorch would train on: cuda, mps or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_name(device: torch.device) -> str:
    """Returns the name of a device as its maker gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if sys.platform.startswith("linux"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def hardware(accelerator: Accelerator) -> dict:
    """Returns what a run or an evaluation was made on, as its results say it."""
    return {
        "device": device_name(accelerator.device),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }


def versions() -> dict[str, str]:
    """Returns the versions of genhub, of Python and of the packages that decide what a run computes."""
    found = {"genhub": VERSION, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
