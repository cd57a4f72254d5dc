"""The share of a stage's training that is done: by its steps, or by the time that it may take."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from genhub.training.state import Progress


class Clock:
    """Measures the seconds of training and the share of a stage that is done, from 0 to 1.

    Without `max_minutes` the share is that of the steps, a function of the step. With it, the share is that of the
    time if that is greater, so that a schedule over it ends when training does, whatever the speed of the machine.
    The shares are then recorded in `progress`, one a step; with the same shares training repeats itself bit by bit.

    Args:
        steps: of the stage.
        by_time: whether the share is also one of `max_minutes`; else they only end training.
        replay: shares of an earlier run, one a step over all stages, in place of the time.
    """

    now = staticmethod(time.monotonic)  # a study of equal processor time puts `time.process_time` here

    def __init__(
        self,
        progress: Progress,
        steps: int,
        max_minutes: float | None = None,
        by_time: bool = True,
        replay: list[float] | None = None,
    ):
        self.progress, self.steps, self.replay = progress, steps, replay
        self.is_timed = by_time and max_minutes is not None
        self.budget = math.inf if max_minutes is None else 60 * max_minutes
        self.start = self.now() - progress.seconds

    def tick(self):
        """Adds the time since the last call to the seconds of training."""
        self.progress.seconds = self.now() - self.start

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stops the clock for as long as the block lasts."""
        paused = self.now()
        try:
            yield
        finally:
            self.start += self.now() - paused

    @property
    def is_measured(self) -> bool:
        """Whether the share depends on the time that this process measures."""
        return self.is_timed and self.replay is None

    def share(self, taken: int = 0) -> float:
        """Returns the share that is done after `taken` steps more than `progress` has counted, as this process sees
        it."""
        by_steps = (self.progress.step + taken) / self.steps
        if not self.is_timed:
            return by_steps
        if self.replay is not None:
            step = self.progress.total_steps + taken
            return self.replay[step] if step < len(self.replay) else 1.0
        return min(max(by_steps, self.progress.seconds / self.budget), 1.0)

    def is_over(self, taken: int = 0) -> bool:
        """Returns whether the time is up after `taken` steps more than `progress` has counted."""
        if self.replay is not None:
            return self.progress.total_steps + taken >= len(self.replay)
        return self.progress.seconds > self.budget
