"""Regularisers of the discriminator: R1, gradient penalty, drift."""

from collections.abc import Callable

import torch

from genhub.objectives.objective import Step

Critic = Callable[[torch.Tensor], torch.Tensor]  # images (B, C, H, W) -> scores (B,)


class Penalty:
    """A term of the discriminator's loss in every step whose index is divisible by `every`.

    Called with the discriminator, real images and fakes (B, C, H, W), the scores (B,) of the real ones, and the step.
    """

    name: str
    every = 1

    def __init__(self, weight: float):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"`{self.name}_weight` must be at least 0 and finite, got {weight}.")
        self.weight = weight

    def __call__(
        self, critic: Critic, real: torch.Tensor, fake: torch.Tensor, real_scores: torch.Tensor, step: Step
    ) -> torch.Tensor:
        raise NotImplementedError


class R1Penalty(Penalty):
    """weight / 2 E|grad D(x)|^2 at real x (Mescheder et al. 2018, arXiv 1801.04406, Eq. 9), computed in one step of
    `every` and multiplied by `every`."""

    name = "r1"

    def __init__(self, weight: float, every: int):
        super().__init__(weight)
        if every < 1:
            raise ValueError(f"`r1_every` must be at least 1, got {every}.")
        self.every = every

    def __call__(self, critic, real, fake, real_scores, step) -> torch.Tensor:
        return self.every * self.weight / 2 * input_gradients(critic, real).square().sum(1).mean()


class GradientPenalty(Penalty):
    """weight E(|grad D(x)| - 1)^2 at random points between real images and fakes (Gulrajani et al. 2017, arXiv
    1704.00028, Eq. 3)."""

    name = "gradient_penalty"

    def __call__(self, critic, real, fake, real_scores, step) -> torch.Tensor:
        between = torch.lerp(fake.to(real.dtype), real, step.random.rand(1, 1, 1))
        return self.weight * (input_gradients(critic, between).norm(dim=1) - 1).square().mean()


class DriftPenalty(Penalty):
    """weight E[D(x)^2] at real x, which keeps a critic's values near zero (Karras et al. 2017, arXiv 1710.10196, App.
    A.1)."""

    name = "drift"

    def __call__(self, critic, real, fake, real_scores, step) -> torch.Tensor:
        return self.weight * real_scores.square().mean()


def make_penalties(
    r1_weight: float, r1_every: int, gradient_penalty_weight: float, drift_weight: float
) -> list[Penalty]:
    """Returns the penalties of weight above 0."""
    penalties = [R1Penalty(r1_weight, r1_every), GradientPenalty(gradient_penalty_weight), DriftPenalty(drift_weight)]
    return [penalty for penalty in penalties if penalty.weight]


def input_gradients(critic: Critic, images: torch.Tensor) -> torch.Tensor:
    """Returns the gradients of the scores with respect to the images, (B, C H W), with their graph."""
    images = images.detach().requires_grad_()
    (gradients,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return gradients.flatten(1)
