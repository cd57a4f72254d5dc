"""How a device computes: in which precision, with which kernels, down to which numbers."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

SAMPLING_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def best_precision(device: torch.device) -> str:
    """Returns "bf16" if `device` computes in it, else "no": emulated, it is slower than float32."""
    has_bf16 = False
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # an older PyTorch does not tell
        processor = torch.cpu.get_capabilities()
        has_bf16 = any(processor.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16" if has_bf16 else "no"


def training_attention(device: torch.device) -> contextlib.AbstractContextManager:
    """Selects plain products on CPUs, where the backward pass of PyTorch's fused attention is slow (half of a bf16
    step)."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


def sampling_attention() -> contextlib.AbstractContextManager:
    """Selects any kernel, in the place of that for training."""
    return sdpa_kernel(SAMPLING_BACKENDS)


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Flushes denormals to zero for as long as the block lasts: each costs some hundred cycles, and the momentum of a
    weight at an always black pixel is one. Only threads started inside the block inherit the setting."""
    was_on = (torch.tensor(1e-38) / 10).item() == 0  # PyTorch has no getter
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_on)
