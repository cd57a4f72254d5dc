"""The forward process, and predictions that all mean the same image."""

import pytest
import torch
from diffusers import DDPMScheduler
from torch.testing import assert_close

from genhub import CosineDDPMScheduler
from genhub.objectives.noising import PREDICTION_TYPES, predicted_x_0, signal_and_noise, target

LEVELS = CosineDDPMScheduler(100).alphas_cumprod


def drawn(*shape):
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    timesteps = torch.randint(95, shape[:1], generator=generator)
    return x_0, eps, timesteps


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 1, 4, 4)])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_the_correct_prediction_means_the_image_that_became_noisy(prediction_type, shape):
    x_0, eps, timesteps = drawn(*shape)
    alpha, sigma = signal_and_noise(LEVELS.double(), timesteps, like=x_0)
    x_t = alpha * x_0 + sigma * eps

    prediction = target(x_0, eps, alpha, sigma, prediction_type)

    assert_close(predicted_x_0(prediction, x_t, alpha, sigma, prediction_type), x_0)


def test_signal_and_noise_are_those_of_diffusers():
    scheduler = DDPMScheduler(100)
    x_0, eps, timesteps = (tensor.float() if tensor.is_floating_point() else tensor for tensor in drawn(6, 1, 4, 4))

    alpha, sigma = signal_and_noise(scheduler.alphas_cumprod, timesteps, like=x_0)

    assert alpha.shape == sigma.shape == (6, 1, 1, 1)
    assert_close(alpha * x_0 + sigma * eps, scheduler.add_noise(x_0, eps, timesteps))
    assert_close(target(x_0, eps, alpha, sigma, "v_prediction"), scheduler.get_velocity(x_0, eps, timesteps))


def test_half_precision_loses_nothing_of_a_noise_level_but_its_own_rounding():
    like = torch.zeros(100, 1, dtype=torch.bfloat16)

    exact = signal_and_noise(LEVELS.double(), torch.arange(100), like.double())
    rounded = signal_and_noise(LEVELS, torch.arange(100), like)

    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.bfloat16
        assert_close(other.double(), one, rtol=2**-8, atol=0)
