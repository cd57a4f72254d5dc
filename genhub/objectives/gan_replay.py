"""Experience replay: the discriminator also sees fakes of earlier steps, so that it does not forget them (Géron,
*Hands-On Machine Learning*, 3rd ed., ch. 17; Shrivastava et al. 2017, arXiv 1612.07828, Sec. 2.3)."""

import math
import os

import torch

from genhub.objectives.objective import Step
from genhub.utils.memory import physical_memory


class Replay:
    """Stores the fakes of the last steps, one slot per step for each row of the global batch.

    Row i replays only fakes that were made at row i, so neither the number of processes nor accumulation changes what
    is replayed.

    Args:
        steps: number of steps whose fakes are stored; 0 for no replay.
        share: probability that a fake is replaced by a stored one.
    """

    def __init__(self, steps: int, share: float):
        if steps < 0:
            raise ValueError(f"`replay_steps` must be at least 0, got {steps}.")
        if not 0 <= share <= 1:
            raise ValueError(f"`replay_share` must lie in [0, 1], got {share}.")
        self.steps, self.share = steps, share
        self.fakes: torch.Tensor | None = None  # (B, S, C, H, W) in half precision; a process fills its own rows
        self.labels: torch.Tensor | None = None  # (B, S)

    def check_memory(self, batch_size: int, shape: tuple[int, ...], memory: int) -> None:
        """Checks that the stored fakes, of `shape` (C, H, W), take at most half of `memory` bytes.

        Raises:
            ValueError: they take more.
        """
        needed = self.steps * batch_size * math.prod(shape) * 2
        if needed > memory / 2:
            raise ValueError(
                f"`replay_steps` must be at most {int(self.steps * memory / 2 / needed)}, for half of the memory of "
                f"{memory / 2**30:.1f} GiB, got {self.steps}, for {needed / 2**30:.1f} GiB."
            )

    def replace(
        self, fake: torch.Tensor, labels: torch.Tensor | None, step: Step
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Stores `fake` (B, C, H, W) with its labels (B,), and returns both with some rows replaced by stored ones."""
        if not self.steps:
            return fake, labels
        first, stop = step.random.rows.start, step.random.rows.stop
        if self.fakes is None or self.labels is None:
            total = step.random.total
            self.fakes = torch.zeros(total, self.steps, *fake.shape[1:], dtype=torch.float16, device=fake.device)
            self.labels = torch.zeros(total, self.steps, dtype=torch.long, device=fake.device)

        replayed, replayed_labels, filled = fake, labels, min(step.index, self.steps)
        chance, position = step.random.rand(2).unbind(1)  # (B,) each
        if filled:
            rows, slots = torch.arange(first, stop, device=fake.device), (position * filled).long()
            is_old = chance < self.share
            replayed = torch.where(is_old[:, None, None, None], self.fakes[rows, slots].to(fake), fake)
            if labels is not None:
                replayed_labels = torch.where(is_old, self.labels[rows, slots], labels)

        slot = step.index % self.steps
        self.fakes[first:stop, slot] = fake.to(self.fakes.dtype)
        if labels is not None:
            self.labels[first:stop, slot] = labels
        return replayed, replayed_labels

    def state_dict(self) -> dict:
        return {} if self.fakes is None else {"fakes": self.fakes, "labels": self.labels}

    def load_state_dict(self, state: dict, device: torch.device | str = "cpu") -> None:
        if "fakes" in state:
            self.fakes, self.labels = state["fakes"].to(device), state["labels"].to(device)
        else:
            self.fakes = self.labels = None


def memory_per_process(device: torch.device) -> int:
    """Returns the bytes of memory on `device` for each process of this machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return physical_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
