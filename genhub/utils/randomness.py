"""Random numbers that depend on what they are for, never on what was drawn before them."""

import hashlib

import torch


def seed_of(*key: int | str) -> int:
    """Returns a seed of 63 bits that stands for `key`."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


def keyed_generator(*key: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """Returns a generator whose stream is a function of `key` (and of the kind of device) alone."""
    return torch.Generator(device).manual_seed(seed_of(*key))


def seed_global(seed: int, device: torch.device) -> None:
    """Seeds PyTorch's own generators of the CPU and of `device`: `torch.manual_seed` without its search for devices,
    which takes longer than a step of a small model."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)


class BatchRandom:
    """The random numbers of one batch: row i is a function of `key` and of the sample's index in the global batch.

    Every draw is made for the whole global batch and cut to this process's `rows`, so neither the number of processes
    nor gradient accumulation changes what a sample gets, and nothing has to be stored to resume.
    """

    def __init__(self, *key: int | str, rows: range, total: int, device: str | torch.device = "cpu"):
        self.rows, self.total, self.device = rows, total, torch.device(device)
        self.generator = keyed_generator(*key, device=device)

    def randn(self, *shape: int) -> torch.Tensor:
        """Returns standard normal numbers, (B, *shape)."""
        return self._cut(torch.randn(self.total, *shape, generator=self.generator, device=self.device))

    def rand(self, *shape: int) -> torch.Tensor:
        """Returns numbers uniform in [0, 1), (B, *shape)."""
        return self._cut(torch.rand(self.total, *shape, generator=self.generator, device=self.device))

    def randint(self, high: int, *shape: int) -> torch.Tensor:
        """Returns integers uniform in 0..high-1, (B, *shape)."""
        return self._cut(torch.randint(high, (self.total, *shape), generator=self.generator, device=self.device))

    def _cut(self, drawn: torch.Tensor) -> torch.Tensor:
        return drawn[self.rows.start : self.rows.stop]
