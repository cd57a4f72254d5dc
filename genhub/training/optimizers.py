"""What PyTorch lacks for training in minutes: Muon for convolutions, and a learning rate that follows the time."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw
from torch.optim.lr_scheduler import LRScheduler

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration (Jordan et al. 2024)


class Muon(Optimizer):
    """Momentum whose updates are made orthogonal (Jordan et al. 2024, *Muon*, kellerjordan.github.io/posts/muon).

    Matrices, and convolutions flattened to (out, in x height x width), move by U V^T, where U S V^T is their momentum,
    scaled to the update of AdamW (Liu et al. 2025, arXiv 2502.16982, Sec. 2.2). Vectors, embeddings and convolutions
    with few channels on one side, as between pixels and features, are left to AdamW. `torch.optim.Muon` takes matrices
    only, and one at a time; here those of one shape are iterated on together.

    Args:
        lr: of what is made orthogonal.
        momentum: of Nesterov's kind.
        weight_decay: decoupled (Loshchilov & Hutter 2017, arXiv 1711.05101).
        adamw_lr, adamw_betas: for the rest.
        min_channels: least height and width of a matrix that is made orthogonal.
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
        ns_steps: int = 5,
    ):
        for name, value in (("lr", lr), ("weight_decay", weight_decay), ("adamw_lr", adamw_lr)):
            if value < 0:
                raise ValueError(f"`{name}` must be at least 0, got {value}.")
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must lie in [0, 1), got {momentum}.")
        if not all(0 <= beta < 1 for beta in adamw_betas):
            raise ValueError(f"`adamw_betas` must lie in [0, 1), got {adamw_betas}.")
        if ns_steps < 1:
            raise ValueError(f"`ns_steps` must be at least 1, got {ns_steps}.")
        self.ns_steps = ns_steps
        groups = {True: [], False: []}
        for parameter in params:
            groups[is_matrix(parameter, min_channels)].append(parameter)
        orthogonal = {"params": groups[True], "lr": lr, "orthogonal": True}
        rest = {"params": groups[False], "lr": adamw_lr, "orthogonal": False}
        rest["fused"] = True  # then `load_state_dict` keeps the count of steps on the device of its parameter
        defaults = {"momentum": momentum, "weight_decay": weight_decay, "betas": adamw_betas, "eps": 1e-8}
        super().__init__([group for group in (orthogonal, rest) if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure=None):
        """Takes one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            (self._step_orthogonal if group["orthogonal"] else self._step_adamw)(parameters, group)
        return loss

    def _step_orthogonal(self, parameters: list[nn.Parameter], group: dict):
        by_shape = defaultdict(list)
        for parameter in parameters:
            by_shape[parameter.flatten(1).shape].append(parameter)
        for (rows, columns), alike in by_shape.items():
            gradients = torch.stack([parameter.grad.flatten(1) for parameter in alike])
            momenta = torch.stack([self._momentum(parameter) for parameter in alike])
            momenta.lerp_(gradients, 1 - group["momentum"])
            updates = orthogonalise(gradients.lerp(momenta, group["momentum"]), self.ns_steps)
            scale = 0.2 * max(rows, columns) ** 0.5  # the root mean square of AdamW's updates
            for parameter, momentum, update in zip(alike, momenta, updates, strict=True):
                self.state[parameter]["momentum"].copy_(momentum)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """Returns the momentum of a parameter, flattened."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter.flatten(1))
        return state["momentum"]

    def _step_adamw(self, parameters: list[nn.Parameter], group: dict):
        for parameter in parameters:
            if not self.state[parameter]:
                like = {"memory_format": torch.preserve_format}
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, **like),
                    "exp_avg_sq": torch.zeros_like(parameter, **like),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def is_matrix(parameter: Tensor, min_channels: int) -> bool:
    """Returns whether Muon makes the updates of a parameter orthogonal."""
    return parameter.ndim > 1 and min(parameter.shape[:2]) >= min_channels


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Moves the singular values of matrices (N, R, C) to about 1 by Newton-Schulz iterations (Jordan et al. 2024)."""
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x.bfloat16() if x.is_cuda else x
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)


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
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = self.get_lr()

    def get_lr(self) -> list[float]:
        rising = min(self.share / self.warmup, 1.0) if self.warmup else 1.0
        return [rate * rising * (1 - self.share) for rate in self.base_lrs]
