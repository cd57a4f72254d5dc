"""The style-based generator: what styles, noise and the mapping do. How it grows: test_gan_progressive.py."""

import pytest
import torch
from tiny import tiny_model
from torch.testing import assert_close

from genhub.models.gan_stylegan import EqualizedLinear, StyledLayer


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noisy_model():
    """A model on which noise leaves a trace."""
    model = tiny_model("StyleGANGenerator")
    for block in model.blocks:
        for layer in block:
            layer.noise_scale.data.fill_(0.5)
    return model


@pytest.mark.parametrize("widths", [None, (3, 4)])
def test_a_styled_map_has_the_mean_and_deviation_that_the_style_says(widths):
    layer = StyledLayer(4, style_channels=6, widths=widths)
    layer.to_style.bias.data = torch.tensor([3.0, 2.0, 1.5, 4.0, -1.0, 0.0, 0.5, 2.0])
    style = normal(2, 6) / 8

    maps = layer(normal(2, 4 if widths is None else 3, 8, 8), style, noise=None)

    y_s, y_b = layer.to_style(style).chunk(2, 1)
    assert_close(maps.mean((2, 3)), y_b, rtol=0, atol=1e-4)
    assert_close(maps.std((2, 3), correction=0), y_s.abs(), rtol=1e-2, atol=1e-4)


def test_mixing_takes_the_other_styles_from_a_layer_on():
    model, latents, others, noise = noisy_model(), normal(5, 4), normal(5, 4, seed=1), normal(5, 160, seed=2)
    own, other = model.map(latents), model.map(others)

    images = model(latents, noise, others, torch.arange(5)).sample

    styles = [torch.stack([other[m] if layer >= m else own[m] for layer in range(4)]) for m in range(5)]
    assert torch.equal(images, model.synthesize(torch.stack(styles), noise))
    assert_close(images[0], model(others, noise).sample[0])
    assert_close(images[4], model(latents, noise).sample[4])
    assert not torch.allclose(images, model(latents, noise).sample, atol=1e-2)


def test_noise_leaves_no_trace_before_training_and_one_after_it():
    latents, noise = normal(2, 4), normal(2, 160)

    for model, is_seen in ((tiny_model("StyleGANGenerator"), False), (noisy_model(), True)):
        assert torch.equal(model(latents, noise).sample, model(latents).sample) != is_seen


@pytest.mark.parametrize("layer", range(4))
def test_each_layer_has_noise_of_its_own(layer):
    model = tiny_model("StyleGANGenerator")
    model.blocks[layer // 2][layer % 2].noise_scale.data.fill_(0.5)
    noise = normal(1, model.noise_size).requires_grad_()

    model(normal(1, 4), noise).sample.square().sum().backward()

    assert [bool(part.any()) for part in noise.grad.split([16, 16, 64, 64], 1)] == [k == layer for k in range(4)]


def test_the_mean_style_follows_its_recurrence_in_training_and_stays_afterwards():
    model = tiny_model("StyleGANGenerator", style_decay=0.9).train()

    expected = torch.zeros(4)
    for seed in range(3):
        model(normal(5, 4, seed=seed))
        expected = 0.9 * expected + 0.1 * model.map(normal(5, 4, seed=seed)).mean(0).detach()
    model.eval()(normal(5, 4, seed=3))

    assert_close(model.mean_style, expected)


def test_images_lie_in_the_range_of_real_ones():
    model = tiny_model("StyleGANGenerator")
    for layer in model.to_image:
        layer.weight.data *= 100

    sample = model(torch.randn(64, 4)).sample

    assert 0.99 < sample.abs().max() <= 1


def test_a_rate_leaves_outputs_alone_and_multiplies_gradients():
    slow, fast = EqualizedLinear(6, 5, rate=0.01), EqualizedLinear(6, 5)
    for one, other in zip(slow.parameters(), fast.parameters(), strict=True):
        other.data = 0.01 * one.data

    outputs = slow(normal(8, 6)), fast(normal(8, 6))
    for out in outputs:
        out.square().sum().backward()

    assert_close(*outputs)
    for one, other in zip(slow.parameters(), fast.parameters(), strict=True):
        assert_close(one.grad, 0.01 * other.grad)


def test_a_rate_leaves_the_variance_of_the_start_alone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = EqualizedLinear(256, 512, rate=0.01)

    assert layer(normal(512, 256, seed=1)).var().item() == pytest.approx(2, rel=0.05)
