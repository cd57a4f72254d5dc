"""The lean U-Net: its preconditioning, its noise levels, and its arithmetic in half precision."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from tiny import tiny_inputs, tiny_model
from torch.testing import assert_close

from genhub import CosineDDPMPipeline, CosineDDPMScheduler

STATISTICS = [(0.0, 0.5), (-0.43, 0.71), (0.9, 0.05), (0.1, 1.3)]  # of pixels; the last of latents


def lean(**changes):
    return tiny_model("LeanUNet2DModel", **changes)


def trained(**changes):
    """A network none of whose layers is 0."""
    model = lean(**changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
def test_an_untrained_network_is_the_ideal_denoiser_of_white_noise_at_every_level(mean, std):
    model, alpha_bar = lean(data_mean=mean, data_std=std), CosineDDPMScheduler().alphas_cumprod.double()
    alpha, sigma = alpha_bar.sqrt()[:, None, None, None], (1 - alpha_bar).sqrt()[:, None, None, None]
    variance = alpha**2 * std**2 + sigma**2
    x_t = alpha * mean + variance.sqrt() * torch.randn(len(alpha), 1, 8, 8, generator=torch.Generator().manual_seed(0))

    v = model(x_t.float(), torch.arange(len(alpha))).sample

    x_0 = mean + alpha * std**2 / variance * (x_t - alpha * mean)  # E[x_0 | x_t] of a Gaussian
    assert_close(v, ((alpha * x_t - x_0) / sigma).float(), rtol=1e-4, atol=1e-5)


def test_an_untrained_network_generates_white_noise_with_the_moments_of_the_data():
    config = CosineDDPMScheduler(prediction_type="v_prediction", clip_sample=False).config
    pipe = CosineDDPMPipeline(lean(data_mean=-0.2, data_std=0.2), DDIMScheduler.from_config(config))
    pipe.set_progress_bar_config(disable=True)
    x_t = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    images = pipe(16, latents=x_t, num_inference_steps=200, output_type="pt").images

    assert_close(2 * images - 1, -0.2 + 0.2 * x_t, rtol=0, atol=0.02)  # the probability flow ODE of a Gaussian


@pytest.mark.parametrize("total", [20, 1000, 4000])
@pytest.mark.parametrize("make", [CosineDDPMScheduler, DDPMScheduler])
def test_its_noise_levels_are_those_of_a_scheduler_of_as_many_steps(make, total):
    options = {} if make is CosineDDPMScheduler else {"beta_schedule": "squaredcos_cap_v2"}

    levels = lean(num_train_timesteps=total).alphas_cumprod

    assert_close(levels, make(num_train_timesteps=total, **options).alphas_cumprod, rtol=1e-4, atol=0)


def test_the_linear_schedule_of_the_first_ddpm_is_another():
    levels = lean(num_train_timesteps=1000, beta_schedule="linear").alphas_cumprod

    assert torch.equal(levels, DDPMScheduler(1000).alphas_cumprod)


@pytest.mark.parametrize("t", [0, 17, 3999])
def test_a_timestep_is_a_number_or_one_for_each_image(t):
    model = trained()
    sample = tiny_inputs("LeanUNet2DModel", model)["sample"]

    for timestep in (float(t), torch.tensor(t), torch.tensor([t]), torch.tensor([t, t])):
        assert torch.equal(model(sample, timestep).sample, model(sample, t).sample)


@pytest.mark.parametrize("t", [0, 1, 10, 2000, 3990, 3999])
def test_a_network_in_bf16_meets_the_exact_noise_level(t):
    exact, halved = trained(), trained().to(torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(16, 1, 8, 8, generator=generator).bfloat16()

    one, other = exact(sample.float(), t).sample, halved(sample, t).sample

    assert other.dtype == torch.bfloat16
    assert halved.alphas_cumprod.dtype == torch.float32
    assert (one - other).norm() < 0.02 * one.norm()


def test_the_layout_of_memory_does_not_matter():
    model = trained()
    inputs = tiny_inputs("LeanUNet2DModel", model)

    rearranged = trained().to(memory_format=torch.channels_last)(**inputs).sample

    assert_close(rearranged, model(**inputs).sample, rtol=1e-4, atol=1e-5)


def test_classes_are_told_apart():
    model = trained(num_class_embeds=4)
    inputs = tiny_inputs("LeanUNet2DModel", model)

    other = model(**inputs | {"class_labels": (inputs["class_labels"] + 1) % 4}).sample

    assert not torch.allclose(model(**inputs).sample, other, atol=1e-3)


@pytest.mark.parametrize(("embeds", "labels", "rule"), [(4, None, "given"), (None, [0, 1], "unset")])
def test_classes_that_are_missing_or_unknown_to_the_network_are_one_error(embeds, labels, rule):
    labels = None if labels is None else torch.tensor(labels)

    with pytest.raises(ValueError, match=f"`class_labels` must be {rule}: `num_class_embeds` is {embeds}"):
        lean(num_class_embeds=embeds)(torch.zeros(2, 1, 8, 8), 0, class_labels=labels)
