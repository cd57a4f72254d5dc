"""How well an autoencoder copies images, how likely it finds them, and what its codes know of their classes.

Images arrive as uint8 (N, C, H, W), on the device of the models; these are callables that see [-1, 1]:
`reconstruct(sample)` returns images, `encode(sample)` the posterior q(z|x), and `log_likelihood(latents, sample)` log
p(x|z) in nats, (B,), as does `bernoulli_log_likelihood(decode(latents), sample)`. The prior p(z) is N(0, I). Where
`labels` (N,) are given, each of these is called with those of its images as a last argument.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from genhub.data import to_model_range
from genhub.evaluation.metrics import mean_of

Encode = Callable[..., Any]  # its result has mean and logvar (B, ...), as `DiagonalGaussianDistribution`
LogLikelihood = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Reconstruction:
    """Squared error of pixels in [0, 1], mean over images and its standard error, and the PSNR of that mean in dB."""

    mse: tuple[float, float]
    psnr: float


@dataclass(frozen=True)
class Elbo:
    """The evidence lower bound and its two terms in nats an image, each a mean over images with its standard error."""

    elbo: tuple[float, float]  # reconstruction - kl
    reconstruction: tuple[float, float]
    kl: tuple[float, float]


@dataclass(frozen=True)
class ImportanceWeightedBound:
    """A lower bound of log p(x) in nats an image, and the same in bits a dimension, with their standard errors."""

    nats: tuple[float, float]
    bits_per_dimension: tuple[float, float]


@torch.no_grad()
def reconstruction(
    reconstruct: Callable[..., torch.Tensor],
    images: torch.Tensor,
    batch_size: int = 250,
    labels: torch.Tensor | None = None,
    has_bounds: bool = True,
) -> Reconstruction:
    """Compares `images` with their clamped reconstructions; PSNR = 10 log10(1 / MSE), infinite without error.

    Args:
        has_bounds: False for data that are no pictures, but float (N, C, H, W); nothing is clamped then.
    """
    errors = []
    for sample, *classes in _batches(images, labels, batch_size, has_bounds):
        copy = _checked("reconstruct", reconstruct(sample, *classes), sample.shape).float()
        copy = copy.clamp(-1, 1) if has_bounds else copy
        errors.append(((copy - sample) / 2).square().flatten(1).mean(1).cpu())  # (B,)
    mse = mean_of(torch.cat(errors))
    return Reconstruction(mse, -10 * math.log10(mse[0]) if mse[0] else math.inf)


def binarise(images: torch.Tensor) -> torch.Tensor:
    """Turns each pixel into 255 where u < pixel / 255, else into 0, with u uniform in [0, 1) from seed 0.

    A pixel's u depends on its place, so a split is binarised as a whole, once (Salakhutdinov & Murray 2008).
    """
    _check_images(images)
    uniform = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).to(images.device)
    return (uniform < images / 255).to(torch.uint8) * 255


def bernoulli_log_likelihood(logits: torch.Tensor, sample: torch.Tensor, soft: bool = False) -> torch.Tensor:
    """Returns log p(x|z) in nats, (B,), of pixels -1 or 1 from `logits` (B, C, H, W) (Kingma & Welling 2013, Eq. 11).

    Args:
        soft: takes grey pixels too, as targets of a cross-entropy; no likelihood, and never to stand beside one.
    """
    _checked("logits", logits, sample.shape)
    if not soft and not (sample.abs() == 1).all():
        raise ValueError("`sample` must be binary, -1 or 1, for a likelihood, got grey pixels: see `binarise`.")
    loss = F.binary_cross_entropy_with_logits(logits.float(), (sample.float() + 1) / 2, reduction="none")
    return -loss.flatten(1).sum(1)


def gaussian_log_likelihood(mean: torch.Tensor, sample: torch.Tensor, sigma: float) -> torch.Tensor:
    """Returns log N(x; mean, sigma^2 I) in nats, (B,) (Kingma & Welling 2013, Eq. 12), of images in [-1, 1]; `sigma`
    and the density are those of pixels in [0, 1]."""
    _checked("mean", mean, sample.shape)
    if not 0 < sigma < math.inf:
        raise ValueError(f"`sigma` must be above 0 and finite, got {sigma}.")
    error = (sample.float() - mean.float()).flatten(1) / 2  # (B, D)
    return -0.5 * (error / sigma).square().sum(1) - error.shape[1] * math.log(sigma * math.sqrt(2 * math.pi))


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """Returns -log2 p(x) / D, given log p(x); a density of pixels in [0, 1] takes 8 bits more beside one of 256 levels
    (Theis et al. 2016, arXiv 1511.01844, Sec. 3.1)."""
    _check_at_least("dimensions", dimensions, 1)
    return -nats / (dimensions * math.log(2))


def kl_to_prior(mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """Returns KL(N(mean, exp(logvar)) || N(0, I)) in nats, (N,), of (N, ...) (Kingma & Welling 2013, App. B)."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)


@torch.no_grad()
def elbo(
    encode: Encode,
    log_likelihood: LogLikelihood,
    images: torch.Tensor,
    generator: torch.Generator,
    batch_size: int = 250,
    labels: torch.Tensor | None = None,
) -> Elbo:
    """Returns log p(x|z) - KL(q(z|x) || p(z)) with one z ~ q(z|x) an image (Kingma & Welling 2013, arXiv 1312.6114,
    Eq. 10)."""
    mean, logvar, kl = _posterior(encode, images, labels, batch_size)
    latents, _ = _draw(mean, logvar, generator)
    likelihood = _log_likelihoods(log_likelihood, latents, images, labels, batch_size)
    return Elbo(mean_of(likelihood - kl), mean_of(likelihood), mean_of(kl))


@torch.no_grad()
def importance_weighted_bound(
    encode: Encode,
    log_likelihood: LogLikelihood,
    images: torch.Tensor,
    generator: torch.Generator,
    samples: int = 1000,
    batch_size: int = 250,
    labels: torch.Tensor | None = None,
) -> ImportanceWeightedBound:
    """Returns log 1/K sum_k p(x, z_k) / q(z_k|x) with K = `samples` (Burda et al. 2015, arXiv 1509.00519, Eq. 8), in K
    passes over the images: memory does not grow with K."""
    _check_at_least("samples", samples, 1)
    mean, logvar, kl = _posterior(encode, images, labels, batch_size)
    total = torch.full_like(kl, -math.inf)  # log of the sum of the weights, (N,)
    for _ in range(samples):
        latents, log_ratio = _draw(mean, logvar, generator)
        total = total.logaddexp(_log_likelihoods(log_likelihood, latents, images, labels, batch_size) + log_ratio)
    bound = total - math.log(samples)
    return ImportanceWeightedBound(mean_of(bound), mean_of(bits_per_dimension(bound, images[0].numel())))


def active_units(means: torch.Tensor, threshold: float = 0.01) -> int:
    """Counts the latent dimensions with Var_x(E[z_i|x]) > `threshold`, given the posterior means (N, ...) (Burda et
    al. 2015, Sec. 5)."""
    if means.ndim < 2 or len(means) < 2:
        raise ValueError(f"`means` must be (N, ...) with N of at least 2, got {tuple(means.shape)}.")
    _check_at_least("threshold", threshold, 0)
    return int((_checked("means", means, means.shape).flatten(1).double().var(0) > threshold).sum())


def pca_error(train: torch.Tensor, images: torch.Tensor, components: int) -> float:
    """Returns the mean squared error of `images` projected on the first principal components of `train`, in the unit
    of pixels in [0, 1]: what the best linear autoencoder of so many codes does (Baldi & Hornik 1989)."""
    train, images = ((to_model_range(x).flatten(1).double() + 1) / 2 for x in (train, images))
    mean = train.mean(0)
    covariance = (train - mean).T @ (train - mean) / len(train)
    _, axes = torch.linalg.eigh(covariance)  # the largest last
    axes = axes[:, -components:]  # (D, K)
    centred = images - mean
    return (centred - centred @ axes @ axes.T).square().mean().item()


def linear_probe(
    codes: torch.Tensor,
    labels: torch.Tensor,
    test_codes: torch.Tensor,
    test_labels: torch.Tensor,
    labelled: int | None = None,
    draws: int = 5,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the test accuracy in [0, 1] of logistic regression on standardised codes (N, ...), mean and sample sd.

    Args:
        labelled: how many labels to learn from, as many of each class, in `draws` draws with the seeds `seed`,
            `seed + 1`, ...; None for all labels, once, without an sd (nan).
    """
    for name, x, y in (("", codes, labels), ("test_", test_codes, test_labels)):
        if x.ndim < 2 or not x.numel() or x.shape[1:] != codes.shape[1:]:
            raise ValueError(f"`{name}codes` must be (N, ...), the same in train and test, got {tuple(x.shape)}.")
        if y.is_floating_point() or y.shape != x.shape[:1]:
            raise ValueError(f"`{name}labels` must be integers ({len(x)},), got {y.dtype} {tuple(y.shape)}.")
        _checked(f"{name}codes", x, x.shape)
    classes, counts = labels.unique(return_counts=True)
    if len(classes) < 2 or not torch.isin(test_labels, classes).all():
        raise ValueError(f"`labels` must be of 2 classes or more, those of `test_labels` too, got {classes.tolist()}.")
    most = len(classes) * int(counts.min())
    if labelled is not None and (labelled % len(classes) or not 0 < labelled <= most):
        raise ValueError(f"`labelled` must be a multiple of {len(classes)} in 1..{most}, got {labelled}.")
    _check_at_least("draws", draws, 2)
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError("A linear probe needs scikit-learn: `pip install genhub[eval]`.") from error

    def part(draw: int) -> torch.Tensor:
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(draw))
        return torch.cat([order[y[order] == label][: labelled // len(classes)] for label in classes.cpu()])

    x, test_x = (values.flatten(1).detach().cpu().double().numpy() for values in (codes, test_codes))
    y, test_y = labels.cpu(), test_labels.cpu()
    parts = [torch.arange(len(y))] if labelled is None else [part(draw) for draw in range(seed, seed + draws)]
    probes = [make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x[p], y[p]) for p in parts]
    accuracy = torch.tensor([probe.score(test_x, test_y) for probe in probes], dtype=torch.float64)
    return accuracy.mean().item(), math.nan if labelled is None else accuracy.std().item()


def _posterior(
    encode: Encode, images: torch.Tensor, labels: torch.Tensor | None, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns mean and logvar of all images, (N, ...), and the KL to the prior in float64, (N,), on the CPU."""
    parts = []
    for sample, *classes in _batches(images, labels, batch_size):
        posterior = encode(sample, *classes)
        mean, logvar = posterior.mean.cpu(), posterior.logvar.cpu()
        if mean.ndim < 2 or len(mean) != len(sample) or logvar.shape != mean.shape:
            got = f"{tuple(mean.shape)} and {tuple(logvar.shape)}"
            raise ValueError(f"`encode` must return mean and logvar ({len(sample)}, ...), got {got}.")
        kl = kl_to_prior(mean.double(), logvar.double())  # finite only where both are
        parts.append((mean, logvar, _checked("encode", kl, (len(sample),))))
    mean, logvar, kl = map(torch.cat, zip(*parts, strict=True))
    return mean, logvar, kl


def _draw(mean: torch.Tensor, logvar: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws z ~ q(z|x), (N, ...), the same in batches of any size, and log p(z) - log q(z|x) in float64, (N,)."""
    eps = torch.randn(mean.shape, generator=generator, device=generator.device).cpu().double()
    latents = mean + (logvar.double() / 2).exp() * eps
    log_ratio = (eps.square() + logvar - latents.square()).flatten(1).sum(1) / 2  # constants cancel
    return latents.to(mean.dtype), log_ratio


def _log_likelihoods(
    log_likelihood: LogLikelihood,
    latents: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor | None,
    batch_size: int,
) -> torch.Tensor:
    """Returns log p(x|z) of all images in float64, (N,), on the CPU."""
    values = []
    batches = _batches(images, labels, batch_size)
    for z, (sample, *classes) in zip(latents.split(batch_size), batches, strict=True):
        likelihood = log_likelihood(z.to(sample.device), sample, *classes)
        values.append(_checked("log_likelihood", likelihood, (len(sample),)).cpu())
    return torch.cat(values).double()


def _batches(
    images: torch.Tensor, labels: torch.Tensor | None, batch_size: int, has_bounds: bool = True
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yields `images` in [-1, 1], (B, C, H, W), with their labels, (B,), where there are."""
    if has_bounds:
        _check_images(images)
    _check_at_least("batch_size", batch_size, 1)
    parts = map(to_model_range, images.split(batch_size))
    return zip(parts, strict=True) if labels is None else zip(parts, labels.split(batch_size), strict=True)


def _check_images(images: torch.Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) < 2 or not images.numel():
        got = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"`images` must be uint8 (N, C, H, W) with N of at least 2, got {got}.")


def _check_at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")


def _checked(name: str, values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Returns what was given as, or by, the argument `name` if it has `shape` and is finite."""
    if values.shape != shape:
        raise ValueError(f"`{name}` must give {tuple(shape)}, got {tuple(values.shape)}.")
    if bad := int((~values.isfinite()).sum()):
        raise ValueError(f"`{name}` must be finite, got nan or inf in {bad} of {values.numel()} places.")
    return values
