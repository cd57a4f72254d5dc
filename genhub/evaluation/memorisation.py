"""Whether a generator copies: how near its images lie to those that it was trained on, against how near new real ones
do."""

import math
from dataclasses import dataclass

import torch

from genhub.evaluation.metrics import squared_distances

CANDIDATES = 8  # rows near a query, whose distances are worked out without rounding


@dataclass(frozen=True)
class Memorisation:
    """What the nearest training images say about N generated ones and about the test images.

    Args:
        near: share of the generated images nearer to a training image than the 1 % quantile of the test images;
            0.01 is expected, above 0.02 is suspect.
        copies: share of the generated images nearer to a training image than that one is to its own nearest
            (Alaa et al. 2022, arXiv 2102.08921, Sec. 4: one minus authenticity).
        test_copies: the same of the test images, which is what to expect.
        duplicates: number of generated images that are a training image, pixel by pixel; None where distances are not
            of pixels.
        closest: the generated images nearest to a training image, nearest first, and these images, (16,) each.
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
        """Whether more than twice as many images as expected are near to training images, and not by chance."""
        standard_error = math.sqrt(self.near * (1 - self.near) / self.images)
        return self.near > 0.02 and self.near - 2 * standard_error > 0.01

    def to_dict(self) -> dict:
        """Returns the numbers as JSON has them."""
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
    """Returns distance and place of the row of `base` (M, K) that is nearest to each of `queries` (N, K), (N,) each.

    Args:
        own: place in `base` of each query itself, which does not count.
    """
    distances, places = [], []
    for start in range(0, len(queries), block):
        part = queries[start : start + block]
        apart = squared_distances(part, base)
        if own is not None:
            apart.scatter_(1, own[start : start + block, None], torch.inf)
        # the products above are rounded: what is equal must be at distance 0, and win over what is almost equal
        rough, candidates = apart.topk(min(CANDIDATES, len(base)), largest=False)  # (b, c)
        exact = (part[:, None].double() - base[candidates].double()).norm(dim=2)
        distance, first = exact.masked_fill(rough.isinf(), torch.inf).min(1)
        distances.append(distance)
        places.append(candidates.gather(1, first[:, None]).squeeze(1))
    return torch.cat(distances), torch.cat(places)


def memorisation(generated: torch.Tensor, train: torch.Tensor, test: torch.Tensor, closest: int = 16) -> Memorisation:
    """Examines `generated` (N, K), pixels in [0, 1] or features, against those of the training and the test images."""
    distance, place = nearest(generated, train)
    test_distance, test_place = nearest(test, train)
    return report(distance, place, test_distance, test_place, train, closest)


def report(
    distance: torch.Tensor,
    place: torch.Tensor,
    test_distance: torch.Tensor,
    test_place: torch.Tensor,
    train: torch.Tensor,
    closest: int = 16,
) -> Memorisation:
    """Draws the conclusions from the nearest training images of generated and of test images."""
    asked = torch.cat([place, test_place]).unique()
    spacing = torch.full((len(train),), torch.inf, dtype=torch.float64)
    spacing[asked] = nearest(train[asked], train, own=asked)[0]
    first = distance.argsort(stable=True)[:closest]
    return Memorisation(
        near=(distance < test_distance.quantile(0.01)).double().mean().item(),
        copies=(distance < spacing[place]).double().mean().item(),
        test_copies=(test_distance < spacing[test_place]).double().mean().item(),
        duplicates=int((distance == 0).sum()),
        closest=(first, place[first]),
        distance=distance[first],
        images=len(distance),
    )
