"""What the two players of an adversarial game want, as functions of the discriminator's scores (B,)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

Scores = torch.Tensor  # (B,): logits of "real", or a critic's values


@dataclass(frozen=True)
class Game:
    """A loss for each role, each a mean over the batch.

    Args:
        real: (scores of real images, label of real) -> what the discriminator loses to them.
        fake: scores of fakes -> what the discriminator loses to them.
        fool: scores of fakes -> what the generator loses.
        reading: scores -> what the discriminator takes to be the probability of "real", in [0, 1]; None for a critic,
            which has no such opinion.
        has_labels: whether "real" is a number that can be smoothed.
    """

    real: Callable[[Scores, float], torch.Tensor]
    fake: Callable[[Scores], torch.Tensor]
    fool: Callable[[Scores], torch.Tensor]
    reading: Callable[[Scores], torch.Tensor] | None = torch.sigmoid
    has_labels: bool = False


def cross_entropy(scores: Scores, label: float) -> torch.Tensor:
    """Binary cross-entropy of logits against a label in [0, 1]."""
    return label * F.softplus(-scores).mean() + (1 - label) * F.softplus(scores).mean()


GAN_LOSSES = {
    # The book's: one mean over a batch that is half real, half fake
    "binary_cross_entropy": Game(
        real=lambda scores, label: cross_entropy(scores, label) / 2,
        fake=lambda scores: cross_entropy(scores, 0.0) / 2,
        fool=lambda scores: cross_entropy(scores, 1.0),
        has_labels=True,
    ),
    # Goodfellow et al. 2014 (arXiv 1406.2661), Eq. 1 for the discriminator; for the generator the end of Sec. 3
    "non_saturating": Game(
        real=cross_entropy,
        fake=lambda scores: cross_entropy(scores, 0.0),
        fool=lambda scores: cross_entropy(scores, 1.0),
        has_labels=True,
    ),
    # Mao et al. 2016 (arXiv 1611.04076), Eq. 9
    "least_squares": Game(
        real=lambda scores, label: (scores - label).square().mean() / 2,
        fake=lambda scores: scores.square().mean() / 2,
        fool=lambda scores: (scores - 1).square().mean() / 2,
        reading=lambda scores: scores.clamp(0, 1),
        has_labels=True,
    ),
    # Lim & Ye 2017 (arXiv 1705.02894); Miyato et al. 2018 (arXiv 1802.05957), Eqs 16 and 17
    "hinge": Game(
        real=lambda scores, label: F.relu(1 - scores).mean(),
        fake=lambda scores: F.relu(1 + scores).mean(),
        fool=lambda scores: -scores.mean(),
        reading=lambda scores: (scores.clamp(-1, 1) + 1) / 2,
    ),
    # Arjovsky et al. 2017 (arXiv 1701.07875), Algorithm 1; it needs a bound on gradients, such as a gradient penalty
    "wasserstein": Game(
        real=lambda scores, label: -scores.mean(),
        fake=lambda scores: scores.mean(),
        fool=lambda scores: -scores.mean(),
        reading=None,
    ),
}
