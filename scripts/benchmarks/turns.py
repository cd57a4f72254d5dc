"""Contestants measured in turns (A/B/A/B), so that a noisy neighbour of some seconds meets all of them."""

import statistics
from collections.abc import Callable


class Turns(dict):
    """The median of each contestant's seconds (or rates)."""

    def __init__(self, results: dict[str, list[float]]):
        super().__init__({name: statistics.median(values) for name, values in results.items()})
        self.results = results

    def times(self, name: str, base: str) -> float:
        """Returns the ratio of two contestants: the median over rounds of the ratio within a round."""
        return statistics.median(a / b for a, b in zip(self.results[name], self.results[base], strict=True))


def in_turns(contestants: dict[str, Callable[[], float]], rounds: int) -> Turns:
    """Runs all contestants in turns; the first round warms up."""
    results = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, contestant in contestants.items():
            value = contestant()
            if turn:
                results[name].append(value)
    return Turns(results)
