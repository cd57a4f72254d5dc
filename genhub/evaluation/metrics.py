"""Distances between two sets of images, given their features (N, K).

Everything is computed in float64 with generators of its own, so a result is a function of features and seed.
tests/evaluation/test_metrics.py compares with SciPy, torchmetrics and prdc.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from genhub.utils.randomness import keyed_generator


@dataclass(frozen=True)
class Gaussian:
    """The normal distribution with the moments of some features."""

    mean: torch.Tensor  # (K,)
    covariance: torch.Tensor  # (K, K), unbiased

    @classmethod
    def fit(cls, features: torch.Tensor) -> "Gaussian":
        """Returns the moments of `features` (N, K).

        Raises:
            ValueError: N is not above K, so that the covariance would be singular.
        """
        if len(features) <= features.shape[1]:
            raise ValueError(
                f"There must be at least {features.shape[1] + 1} images for the covariance of "
                f"{features.shape[1]} features, got {len(features)}."
            )
        features = features.double()
        return cls(features.mean(0), features.T.cov())


def frechet_distance(p: Gaussian, q: Gaussian) -> float:
    """Returns |m_p - m_q|^2 + tr(S_p + S_q - 2 (S_p^1/2 S_q S_p^1/2)^1/2) (Dowson & Landau 1982, Eq. 16; Heusel et al.
    2017, arXiv 1706.08500, Eq. 6)."""
    values, vectors = torch.linalg.eigh(p.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ q.covariance @ root).clamp(min=0).sqrt().sum()
    offset = (p.mean - q.mean).square().sum()
    return (offset + p.covariance.trace() + q.covariance.trace() - 2 * cross).item()


def over_halves(metric: Callable[[torch.Tensor], float], features: torch.Tensor, draws: int = 20) -> float:
    """Returns the standard error of `metric(features)` by the delete-half jackknife: its sd over random halves (Shao &
    Wu 1989, Eq. 2.2 with d = n / 2)."""
    size, generator = len(features) // 2, keyed_generator("halves")
    halves = (features[torch.randperm(len(features), generator=generator)[:size]] for _ in range(draws))
    return torch.tensor([metric(half) for half in halves], dtype=torch.float64).std().item()


def frechet_distance_at_infinity(real: Gaussian, fake: torch.Tensor, sizes: Sequence[int], draws: int = 5) -> float:
    """Returns the Fréchet distance of infinitely many generated images to the given real ones: the intercept of a line
    in 1 / N through the distances of `draws` random subsets of each of `sizes` (Chong & Forsyth 2020, arXiv
    1911.07023, Sec. 3.2)."""
    generator = keyed_generator("infinity")
    points = [
        (1 / size, frechet_distance(real, Gaussian.fit(fake[torch.randperm(len(fake), generator=generator)[:size]])))
        for size in sizes
        for _ in range(draws)
    ]
    inverse, distance = torch.tensor(points, dtype=torch.float64).T
    design = torch.stack([torch.ones_like(inverse), inverse], 1)  # (P, 2)
    return torch.linalg.lstsq(design, distance[:, None]).solution[0].item()


def sliced_wasserstein_distance(
    real: torch.Tensor, fake: torch.Tensor, directions: int = 1000, seed: int = 0, block: int = 50
) -> float:
    """Returns the mean, over random directions, of the 1-D Wasserstein distance between the projected features: the
    Monge Inception Distance (MIND) with other features than Inception's (Berthet et al. 2026, arXiv 2605.06797).

    Sets of unequal sizes are compared exactly too: the distance is the integral of the difference between two quantile
    functions, both of which are steps.
    """
    n, m = len(real), len(fake)
    ends = torch.cat([m * torch.arange(1, n + 1), n * torch.arange(1, m + 1)]).unique()  # of the steps, in 1 / (n m)
    widths = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)  # (S,)
    steps = ((ends - 1) // m).numpy(), ((ends - 1) // n).numpy()
    units = torch.randn(directions, real.shape[1], generator=keyed_generator("directions", seed), dtype=torch.float64)
    units /= units.norm(dim=1, keepdim=True)  # (D, K)
    sets, distances = (real.double(), fake.double()), []
    for rows in units.split(block):
        ordered = (np.sort((rows @ features.T).numpy(), 1) for features in sets)  # NumPy's sort is ten times as fast
        p, q = (np.take(values, index, 1) for values, index in zip(ordered, steps, strict=True))  # (d, S)
        distances.append(torch.from_numpy(p - q).abs() @ widths)
    return torch.cat(distances).mean().item()


def effective_rank(covariance: torch.Tensor) -> float:
    """Returns the exponential of the entropy of the normalised eigenvalues (Roy & Vetterli 2007): the number of
    directions in which features vary, 1 to K."""
    values = torch.linalg.eigvalsh(covariance).clamp(min=0)
    share = values / values.sum()
    return torch.special.entr(share).sum().exp().item()


def kernel_distance(
    real: torch.Tensor, fake: torch.Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Returns the kernel distance (KID), an unbiased estimate of the squared MMD under (x . y / K + 1)^3, as mean and
    sd over random subsets (Bińkowski et al. 2018, arXiv 1801.01401, Sec. 4)."""
    size = min(subset_size, len(real) // 2, len(fake) // 2)  # larger subsets would be the whole set, without a spread
    if size < 2:
        raise ValueError(f"There must be at least 4 images on each side, got {len(real)} and {len(fake)}.")
    generator = keyed_generator("subsets", seed)

    def draw(features: torch.Tensor) -> torch.Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]].double()

    values = torch.tensor([squared_mmd(draw(real), draw(fake)) for _ in range(subsets)], dtype=torch.float64)
    return values.mean().item(), values.std().item() if subsets > 1 else math.nan


def squared_mmd(x: torch.Tensor, y: torch.Tensor) -> float:
    """Returns the unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, Eq. 3)."""

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def off_diagonal_mean(k: torch.Tensor) -> torch.Tensor:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    return (off_diagonal_mean(kernel(x, x)) + off_diagonal_mean(kernel(y, y)) - 2 * kernel(x, y).mean()).item()


@dataclass(frozen=True)
class Neighbourhoods:
    """Overlap of the k-nearest-neighbour balls of two sets; each a mean over images, with its standard error.

    Args:
        precision: share of the generated images in a ball of a real one (Kynkäänniemi et al. 2019, arXiv 1904.06991,
            Eq. 1-2).
        recall: share of the real images in a ball of a generated one (ibid.).
        density: mean number of real balls that a generated image lies in, over k (Naeem et al. 2020, arXiv 2002.09797,
            Eq. 4); 1 for equal distributions, above 1 if generated images gather where real ones are dense.
        coverage: share of the real balls that hold a generated image (ibid., Eq. 5).
    """

    precision: tuple[float, float]
    recall: tuple[float, float]
    density: tuple[float, float]
    coverage: tuple[float, float]


def neighbourhoods(real: torch.Tensor, fake: torch.Tensor, k: int = 5, block: int = 1000) -> Neighbourhoods:
    """Compares `real` (N, K) and `fake` (M, K) by the balls from each image to its k-th neighbour.

    Raises:
        ValueError: a set has `k` images or fewer.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"There must be more than {k} images on each side, got {len(real)} and {len(fake)}.")
    real, fake = real.double(), fake.double()
    real_radius, fake_radius = kth_distance(real, k, block), kth_distance(fake, k, block)
    holds_fake = torch.zeros(len(real), dtype=torch.bool)
    held = torch.zeros(len(real), dtype=torch.bool)
    balls = []
    for start in range(0, len(fake), block):
        rows = slice(start, start + block)
        squared = squared_distances(fake[rows], real)  # (b, N)
        inside = squared < real_radius
        balls.append(inside.sum(1))
        holds_fake |= inside.any(0)
        held |= (squared < fake_radius[rows, None]).any(0)
    balls = torch.cat(balls).double()  # number of real balls that each generated image lies in
    return Neighbourhoods(mean_of(balls > 0), mean_of(held), mean_of(balls / k), mean_of(holds_fake))


def mean_of(values: torch.Tensor) -> tuple[float, float]:
    """Returns the mean over images, and its standard error."""
    values = values.double()
    return values.mean().item(), values.std().item() / math.sqrt(len(values))


def kth_distance(features: torch.Tensor, k: int, block: int = 1000) -> torch.Tensor:
    """Returns the squared distance from each image to its k-th neighbour, (N,)."""
    rows = [squared_distances(queries, features).kthvalue(k + 1, 1).values for queries in features.split(block)]
    return torch.cat(rows)  # k + 1: an image is its own first neighbour


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns |x_i - y_j|^2, (n, m), by matrix products."""
    products = torch.addmm(y.square().sum(1), x, y.T, alpha=-2)
    return products.add_(x.square().sum(1, keepdim=True)).clamp_(min=0)


def class_balance(probabilities: torch.Tensor) -> float:
    """Returns the KL divergence, in nats, of the predicted classes of `probabilities` (N, K) from the uniform
    distribution."""
    counts = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]).double()
    share = counts / counts.sum()
    return (torch.special.xlogy(share, share).sum() + math.log(len(share))).item()
