"""Random numbers that are functions of a key, never of what was drawn before."""

import hashlib
from functools import cached_property

import torch


def seed_of(*key: int | str) -> int:
    """Hashes `key` to a seed of 63 bits (BLAKE2b of its repr)."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


def keyed_generator(*key: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """Returns a generator whose stream depends on `key` and the type of device alone."""
    return torch.Generator(device).manual_seed(seed_of(*key))


def seed_global(seed: int, device: torch.device) -> None:
    """Seeds PyTorch's own generators of the CPU and of `device`: `torch.manual_seed` without its search for devices,
    which takes longer than a step of a small model."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)


class BatchRandom:
    """The random numbers of one batch: row i is a function of `key` and of the sample's index in the global batch.

    Every rank draws for the global batch and keeps its own `rows`. With W processes that costs W times the numbers,
    and is what makes training exact: neither the number of processes nor gradient accumulation changes what a sample
    gets, and nothing has to be stored to resume. The generator is created by the first draw.

    Args:
        rows: this micro-batch's part of the global batch.
        total: size of the global batch.
    """

    def __init__(self, *key: int | str, rows: range, total: int, device: str | torch.device = "cpu"):
        self.key, self.rows, self.total, self.device = key, rows, total, torch.device(device)

    @cached_property
    def generator(self) -> torch.Generator:
        return keyed_generator(*self.key, device=self.device)

    def randn(self, *shape: int) -> torch.Tensor:
        """Draws standard normal numbers, (B, *shape)."""
        return self._own_rows(torch.randn(self.total, *shape, generator=self.generator, device=self.device))

    def rand(self, *shape: int) -> torch.Tensor:
        """Draws uniform numbers in [0, 1), (B, *shape)."""
        return self._own_rows(torch.rand(self.total, *shape, generator=self.generator, device=self.device))

    def randint(self, high: int, *shape: int) -> torch.Tensor:
        """Draws uniform integers in 0..high-1, (B, *shape)."""
        return self._own_rows(torch.randint(high, (self.total, *shape), generator=self.generator, device=self.device))

    def permutation(self) -> torch.Tensor:
        """Draws a permutation of 0..total-1, (B,): each number occurs once in the global batch."""
        return self._own_rows(torch.randperm(self.total, generator=self.generator, device=self.device))

    def _own_rows(self, drawn: torch.Tensor) -> torch.Tensor:
        return drawn[self.rows.start : self.rows.stop]


def hash_uniform(numbers: torch.Tensor, *key: int | str) -> torch.Tensor:
    """Returns for each of int64 `numbers` a uniform number in [0, 1) that depends on it and on `key` alone, float64:
    SplitMix64 (Steele et al., *Fast Splittable Pseudorandom Number Generators*, 2014), whose steps wrap around."""
    x = numbers * _signed(0x9E3779B97F4A7C15) + seed_of(*key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> shift & (1 << 64 - shift) - 1)) * _signed(factor)
    x = x ^ (x >> 31 & (1 << 33) - 1)
    return (x >> 11 & (1 << 53) - 1).double() / 2**53


def _signed(bits: int) -> int:
    """Returns 64 bits as a signed number."""
    return bits - (1 << 64) if bits >> 63 else bits
