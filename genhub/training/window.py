"""Means of logged values between two records, kept on the device until they are read."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Window:
    """Sums rows of values, each under its names, without waiting for the device.

    Attributes:
        metrics: names of values that are not part of the loss.
    """

    def __init__(self):
        self.metrics = {"grad_norm", "lr"}
        self._clear()

    def _clear(self):
        self.rows: dict[tuple[str, ...], list] = {}  # names -> sum and count
        self.numbers: dict[str, list] = {}
        self.steps, self.images, self.start = 0, 0, time.monotonic()

    def add(self, names: list[str], row: torch.Tensor):
        """Adds one value for each of `names`, (K,)."""
        row = row if row.device.type == "mps" else row.double()  # which has no float64
        total = self.rows.setdefault(tuple(names), [torch.zeros_like(row), 0])
        total[0] += row
        total[1] += 1

    def add_number(self, name: str, value: float):
        """Adds a value that is not on the device."""
        total = self.numbers.setdefault(name, [0.0, 0])
        total[0] += value
        total[1] += 1

    def close_step(self, images: int):
        """Counts a step."""
        self.steps += 1
        self.images += images

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stops the clock of images per second for as long as the block lasts."""
        paused = time.monotonic()
        try:
            yield
        finally:
            self.start += time.monotonic() - paused

    def read(self) -> dict[str, float]:
        """Returns the mean of each value over the steps that had it."""
        sums, counts = self._sums()
        return {name: sums[name] / counts[name] for name in sums}

    def close(self) -> dict[str, float]:
        """Returns the record of the window and starts the next one: its loss is the sum of all losses, a mean over
        all steps, so that a loss due in some steps weighs by its share."""
        sums, counts = self._sums()
        losses = [value / self.steps for name, value in sums.items() if name.split("/")[-1] not in self.metrics]
        means = {name: sums[name] / counts[name] for name in sums}
        means |= {name: total / count for name, (total, count) in self.numbers.items()}
        rate = self.images / (time.monotonic() - self.start)
        self._clear()
        return {"loss": sum(losses), **means, "images_per_second": round(rate, 2)}

    def _sums(self) -> tuple[dict[str, float], dict[str, int]]:
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for names, (total, count) in self.rows.items():
            for name, value in zip(names, total.tolist(), strict=True):
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + count
        return sums, counts
