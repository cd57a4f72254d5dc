"""Means of logged values between two records, kept on the device until they are read."""

import torch


class Window:
    """Sums rows of values, each under its names, without waiting for the device.

    Args:
        seconds: of training before the window, by the clock of training.

    Attributes:
        metrics: names of values that are not part of the loss.
    """

    def __init__(self, seconds: float = 0.0):
        self.metrics = {"grad_norm", "lr"}
        self._clear(seconds)

    def _clear(self, seconds: float):
        self.rows: dict[tuple[str, ...], list] = {}  # names -> sum and count
        self.numbers: dict[str, list] = {}
        self.steps, self.images, self.start = 0, 0, seconds

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

    def read(self) -> dict[str, float]:
        """Returns the mean of each value over the steps that had it."""
        sums, counts = self._sums()
        return {name: sums[name] / counts[name] for name in sums}

    def close(self, seconds: float) -> dict[str, float]:
        """Returns the record of the window and starts the next one: its loss is the sum of all losses, a mean over
        all steps, so that a loss due in some steps weighs by its share.

        Args:
            seconds: of training until now.
        """
        sums, counts = self._sums()
        losses = [value / self.steps for name, value in sums.items() if name.split("/")[-1] not in self.metrics]
        means = {name: sums[name] / counts[name] for name in sums}
        means |= {name: total / count for name, (total, count) in self.numbers.items()}
        rate = self.images / max(seconds - self.start, 1e-9)
        self._clear(seconds)
        return {"loss": sum(losses), **means, "images_per_second": round(rate, 2)}

    def _sums(self) -> tuple[dict[str, float], dict[str, int]]:
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for names, (total, count) in self.rows.items():
            for name, value in zip(names, total.tolist(), strict=True):
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + count
        return sums, counts
