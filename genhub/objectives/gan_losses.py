"""GAN losses, as functions of the discriminator's scores (B,)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

Scores = torch.Tensor  # (B,): logits of "real", or the values of a Wasserstein critic


@dataclass(frozen=True)
class GANLoss:
    """The losses of both networks, means over the batch.

    Args:
        real: (scores of real images, label of "real") -> discriminator loss on real images.
        fake: scores of fakes -> discriminator loss on fakes.
        generator: scores of fakes -> generator loss.
        probability: maps scores to P(real) in [0, 1]; None for a Wasserstein critic.
        has_labels: whether the label of "real" is a number that can be smoothed.
    """

    real: Callable[[Scores, float], torch.Tensor]
    fake: Callable[[Scores], torch.Tensor]
    generator: Callable[[Scores], torch.Tensor]
    probability: Callable[[Scores], torch.Tensor] | None = torch.sigmoid
    has_labels: bool = False


def cross_entropy(scores: Scores, label: float) -> torch.Tensor:
    """Returns the binary cross-entropy of logits against a label in [0, 1]."""
    return label * F.softplus(-scores).mean() + (1 - label) * F.softplus(scores).mean()


GAN_LOSSES = {
    # The book's: one mean over a batch that is half real, half fake
    "binary_cross_entropy": GANLoss(
        real=lambda scores, label: cross_entropy(scores, label) / 2,
        fake=lambda scores: cross_entropy(scores, 0.0) / 2,
        generator=lambda scores: cross_entropy(scores, 1.0),
        has_labels=True,
    ),
    # Goodfellow et al. 2014 (arXiv 1406.2661), Eq. 1 for the discriminator; for the generator the end of Sec. 3
    "non_saturating": GANLoss(
        real=cross_entropy,
        fake=lambda scores: cross_entropy(scores, 0.0),
        generator=lambda scores: cross_entropy(scores, 1.0),
        has_labels=True,
    ),
    # Mao et al. 2016 (arXiv 1611.04076), Eq. 9
    "least_squares": GANLoss(
        real=lambda scores, label: (scores - label).square().mean() / 2,
        fake=lambda scores: scores.square().mean() / 2,
        generator=lambda scores: (scores - 1).square().mean() / 2,
        probability=lambda scores: scores.clamp(0, 1),
        has_labels=True,
    ),
    # Lim & Ye 2017 (arXiv 1705.02894); Miyato et al. 2018 (arXiv 1802.05957), Eqs 16 and 17
    "hinge": GANLoss(
        real=lambda scores, label: F.relu(1 - scores).mean(),
        fake=lambda scores: F.relu(1 + scores).mean(),
        generator=lambda scores: -scores.mean(),
        probability=lambda scores: (scores.clamp(-1, 1) + 1) / 2,
    ),
    # Arjovsky et al. 2017 (arXiv 1701.07875), Algorithm 1; gradients must be bounded, e.g. by a gradient penalty
    "wasserstein": GANLoss(
        real=lambda scores, label: -scores.mean(),
        fake=lambda scores: scores.mean(),
        generator=lambda scores: -scores.mean(),
        probability=None,
    ),
}


def choose_loss(name: str, label_smoothing: float, augmentation_target: float | None) -> GANLoss:
    """Returns a loss by its name, if it allows label smoothing and adaptive augmentation where these are set."""
    if name not in GAN_LOSSES:
        raise ValueError(f"`loss` must be one of {', '.join(GAN_LOSSES)}, got {name!r}.")
    loss = GAN_LOSSES[name]
    if not 0 <= label_smoothing < 1 or (label_smoothing and not loss.has_labels):
        raise ValueError(f"`label_smoothing` must lie in [0, 1), and be 0 for {name}, got {label_smoothing}.")
    if augmentation_target is not None and loss.probability is None:
        raise ValueError(f"`augmentation_target` must be unset for {name}, whose scores say nothing by their sign.")
    return loss
