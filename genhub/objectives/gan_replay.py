"""Experience replay: the discriminator meets old fakes again, and so does not forget what it knew of them (Géron,
*Hands-On Machine Learning*, 3rd ed., ch. 17; Shrivastava et al. 2017, arXiv 1612.07828, Sec. 2.3)."""

import math
import os

import torch

from genhub.objectives.objective import Step


class Replay:
    """The fakes of the last steps: place i of the global batch remembers what was made at place i, so that neither the
    number of processes nor accumulation changes what is replayed.

    Args:
        steps: how many steps are remembered; 0 for none.
        share: of the fakes that are shown, those which are old.
    """

    def __init__(self, steps: int, share: float):
        if steps < 0:
            raise ValueError(f"`replay_steps` must be at least 0, got {steps}.")
        if not 0 <= share <= 1:
            raise ValueError(f"`replay_share` must lie in [0, 1], got {share}.")
        self.steps, self.share = steps, share
        self.fakes: torch.Tensor | None = None  # (B, S, C, H, W), of which a process fills its own places
        self.labels: torch.Tensor | None = None  # (B, S)

    def check(self, batch_size: int, shape: tuple[int, ...], memory: int):
        """Refuses to remember more than half of `memory`, in bytes, holds.

        Raises:
            ValueError: that much does not fit.
        """
        needed = self.steps * batch_size * math.prod(shape) * 2
        if needed > memory / 2:
            raise ValueError(
                f"`replay_steps` must be at most {int(self.steps * memory / 2 / needed)}, half of the memory that "
                f"there is, got {self.steps}, {needed / 2**30:.1f} GiB."
            )

    def show(self, fake: torch.Tensor, labels: torch.Tensor | None, step: Step):
        """Remembers `fake` (B, C, H, W), without gradients, and returns what to show in its place, with its labels."""
        if not self.steps:
            return fake, labels
        rows, total = step.random.rows, step.random.total
        if self.fakes is None:
            self.fakes = torch.zeros(total, self.steps, *fake.shape[1:], dtype=torch.float16, device=fake.device)
            self.labels = torch.zeros(total, self.steps, dtype=torch.long, device=fake.device)
        mine, kept = slice(rows.start, rows.stop), min(step.index, self.steps)
        chance, place = step.random.rand(2).unbind(1)  # (B,) each
        if kept:
            slots, each = (place * kept).long(), torch.arange(rows.start, rows.stop, device=fake.device)
            is_old = chance < self.share
            shown = torch.where(is_old[:, None, None, None], self.fakes[each, slots].to(fake), fake)
            shown_labels = None if labels is None else torch.where(is_old, self.labels[each, slots], labels)
        else:
            shown, shown_labels = fake, labels
        slot = step.index % self.steps
        self.fakes[mine, slot] = fake.to(self.fakes.dtype)
        if labels is not None:
            self.labels[mine, slot] = labels
        return shown, shown_labels

    def state_dict(self) -> dict:
        return {} if self.fakes is None else {"fakes": self.fakes, "labels": self.labels}

    def load_state_dict(self, state: dict, device: torch.device | str = "cpu"):
        self.fakes, self.labels = (state[k].to(device) if k in state else None for k in ("fakes", "labels"))


def memory_of(device: torch.device) -> int:
    """Returns the bytes of memory that one of this machine's processes has on `device`."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
