"""Memorisation: whether generated images are nearer to training images than new real images are."""

import math
from dataclasses import dataclass

import torch

from genhub.evaluation.metrics import squared_distances

CANDIDATES = 8  # nearest rows of a query, whose distances are computed again without cancellation
QUANTILE = 0.01  # of the test images' distances, below which an image is near
SUSPECT = 0.02  # share of near images


@dataclass(frozen=True)
class Memorisation:
    """Nearest training images of N generated images, compared with those of the test images.

    Args:
        near: share of the generated images nearer to a training image than the 1 % quantile of the test images;
            0.01 is expected, above 0.02 is suspect.
        copies: share of the generated images nearer to a training image than that one is to its own nearest
            (Alaa et al. 2022, arXiv 2102.08921, Sec. 4: one minus authenticity).
        test_copies: the same share of the test images, for comparison.
        duplicates: number of generated images that equal a training image in all pixels; None if distances are not of
            pixels.
        closest: indices of the generated images nearest to a training image, nearest first, and of these training
            images, (16,) each.
        distance: of the `closest` pairs, (16,).
        images: number of generated images, N.
    """

    near: float
    copies: float
    test_copies: float
    duplicates: int | None
    closest: tuple[torch.Tensor, torch.Tensor]
    distance: torch.Tensor
    images: int

    @property
    def is_suspect(self) -> bool:
        """Whether more than twice the expected share is near to training images, by two standard errors."""
        standard_error = math.sqrt(self.near * (1 - self.near) / self.images)
        return self.near > SUSPECT and self.near - 2 * standard_error > QUANTILE

    def to_dict(self) -> dict:
        """Returns the numbers as JSON stores them."""
        return {
            "near": self.near,
            "copies": self.copies,
            "test_copies": self.test_copies,
            "duplicates": self.duplicates,
            "suspect": self.is_suspect,
            "closest_distance": [round(distance, 4) for distance in self.distance.tolist()],
        }


def nearest(
    queries: torch.Tensor, base: torch.Tensor, own: torch.Tensor | None = None, block: int = 500
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns distance and index of the row of `base` (M, K) nearest to each of `queries` (N, K), (N,) each.

    Args:
        own: index in `base` of each query itself, which is excluded.
    """
    distances, indices = [], []
    for start in range(0, len(queries), block):
        rows = queries[start : start + block]
        squared = squared_distances(rows, base)
        if own is not None:
            squared.scatter_(1, own[start : start + block, None], torch.inf)
        # matrix products cancel: equal rows must have distance 0, and win over almost equal ones
        rough, candidates = squared.topk(min(CANDIDATES, len(base)), largest=False)  # (b, c)
        exact = (rows[:, None].double() - base[candidates].double()).norm(dim=2)
        distance, first = exact.masked_fill(rough.isinf(), torch.inf).min(1)
        distances.append(distance)
        indices.append(candidates.gather(1, first[:, None]).squeeze(1))
    return torch.cat(distances), torch.cat(indices)


def memorisation(generated: torch.Tensor, train: torch.Tensor, test: torch.Tensor, closest: int = 16) -> Memorisation:
    """Compares `generated` (N, K), pixels in [0, 1] or features, with those of the training and the test images."""
    return report(*nearest(generated, train), *nearest(test, train), train, closest)


def report(
    distance: torch.Tensor,
    index: torch.Tensor,
    test_distance: torch.Tensor,
    test_index: torch.Tensor,
    train: torch.Tensor,
    closest: int = 16,
) -> Memorisation:
    """Returns the report, given distance and index in `train` of the image nearest to each generated, and to each
    test image."""
    used = torch.cat([index, test_index]).unique()
    spacing = torch.full((len(train),), torch.inf, dtype=torch.float64)  # from a training image to its own nearest
    spacing[used] = nearest(train[used], train, own=used)[0]
    first = distance.argsort(stable=True)[:closest]
    return Memorisation(
        near=(distance < test_distance.quantile(QUANTILE)).double().mean().item(),
        copies=(distance < spacing[index]).double().mean().item(),
        test_copies=(test_distance < spacing[test_index]).double().mean().item(),
        duplicates=int((distance == 0).sum()),
        closest=(first, index[first]),
        distance=distance[first],
        images=len(distance),
    )
