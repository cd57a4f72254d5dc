"""A scheduler as a table: each step of it is linear in the sample, the predicted x_0, that of the step before, and the
noise that it draws, so a page needs its factors only.

The factors are read off the scheduler itself, whichever it is: it steps through ones and zeros.
"""

import copy
import inspect
from typing import Any

import torch

from genhub.repository.format import RepositoryError

TOLERANCE = 1e-4
UNBOUNDED = 1e9


def tables_of(name: str, pipeline: Any, counts: list[int]) -> dict[str, list[list[float]]]:
    """Returns the table of each number of steps, of rows (t, signal, noise, alpha, sigma, bound, a, b, c, d):

    `signal` and `noise` are the factors of x_0 and of the noise in x_t; `alpha` and `sigma` those that the scheduler
    itself uses, which may be between two timesteps. x_0 is what the prediction means with these, within +-`bound`. The
    next sample is a x_t + b x_0 + c x_0 of the step before + d z, z ~ N(0, I).

    Raises:
        RepositoryError: no number of steps makes such a table.
    """
    tables, reason = {}, "no number of steps was tried"
    for count in counts:
        try:
            rows = _read(pipeline, count)
            _check(pipeline, rows)
            tables[str(count)] = rows
        except (ValueError, RuntimeError) as error:
            reason = str(error)
    if not tables:
        scheduler = type(pipeline.scheduler).__name__
        raise RepositoryError(f"{name} cannot run without PyTorch: {scheduler} is no table of steps ({reason}).")
    return tables


def _start(pipeline: Any, count: int) -> Any:
    """Returns a copy of the pipeline's scheduler at the start of so many steps."""
    scheduler = copy.deepcopy(pipeline.scheduler)
    scheduler.set_timesteps(count)
    if scheduler.order != 1 or float(scheduler.init_noise_sigma) != 1:
        raise ValueError("it scales its sample, or predicts twice a step")
    if scheduler.config.get("thresholding"):
        raise ValueError("it thresholds")
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    return scheduler


def _step(scheduler: Any, prediction: torch.Tensor, t: torch.Tensor, sample: torch.Tensor, seed: int) -> torch.Tensor:
    """Returns the next sample; all rows of the batch get the same noise, that of `seed`."""
    source = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        source["generator"] = [torch.Generator().manual_seed(seed) for _ in sample]
    return scheduler.step(prediction, t, sample, **source).prev_sample


def _levels(pipeline: Any, scheduler: Any, index: int, t: torch.Tensor) -> tuple[float, ...]:
    """Returns the factors of x_0 and of the noise in x_t, and those that the scheduler uses."""
    levels = pipeline._signal_and_noise(t)
    if not hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        return (*levels, *levels)
    alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[index].double())
    return (*levels, float(alpha), float(sigma))


def _prediction_of(kind: str, x_0: torch.Tensor, x_t: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """Returns the prediction that means `x_0` (Salimans & Ho 2022, arXiv 2202.00512, Sec. 4)."""
    if kind == "sample":
        return x_0
    return (alpha * x_t - x_0) / sigma if kind == "v_prediction" else (x_t - alpha * x_0) / sigma


def prediction_to_sample(kind: str, prediction: Any, x_t: Any, alpha: float, sigma: float) -> Any:
    """Returns the x_0 that a prediction means, the inverse of `_prediction_of`."""
    if kind == "sample":
        return prediction
    return alpha * x_t - sigma * prediction if kind == "v_prediction" else (x_t - sigma * prediction) / alpha


def _read(pipeline: Any, count: int) -> list[list[float]]:
    """Steps through samples in one batch: x_t alone, x_0 in even steps, x_0 in odd ones, and noise alone."""
    scheduler, rows = _start(pipeline, count), []
    config = scheduler.config
    bound = config.get("clip_sample_range", 1.0) if config.get("clip_sample") else UNBOUNDED
    for index, t in enumerate(scheduler.timesteps):
        levels, even, odd = _levels(pipeline, scheduler, index, t), 1 + index % 2, 2 - index % 2
        sample, x_0 = torch.zeros(4, 1, 1, 1), torch.zeros(4, 1, 1, 1)
        sample[0], x_0[even] = 1.0, 1.0
        prediction = _prediction_of(config["prediction_type"], x_0, sample, *levels[2:])
        following = _step(scheduler, prediction, t, sample, index).double().flatten()
        z = float(torch.randn((1, 1, 1, 1), generator=torch.Generator().manual_seed(index)))
        factors = (following[[0, even, odd]] - following[3]).tolist()
        rows.append([float(t), *levels, bound, *factors, float(following[3]) / z])
    return rows


def _check(pipeline: Any, rows: list[list[float]]):
    """Refuses a table that leads elsewhere than the scheduler does, from random samples and predictions."""
    scheduler, source = _start(pipeline, len(rows)), torch.Generator().manual_seed(1)
    kind, sample = scheduler.config["prediction_type"], torch.randn(2, 1, 4, 4, generator=source)
    before = torch.zeros_like(sample)
    for index, (t, (*_, alpha, sigma, bound, a, b, c, d)) in enumerate(zip(scheduler.timesteps, rows, strict=True)):
        x_0 = (torch.rand(sample.shape, generator=source) * 2 - 1).clamp(-bound, bound)
        prediction = _prediction_of(kind, x_0, sample, alpha, sigma)
        z = torch.randn((1, 1, 4, 4), generator=torch.Generator().manual_seed(index))
        table = a * sample + b * x_0 + c * before + d * z
        sample, before = _step(scheduler, prediction, t, sample, index), x_0
        if not torch.allclose(table, sample, atol=TOLERANCE):
            raise ValueError(f"step {index} is off by {float((table - sample).abs().max()):.2g}")
