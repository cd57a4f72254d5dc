"""What a discriminator pays for its slope and for its scores."""

from collections.abc import Callable

import torch

from genhub.objectives.objective import Step

Critic = Callable[[torch.Tensor], torch.Tensor]  # images (B, C, H, W) -> scores (B,)


class Penalty:
    """A term of the discriminator's phase, due in every step with an index divisible by `every`."""

    name: str
    every = 1  # called with the critic, real images and fakes (B, C, H, W), the scores of the real ones (B,), the step

    def __init__(self, weight: float):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"`{self.name}_weight` must be at least 0 and finite, got {weight}.")
        self.weight = weight


class R1Penalty(Penalty):
    """weight / 2 E|grad D(x)|^2 at real x (Mescheder et al. 2018, arXiv 1801.04406, Eq. 9), `every` times as strong in
    one step of `every`."""

    name = "r1"

    def __init__(self, weight: float, every: int):
        super().__init__(weight)
        self.every = every

    def __call__(self, critic: Critic, real: torch.Tensor, fake: torch.Tensor, scores: torch.Tensor, step: Step):
        return self.every * self.weight / 2 * gradients(critic, real).square().sum(1).mean()


class GradientPenalty(Penalty):
    """weight E(|grad D(x)| - 1)^2 at random places between real images and fakes (Gulrajani et al. 2017, arXiv
    1704.00028, Eq. 3)."""

    name = "gradient_penalty"

    def __call__(self, critic: Critic, real: torch.Tensor, fake: torch.Tensor, scores: torch.Tensor, step: Step):
        between = torch.lerp(fake.to(real.dtype), real, step.random.rand(1, 1, 1))
        return self.weight * (gradients(critic, between).norm(dim=1) - 1).square().mean()


class Drift(Penalty):
    """weight E[D(x)^2] at real x, which keeps a critic's values near zero (Karras et al. 2017, arXiv 1710.10196, App.
    A.1)."""

    name = "drift"

    def __call__(self, critic: Critic, real: torch.Tensor, fake: torch.Tensor, scores: torch.Tensor, step: Step):
        return self.weight * scores.square().mean()


def gradients(critic: Critic, images: torch.Tensor) -> torch.Tensor:
    """Returns the gradients of scores by images, (B, C H W), with their graph."""
    images = images.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return slope.flatten(1)
