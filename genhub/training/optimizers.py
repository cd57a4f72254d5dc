"""What PyTorch lacks for training in minutes: Muon for convolutions, and a learning rate that follows the time."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration (Jordan et al. 2024)


class Muon(AdamW):
    """Momentum whose updates are made orthogonal (Jordan et al. 2024, *Muon*, kellerjordan.github.io/posts/muon).

    Matrices, and convolutions flattened after their first dimension, move by U V^T, where U S V^T is their momentum,
    scaled to the update of AdamW (Liu et al. 2025, arXiv 2502.16982, Sec. 2.2). Vectors, and weights with few channels
    on one side, as of small embeddings or between pixels and features, are left to AdamW. `torch.optim.Muon` takes
    matrices only, and one at a time; here those of one shape are iterated on together.

    Args:
        lr: learning rate of the orthogonalised weights.
        momentum: Nesterov momentum of their gradients.
        weight_decay: decoupled (Loshchilov & Hutter 2017, arXiv 1711.05101).
        adamw_lr, adamw_betas: of all other weights.
        min_channels: least number of inputs and outputs of an orthogonalised weight.
        linear: whether the weights of linear layers are orthogonalised, too.
        ns_steps: number of Newton-Schulz iterations.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.01,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        adamw_lr: float = 2e-3,
        adamw_betas: tuple[float, float] = (0.9, 0.99),
        min_channels: int = 32,
        linear: bool = True,
        ns_steps: int = 5,
    ):
        for name, value in (("lr", lr), ("adamw_lr", adamw_lr), ("weight_decay", weight_decay)):
            if value < 0:
                raise ValueError(f"`{name}` must be at least 0, got {value}.")
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must lie in [0, 1), got {momentum}.")
        if not all(0 <= beta < 1 for beta in adamw_betas):
            raise ValueError(f"`adamw_betas` must lie in [0, 1), got {adamw_betas}.")
        if ns_steps < 1:
            raise ValueError(f"`ns_steps` must be at least 1, got {ns_steps}.")
        self.ns_steps = ns_steps
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for parameter in params:
            is_wide = parameter.ndim > 1 and min(parameter.shape[:2]) >= min_channels
            groups[is_wide and (linear or parameter.ndim > 2)].append(parameter)
        orthogonal = {"params": groups[True], "lr": lr, "momentum": momentum, "orthogonal": True}
        others = {"params": groups[False], "orthogonal": False}
        present = [group for group in (orthogonal, others) if group["params"]]
        super().__init__(present, adamw_lr, adamw_betas, weight_decay=weight_decay, fused=True)
        self._step_supports_amp_scaling = False  # a gradient scaler skips the whole step, not AdamW's part alone

    def __setstate__(self, state: dict[str, Any]):
        Optimizer.__setstate__(self, state)  # AdamW's looks for a count of steps in every state

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Takes one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        hidden = []  # from AdamW, which passes over weights without a gradient
        for group in self.param_groups:
            moving = [weight for weight in group["params"] if weight.grad is not None]
            if group["orthogonal"] and moving:
                gradients = [cast(Tensor, weight.grad) for weight in moving]
                hidden += zip(moving, gradients, strict=True)
                self._step_orthogonal(moving, gradients, group)
        for weight, _ in hidden:
            weight.grad = None
        super().step()
        for weight, gradient in hidden:
            weight.grad = gradient
        return loss

    def _step_orthogonal(self, weights: list[nn.Parameter], gradients: list[Tensor], group: dict[str, Any]):
        gradients = [as_matrix(gradient, like=weight) for weight, gradient in zip(weights, gradients, strict=True)]
        momenta = [self._momentum(weight) for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = list(torch._foreach_lerp(gradients, momenta, group["momentum"]))  # Nesterov's
        by_shape = defaultdict(list)
        for index, update in enumerate(updates):
            by_shape[update.shape].append(index)
        for (rows, columns), alike in by_shape.items():
            scale = 0.2 * max(rows, columns) ** 0.5  # the root mean square of AdamW's updates
            orthogonal = orthogonalise(torch.stack([updates[index] for index in alike]), self.ns_steps).mul_(scale)
            for index, update in zip(alike, orthogonal, strict=True):
                updates[index] = update
        matrices = [as_matrix(weight, like=weight) for weight in weights]
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(matrices, updates, alpha=-group["lr"])

    def _momentum(self, weight: Tensor) -> Tensor:
        """Returns the momentum of a weight, as a matrix."""
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)  # in the memory format of the weight
        return as_matrix(state["momentum"], like=weight)


def as_matrix(weight: Tensor, like: Tensor) -> Tensor:
    """Returns a weight as a matrix (rows, rest), whose columns have the order of the memory of `like`."""
    if like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last):
        weight = weight.permute(0, 2, 3, 1)
    return weight.reshape(len(weight), -1)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Moves the singular values of matrices (N, R, C) to about 1, by a Newton-Schulz iteration (Jordan et al. 2024).

    Every factor of the iteration is a polynomial of the first Gram matrix. So the iteration is on the small Gram
    matrices alone, which commute, and meets the matrices only at its ends: half of the arithmetic for matrices that
    are five times as wide as high.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    gram, product = x @ x.mT, None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else factor @ product
        if step < steps - 1:
            gram = factor @ gram @ factor
    x = x if product is None else product @ x
    return x.mT if is_tall else x


class LinearDecay(LRScheduler):
    """A learning rate that depends on the share of training that is done, of steps or of `training.max_minutes`.

    The rates of the optimizer rise linearly from 0 over the first `warmup` of training, then fall linearly to 0 at
    its end.

    Args:
        warmup: share of training.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.01):
        if not 0 <= warmup < 1:
            raise ValueError(f"`warmup` must lie in [0, 1), got {warmup}.")
        self.warmup, self.share = warmup, 0.0
        super().__init__(optimizer)

    def move_to(self, share: float):
        """Sets the rates for `share` of training, in [0, 1]."""
        self.share = share
        self._last_lr: list[float | Tensor] = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def get_lr(self) -> list[float | Tensor]:
        rising = min(self.share / self.warmup, 1.0) if self.warmup else 1.0
        return [rate * rising * (1 - self.share) for rate in self.base_lrs]
