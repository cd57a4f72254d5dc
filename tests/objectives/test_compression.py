"""The first stage of latent diffusion: its distance against torchmetrics, its terms one by one, and that it learns."""

import pytest
import torch
from diffusers import AutoencoderKL
from torch.testing import assert_close
from torchmetrics.functional.image import structural_similarity_index_measure

from genhub.data.images import Shape
from genhub.objectives import PerceptualCompression, Step
from genhub.objectives.compression import structural_similarity
from genhub.utils.randomness import BatchRandom


def step(count, index=0):
    return Step(index, 0.0, BatchRandom("test", index, rows=range(count), total=count))


def vae(**changes) -> AutoencoderKL:
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    sizes = {"in_channels": 1, "out_channels": 1, "latent_channels": 3, "block_out_channels": [8, 8]}
    arguments = blocks | sizes | {"layers_per_block": 1, "norm_num_groups": 2, "sample_size": 8} | changes
    return AutoencoderKL(**arguments)


def images(count=16, size=8):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 16)])
def test_ssim_is_that_of_torchmetrics(channels, size):
    generator = torch.Generator().manual_seed(0)
    one, noise = (torch.rand(5, channels, size, size, generator=generator) * 2 - 1 for _ in range(2))
    other = 0.7 * one + 0.3 * noise

    oracle = structural_similarity_index_measure(
        other, one, data_range=2.0, gaussian_kernel=True, sigma=1.5, kernel_size=11, reduction="none"
    )

    assert_close(structural_similarity(one, one), torch.ones(5))
    assert_close(structural_similarity(other, one), oracle)


def test_a_small_image_has_a_smaller_window():
    assert structural_similarity(images(2, 4), images(2, 4)).shape == (2,)


def test_the_terms_are_those_of_the_paper():
    model, sample = vae(), images()
    objective = PerceptualCompression(model, ssim_weight=0.5, kl_weight=0.1, scale_weight=0.25)

    losses = objective.compression_loss({"sample": sample}, step(16))

    noise = step(16).random.randn(3, 4, 4)
    with torch.no_grad():
        posterior = model.encode(sample).latent_dist
        latents = posterior.mean + posterior.std * noise
        copy, small = model.decode(latents).sample, model.decode(torch.nn.functional.avg_pool2d(latents, 2)).sample
    halved = torch.nn.functional.avg_pool2d(sample, 2)
    assert losses.keys() == {"l1", "ssim", "kl", "scale"}
    assert_close(losses["l1"], (copy - sample).abs().mean())
    assert_close(losses["ssim"], 0.5 * (1 - structural_similarity(copy, sample).mean()))
    mean, var = posterior.mean, posterior.var
    assert_close(losses["kl"], 0.1 * 0.5 * (mean**2 + var - 1 - var.log()).mean())
    expected = (small - halved).abs().mean() + 0.5 * (1 - structural_similarity(small, halved).mean())
    assert_close(losses["scale"], 0.25 * expected)


def test_terms_without_weight_are_not_computed():
    objective = PerceptualCompression(vae(), ssim_weight=0.0, scale_weight=0.0)

    assert objective.compression_loss({"sample": images()}, step(16)).keys() == {"l1", "kl"}


def test_it_learns_to_reconstruct():
    model, sample = vae(), images(4).repeat(4, 1, 1, 1)
    objective = PerceptualCompression(model)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    before = objective.validate({"sample": sample}, step(16))["mse"].item()

    for index in range(60):
        torch.stack([*objective.compression_loss({"sample": sample}, step(16, index)).values()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    assert objective.validate({"sample": sample}, step(16))["mse"].item() < 0.5 * before


def test_images_that_cannot_be_halved_as_often_are_refused():
    objective = PerceptualCompression(vae(sample_size=10))

    with pytest.raises(ValueError, match="divisible by 4, got 10 x 10"):
        objective.check(Shape(1, 10, 10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ssim_weight": -1.0}, "`ssim_weight` must be at least 0 and finite, got -1.0"),
        ({"kl_weight": float("nan")}, "`kl_weight` must be at least 0 and finite, got nan"),
        ({"scale_weight": float("inf")}, "`scale_weight` must be at least 0 and finite, got inf"),
        ({"factor": 1}, "`factor` must be at least 2, got 1"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        PerceptualCompression(vae(), **arguments)
