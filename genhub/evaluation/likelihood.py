"""Likelihood of held-out images under a variational autoencoder: evidence lower bound and importance weighted bound.

Images are uint8 (N, C, H, W) on the model's device. `encode(sample)` gets images in [-1, 1] and returns q(z|x);
`log_likelihood(latents, sample)` returns log p(x|z) in nats, (B,). Both get the labels as a further argument if there
are any. The prior p(z) is N(0, I).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F

from genhub.data import Images
from genhub.evaluation.checks import check_at_least, check_images, check_values, image_batches
from genhub.evaluation.metrics import mean_of
from genhub.evaluation.result import STANDARD_ERROR, Metric

Encode = Callable[..., Any]  # its result has mean and logvar (B, ...), as `DiagonalGaussianDistribution`
LogLikelihood = Callable[..., torch.Tensor]
Nats = TypeVar("Nats", float, torch.Tensor)

PIXELS = {None: "", "threshold": ", pixels above 1/2", "random": ", binarised"}  # in the names of metrics
IMPORTANCE_IMAGES, IMPORTANCE_SAMPLES = 500, 1000


@dataclass(frozen=True)
class Elbo:
    """The evidence lower bound and its two terms in nats an image, each a mean over images with its standard error."""

    elbo: tuple[float, float]  # reconstruction - kl
    reconstruction: tuple[float, float]
    kl: tuple[float, float]


@dataclass(frozen=True)
class ImportanceWeightedBound:
    """A lower bound of log p(x) in nats an image and in bits a dimension, with standard errors."""

    nats: tuple[float, float]
    bits_per_dimension: tuple[float, float]


def evaluate_likelihoods(
    vae: Any,
    splits: dict[str, Images],
    binarise: str | None,
    tell: Callable[[str], None] = lambda what: None,
    importance: tuple[int, int] = (IMPORTANCE_IMAGES, IMPORTANCE_SAMPLES),
) -> list[Metric]:
    """Measures the evidence lower bound of each split but "train", and the importance weighted bound of "test".

    Args:
        vae: has `encode(sample, class_labels)` -> mean and logvar, and `decode(latents, class_labels)`; its config has
            `likelihood`, `sigma` and `num_class_embeds`.
        binarise: how training made pixels 0 or 1, as in `binarise_pixels`. Grey pixels have no Bernoulli likelihood,
            only a cross-entropy with soft targets.
        importance: number of images (the first of the test split; 0 for no bound) and of samples for each image.
    """
    is_soft = vae.config["likelihood"] == "bernoulli" and binarise is None
    pixels = ", grey pixels as soft targets" if is_soft else PIXELS[binarise]
    encode, log_likelihood = _densities(vae, is_soft)
    metrics = []
    for split in [split for split in splits if split != "train"]:
        tell(f"likelihood, {split}")
        images = splits[split].to(next(vae.parameters()).device)
        labels = images.labels if vae.config["num_class_embeds"] else None
        shown = binarise_pixels(images.images, binarise)
        bound = elbo(encode, log_likelihood, shown, torch.Generator().manual_seed(0), labels=labels)
        for name, value in (("ELBO", bound.elbo), ("log p(x|z)", bound.reconstruction), ("KL", bound.kl)):
            metrics.append(Metric(f"{name} in nats{pixels}, {split}", "", *value, STANDARD_ERROR, len(images)))
        if split == "test" and importance[0] and not is_soft:
            count, samples = min(importance[0], len(images)), importance[1]
            tell(f"importance weighted bound, {samples:,} samples of {count:,} images")
            labels = None if labels is None else labels[:count]
            generator = torch.Generator().manual_seed(0)
            bound = importance_weighted_bound(encode, log_likelihood, shown[:count], generator, samples, labels=labels)
            for unit, value in (("nats", bound.nats), ("bits per dimension", bound.bits_per_dimension)):
                name = f"importance weighted bound in {unit}, K = {samples:,}{pixels}, {split}"
                metrics.append(Metric(name, "", *value, STANDARD_ERROR, count))
    return metrics


def _densities(vae: Any, is_soft: bool) -> tuple[Encode, LogLikelihood]:
    """Returns q(z|x) and log p(x|z) of a model."""

    def encode(sample: torch.Tensor, *labels: torch.Tensor) -> SimpleNamespace:
        mean, logvar = vae.encode(sample, *labels)
        return SimpleNamespace(mean=mean, logvar=logvar)

    def log_likelihood(latents: torch.Tensor, sample: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
        decoded = vae.decode(latents, *labels)
        if vae.config["likelihood"] == "bernoulli":
            return bernoulli_log_likelihood(decoded, sample, soft=is_soft)
        return gaussian_log_likelihood(decoded, sample, vae.config["sigma"])

    return encode, log_likelihood


def binarise_pixels(images: torch.Tensor, how: str | None) -> torch.Tensor:
    """Returns uint8 images whose pixels are 0 or 255.

    Args:
        how: "threshold" (255 above 1/2), "random" (255 where u < pixel / 255, with u uniform in [0, 1) from seed 0;
            Salakhutdinov & Murray 2008), or None for unchanged images. A random u depends on the pixel's position in
            `images`, so binarise a whole split at once.
    """
    if how is None:
        return images
    if how == "threshold":
        return (images > 127).to(torch.uint8) * 255
    check_images(images)
    uniform = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).to(images.device)
    return (uniform < images / 255).to(torch.uint8) * 255


def bernoulli_log_likelihood(logits: torch.Tensor, sample: torch.Tensor, soft: bool = False) -> torch.Tensor:
    """Returns log p(x|z) in nats, (B,), of pixels -1 or 1 from `logits` (B, C, H, W) (Kingma & Welling 2013, Eq. 11).

    Args:
        soft: accept grey pixels as targets of a cross-entropy, which is not a likelihood and not comparable with one.
    """
    check_values("logits", logits, sample.shape)
    if not soft and not (sample.abs() == 1).all():
        raise ValueError("`sample` must be binary, -1 or 1, for a likelihood, got grey pixels: see `binarise_pixels`.")
    loss = F.binary_cross_entropy_with_logits(logits.float(), (sample.float() + 1) / 2, reduction="none")
    return -loss.flatten(1).sum(1)


def gaussian_log_likelihood(mean: torch.Tensor, sample: torch.Tensor, sigma: float) -> torch.Tensor:
    """Returns log N(x; mean, sigma^2 I) in nats, (B,) (Kingma & Welling 2013, Eq. 12), of images in [-1, 1]; `sigma`
    and the density are those of pixels in [0, 1]."""
    check_values("mean", mean, sample.shape)
    if not 0 < sigma < math.inf:
        raise ValueError(f"`sigma` must be above 0 and finite, got {sigma}.")
    error = (sample.float() - mean.float()).flatten(1) / 2  # (B, D)
    return -0.5 * (error / sigma).square().sum(1) - error.shape[1] * math.log(sigma * math.sqrt(2 * math.pi))


def bits_per_dimension(nats: Nats, dimensions: int) -> Nats:
    """Returns -log2 p(x) / D, given log p(x); a density of pixels in [0, 1] needs 8 bits more than a probability of
    256 levels (Theis et al. 2016, arXiv 1511.01844, Sec. 3.1)."""
    check_at_least("dimensions", dimensions, 1)
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
    """Returns log p(x|z) - KL(q(z|x) || p(z)) with one z ~ q(z|x) for each image (Kingma & Welling 2013, arXiv
    1312.6114, Eq. 10)."""
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
    check_at_least("samples", samples, 1)
    mean, logvar, kl = _posterior(encode, images, labels, batch_size)
    total = torch.full_like(kl, -math.inf)  # log of the sum of the weights, (N,)
    for _ in range(samples):
        latents, log_ratio = _draw(mean, logvar, generator)
        total = total.logaddexp(_log_likelihoods(log_likelihood, latents, images, labels, batch_size) + log_ratio)
    bound = total - math.log(samples)
    return ImportanceWeightedBound(mean_of(bound), mean_of(bits_per_dimension(bound, images.shape[1:].numel())))


def _posterior(
    encode: Encode, images: torch.Tensor, labels: torch.Tensor | None, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns mean and logvar of all images, (N, ...), and the KL to the prior in float64, (N,), on the CPU."""
    batches = []
    for sample, *classes in image_batches(images, labels, batch_size):
        posterior = encode(sample, *classes)
        mean, logvar = posterior.mean.cpu(), posterior.logvar.cpu()
        if mean.ndim < 2 or len(mean) != len(sample) or logvar.shape != mean.shape:
            got = f"{tuple(mean.shape)} and {tuple(logvar.shape)}"
            raise ValueError(f"`encode` must return mean and logvar ({len(sample)}, ...), got {got}.")
        kl = kl_to_prior(mean.double(), logvar.double())  # finite only where both are
        check_values("encode", kl, (len(sample),))
        batches.append((mean, logvar, kl))
    mean, logvar, kl = map(torch.cat, zip(*batches, strict=True))
    return mean, logvar, kl


def _draw(mean: torch.Tensor, logvar: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws z ~ q(z|x), (N, ...), whatever the batch size, and log p(z) - log q(z|x) in float64, (N,)."""
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
    batches = image_batches(images, labels, batch_size)
    for z, (sample, *classes) in zip(latents.split(batch_size), batches, strict=True):
        likelihood = log_likelihood(z.to(sample.device), sample, *classes)
        check_values("log_likelihood", likelihood, (len(sample),))
        values.append(likelihood.cpu())
    return torch.cat(values).double()
