"""Likelihood of held-out images under a diffusion model, in bits a dimension of 8-bit images: by the probability-flow
ODE (Song et al. 2021, arXiv 2011.13456, Sec. 4.3), and by the variational bound (Ho et al. 2020, arXiv 2006.11239,
Eq. 5).

A level k of 0..255 is the pixel 2 k / 255 - 1, the middle of a bin of width 2 / 255. The network is only asked about
the T noise levels of its schedule.
"""

import math
from collections.abc import Callable, Iterator

import torch
from diffusers import DiffusionPipeline

from genhub.data import Images, to_model_range
from genhub.evaluation.checks import check_at_least, check_images, check_values
from genhub.evaluation.denoiser import Denoiser, at, check_likelihood
from genhub.evaluation.likelihood import bits_per_dimension
from genhub.evaluation.metrics import mean_of
from genhub.evaluation.result import STANDARD_ERROR, Metric
from genhub.repository.capabilities import classes_of
from genhub.utils.randomness import keyed_generator

BIN = 2 / 255  # between two levels
MAX_SIGMA = 80.0  # of the ODE: above, N(0, I) is the distribution of x_t to 1e-4 bits a dimension
STEPS = 64  # of the ODE
STRATA = 32  # timesteps of the bound for each image


def evaluate_diffusion_likelihood(
    pipeline: DiffusionPipeline, images: Images, count: int, tell: Callable[[str], None] = lambda what: None
) -> list[Metric]:
    """Measures bits a dimension of `count` of the images, which a fixed seed draws, given their labels if the network
    has classes; given the null class if they have no labels.

    Raises:
        ValueError: `check_likelihood` refuses it, or a result is not finite.
    """
    check_likelihood(pipeline, images, count)
    images, num_classes = images.choose(count, seed=0).to(pipeline.device), classes_of(pipeline)[0]
    pixels, labels, dimensions = images.images, None, images.images.shape[1:].numel()
    if num_classes is not None:
        labels = torch.full((count,), num_classes).to(pixels.device) if images.labels is None else images.labels
    denoiser = Denoiser(pipeline.unet, pipeline.scheduler)

    tell(f"variational bound, {STRATA} timesteps of {count:,} images")
    bound = variational_bound(denoiser, pixels, keyed_generator("bound"), labels)
    timesteps = choose_timesteps(denoiser.sigmas)
    nats = []
    for chosen in (timesteps, halve(timesteps)):
        tell(f"likelihood by the ODE, {len(chosen) - 1} steps, {count:,} images")
        nats.append(ode_log_likelihood(denoiser, pixels, keyed_generator("ODE"), chosen, labels))
    ode, coarse = (bits_per_dimension(value, dimensions) for value in nats)
    low, high = denoiser.sigmas[timesteps[0]], denoiser.sigmas[timesteps[-1]]
    name = f"bits/dim (ODE), {len(timesteps) - 1} steps, sigma {low:.2g} to {high:.2g}"
    return [
        Metric("bits/dim (ODE)", "", *mean_of(ode), STANDARD_ERROR, count),
        Metric(f"{name}, less that of half the steps", "", *mean_of(ode - coarse), STANDARD_ERROR, count),
        Metric("bits/dim (bound)", "", *mean_of(bits_per_dimension(bound, dimensions)), STANDARD_ERROR, count),
    ]


def choose_timesteps(sigmas: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """Returns ascending timesteps from 0 to the last with a sigma (T,) up to `MAX_SIGMA`: those nearest to `steps`
    equal steps in ln sigma, fewer where the schedule is coarser."""
    check_at_least("steps", steps, 1)
    logs = sigmas[sigmas <= MAX_SIGMA].log()
    wanted = torch.linspace(float(logs[0]), float(logs[-1]), steps + 1, dtype=logs.dtype)
    return (wanted[:, None] - logs).abs().argmin(1).unique()


def halve(timesteps: torch.Tensor) -> torch.Tensor:
    """Returns every second timestep, with the first and the last."""
    return torch.cat([timesteps[:-1:2], timesteps[-1:]])


def ode_log_likelihood(
    denoiser: Denoiser,
    images: torch.Tensor,
    generator: torch.Generator,
    timesteps: torch.Tensor,
    labels: torch.Tensor | None = None,
    batch_size: int = 250,
) -> torch.Tensor:
    """Returns a lower bound of log P(images), uint8 (N, C, H, W), in nats, (N,) in float64 on the CPU, in expectation:
    the log density of pixels with uniform noise as wide as a bin (Theis et al. 2016, arXiv 1511.01844, Eq. 7)."""
    check_images(images)
    noise = torch.rand(images.shape, generator=generator, device=generator.device) - 0.5
    probes = torch.randint(2, images.shape, generator=generator, device=generator.device) * 2 - 1
    bins = images.shape[1:].numel() * math.log(BIN)
    values = []
    for rows, classes in _batches(len(images), labels, batch_size):
        pixels = to_model_range(images[rows]) + BIN * noise[rows].to(images.device)
        value = flow_log_density(denoiser, pixels, probes[rows].to(pixels), timesteps, classes)
        check_values("denoiser", value, (len(pixels),))
        values.append(value + bins)
    return torch.cat(values)


def flow_log_density(
    denoiser: Denoiser,
    sample: torch.Tensor,
    probe: torch.Tensor,
    timesteps: torch.Tensor,
    labels: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns the log density of `sample` (B, C, H, W) in nats, (B,), at the noise level of the first of the ascending
    `timesteps` (Song et al. 2021, Eq. 39), under the flow of y = x_t / sqrt(alpha_bar_t):

        dy / dsigma = (y - x_0) / sigma (Karras et al. 2022, arXiv 2206.00364, Eq. 1),
        d ln p(y) / d ln sigma = tr(dx_0 / dy) - D, with D dimensions and x_0 predicted from y,

    by Heun's method in sigma and the trapezoidal rule in ln sigma. The trace is Hutchinson's estimate by the +-1 of
    `probe`. At the last timestep x_t ~ N(0, I), as where sampling starts, so y ~ N(0, 1 + sigma^2).
    """

    def predict(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return denoiser(y * at(denoiser.alpha_bars, t, y) ** 0.5, t, labels)

    def predict_with_trace(y: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            x_0 = predict(y, t)
            (product,) = torch.autograd.grad(x_0, y, probe)
        return x_0.detach(), (product * probe).flatten(1).sum(1).cpu().double()

    y, dimensions = sample, sample.shape[1:].numel()
    x_0, trace = predict_with_trace(y, timesteps[0])
    log_density = torch.zeros_like(trace)
    for t, after in zip(timesteps[:-1], timesteps[1:], strict=True):
        sigma, next_sigma = float(denoiser.sigmas[t]), float(denoiser.sigmas[after])
        slope = (y - x_0) / sigma
        with torch.no_grad():
            euler = y + (next_sigma - sigma) * slope
            next_slope = (euler - predict(euler, after)) / next_sigma
        y = y + (next_sigma - sigma) * (slope + next_slope) / 2
        x_0, next_trace = predict_with_trace(y, after)
        log_density += math.log(next_sigma / sigma) * (dimensions - (trace + next_trace) / 2)
        trace = next_trace

    variance = 1 + float(denoiser.sigmas[timesteps[-1]]) ** 2
    squares = y.square().flatten(1).sum(1).cpu().double() / variance
    log_prior = -(squares + dimensions * math.log(2 * math.pi * variance)) / 2
    return log_prior + log_density


@torch.no_grad()
def variational_bound(
    denoiser: Denoiser,
    images: torch.Tensor,
    generator: torch.Generator,
    labels: torch.Tensor | None = None,
    strata: int = STRATA,
    batch_size: int = 250,
) -> torch.Tensor:
    """Returns a lower bound of log P(images), uint8 (N, C, H, W), in nats, (N,) in float64 on the CPU, in expectation:

        -KL(q(x_T|x_0) || N(0, I)) - sum_t KL(q(x_{t-1}|x_t, x_0) || p(x_{t-1}|x_t)) + log p(x_0|x_1)

    (Ho et al. 2020, Eq. 5) of the chain over all T timesteps with the predicted x_0 clipped to [-1, 1], and the better
    of two variances: beta_t, or that of q(x_{t-1}|x_t, x_0) (Sec. 3.2). With D dimensions and v the variance over the
    latter, a KL is D (ln v + 1 / v - 1) / 2 + (SNR(t-1) - SNR(t)) |x_0 - predicted x_0|^2 / 2 v (Kingma et al. 2021,
    arXiv 2107.00630, Eq. 13, where v = 1). The sum is estimated at one timestep in each of `strata`, drawn with
    probabilities proportional to ln(1 + SNR(t-1)) - ln(1 + SNR(t)), the KLs of standard normal data.
    """
    check_images(images)
    check_at_least("strata", strata, 1)
    alpha_bar, x_0, dimensions = denoiser.alpha_bars, to_model_range(images), images.shape[1:].numel()
    snr, gains = alpha_bar / (1 - alpha_bar), -(1 - alpha_bar).log()  # (T,), ln(1 + SNR)
    cumulative = (gains[0] - gains[1:]) / (gains[0] - gains[-1])  # (T - 1,)

    def predict(timesteps: torch.Tensor) -> torch.Tensor:
        eps = torch.randn(x_0.shape, generator=generator, device=generator.device).to(x_0)
        x_t = at(alpha_bar, timesteps, x_0) ** 0.5 * x_0 + at(1 - alpha_bar, timesteps, x_0) ** 0.5 * eps
        batches = _batches(len(x_0), labels, batch_size)
        predicted = [denoiser(x_t[rows], timesteps[rows], classes) for rows, classes in batches]
        return torch.cat(predicted).clamp(-1, 1)

    nats = -discretized_gaussian(predict(torch.zeros(len(x_0), dtype=torch.long)), 1 - float(alpha_bar[0]), images)
    last = alpha_bar[-1]
    nats += (last * x_0.cpu().double().square() - last - torch.log1p(-last)).flatten(1).sum(1) / 2
    nats = nats.repeat(2, 1)  # (2, N), for each variance
    for stratum in range(strata):
        uniform = torch.rand(len(x_0), generator=generator, device=generator.device, dtype=torch.double).cpu()
        t = torch.searchsorted(cumulative, (stratum + uniform) / strata).clamp(max=len(cumulative) - 1) + 1
        error = (x_0 - predict(t)).cpu().double().square().flatten(1).sum(1)
        ratio = (1 - alpha_bar[t]) / (1 - alpha_bar[t - 1])  # of beta_t to the variance of q, (N,)
        v = torch.stack([ratio, torch.ones_like(ratio)])
        kl = dimensions * (v.log() + 1 / v - 1) / 2 + (snr[t - 1] - snr[t]) * error / 2 / v
        nats += kl * (gains[0] - gains[-1]) / (gains[t - 1] - gains[t]) / strata
    check_values("denoiser", nats, (2, len(images)))
    return -nats[nats.mean(1).argmin()]


def discretized_gaussian(mean: torch.Tensor, variance: float, images: torch.Tensor) -> torch.Tensor:
    """Returns the log probability in nats, (N,) in float64 on the CPU, of the levels of `images` under N(mean,
    variance), of which level 0 gets all below it and level 255 all above (Ho et al. 2020, Eq. 13)."""
    images, offset = images.cpu(), (to_model_range(images) - mean).cpu().double()
    lower = torch.where(images == 0, -math.inf, (offset - BIN / 2) / variance**0.5)
    upper = torch.where(images == 255, math.inf, (offset + BIN / 2) / variance**0.5)
    lower, upper = torch.where(lower + upper > 0, -upper, lower), torch.where(lower + upper > 0, -lower, upper)
    log_upper = torch.special.log_ndtr(upper)  # of the smaller tail, which loses no digits
    return (log_upper + torch.log1p(-(torch.special.log_ndtr(lower) - log_upper).exp())).flatten(1).sum(1)


def _batches(count: int, labels: torch.Tensor | None, batch_size: int) -> Iterator[tuple[slice, torch.Tensor | None]]:
    """Yields the rows and the labels of batches."""
    for start in range(0, count, batch_size):
        rows = slice(start, start + batch_size)
        yield rows, None if labels is None else labels[rows]
