"""Progressive growing: what a level shows, how the next one fades in, and the layers that it is made of."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_inputs, tiny_model
from torch.testing import assert_close

from genhub.models import gan_progressive, gan_stylegan
from genhub.models.gan_progressive import append_minibatch_deviation, pixel_norm

GENERATORS = ("ProgressiveGenerator", "StyleGANGenerator")
every_generator = pytest.mark.parametrize("name", GENERATORS)
every_network = pytest.mark.parametrize("name", [*GENERATORS, "ProgressiveDiscriminator"])
CHANNELS = [4, 8, 6]  # three levels: 4, 8 and 16 pixels wide


def three_levels(name, level=2, sample_size=(12, 16)):
    return tiny_model(name, block_out_channels=CHANNELS, sample_size=list(sample_size), level=level)


def only_level(name, level, model):
    """A network that ends at `level`, with the weights of `model` and images of that level's size."""
    small = tiny_model(name, block_out_channels=CHANNELS[: level + 1], sample_size=4 * 2**level)
    small.load_state_dict({key: model.state_dict()[key] for key in small.state_dict()})
    return small


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def alphas(*values):
    return torch.tensor(values)


def repeated(images, factor):
    return images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


@every_generator
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_shows_each_pixel_of_a_smaller_network_on_a_square_and_cuts_the_compute_marginf(name, level):
    model = three_levels(name, level)
    small = only_level(name, level, model)

    images = model(normal(2, 4)).sample

    grown = repeated(small(normal(2, 4)).sample, 2 ** (2 - level))
    assert_close(images, grown[:, :, 2:14], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", [0, 1])
def test_a_discriminator_sees_the_pixels_of_a_generator_of_its_level_whole_again(level):
    model = three_levels("ProgressiveDiscriminator", level, sample_size=(14, 16))
    small = only_level("ProgressiveDiscriminator", level, model)
    pixels = normal(3, 1, 4 * 2**level, 4 * 2**level)

    logits = model(repeated(pixels, 2 ** (2 - level))[:, :, 1:15]).logits

    assert_close(logits, small(pixels).logits)


@every_generator
@pytest.mark.parametrize("level", [1, 2])
def test_a_level_begins_as_exactly_the_image_of_the_one_before(name, level):
    model, before = three_levels(name, level), three_levels(name, level - 1)

    images = model(normal(2, 4), alpha=alphas(0.0, 0.0)).sample

    assert torch.equal(images, before(normal(2, 4)).sample)
    assert not torch.allclose(images, model(normal(2, 4)).sample, atol=1e-2)


@pytest.mark.parametrize("level", [1, 2])
def test_a_level_begins_as_the_judgement_of_the_one_before(level):
    model, before = (three_levels("ProgressiveDiscriminator", k) for k in (level, level - 1))
    sample = normal(3, 1, 12, 16)

    logits = model(sample, alpha=alphas(0.0, 0.0, 0.0)).logits

    assert_close(logits, before(sample).logits)
    assert not torch.allclose(logits, model(sample).logits, atol=1e-3)


@every_network
def test_a_level_that_has_faded_in_does_not_ask_the_door_of_the_one_before(name):
    model = three_levels(name)
    inputs = tiny_inputs(name, model) | {"alpha": alphas(1.0, 1.0)}
    doors = model.from_image if name == "ProgressiveDiscriminator" else model.to_image
    before = model(**inputs)[0]

    doors[1].weight.data.add_(1.0)

    assert torch.equal(model(**inputs)[0], before)


@every_generator
def test_the_share_of_the_newest_level_is_that_of_each_image(name):
    model, latents = three_levels(name), normal(2, 4)
    old, new = (model(latents, alpha=alphas(alpha, alpha)).sample for alpha in (0.0, 1.0))

    images = model(latents, alpha=alphas(0.25, 0.5)).sample

    assert_close(images, torch.stack([0.75 * old[0] + 0.25 * new[0], 0.5 * (old[1] + new[1])]), rtol=1e-4, atol=1e-5)


@every_network
def test_the_share_that_was_trained_with_last_is_kept(name):
    model = three_levels(name)
    inputs = tiny_inputs(name, model)
    share = inputs.pop("alpha")

    model(**inputs, alpha=share)
    assert model.alpha == 1.0
    model.train()(**inputs, alpha=share)

    assert_close(model.alpha, share.mean())
    assert torch.equal(model.eval()(**inputs)[0], model(**inputs, alpha=share.mean().expand(2))[0])


@every_network
@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_parts_in_use_are_those_that_a_gradient_reaches(name, level):
    model = three_levels(name, level)

    model(**tiny_inputs(name, model))[0].square().sum().backward()

    reached = {key for key, parameter in model.named_parameters() if parameter.grad is not None}
    in_use = tuple(f"{part}." for part in model.trainable_submodules)
    assert reached == {key for key, _ in model.named_parameters() if f"{key}.".startswith(in_use)}


@every_network
@pytest.mark.parametrize("level", [-1, 3])
def test_a_network_does_not_grow_to_levels_that_it_lacks(name, level):
    model = three_levels(name)

    with pytest.raises(ValueError, match=rf"`level` must lie in 0\.\.2, got {level}"):
        model.grow(level)

    assert model.level == model.config.level == 2


@pytest.mark.parametrize("module", [gan_progressive, gan_stylegan])
def test_growth_reaches_even_sizes_above_that_of_the_level_before(module):
    reached = []
    for size in range(40):
        try:
            (top, left) = module.compute_margin((size, 32), (1, 1, 1, 1), base_size=4)
        except ValueError:
            continue
        assert (2 * top + size, left) == (32, 0)
        reached.append(size)

    assert reached == list(range(18, 33, 2))


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
@pytest.mark.parametrize("module", [gan_progressive, gan_stylegan])
def test_an_equalized_layer_gives_normal_numbers_the_variance_gain_squared(module, gain):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = module.EqualizedLinear(256, 512, gain=gain), module.EqualizedConv2d(32, 256, 3, gain=gain)

    linear, convolution = (
        layers[0](normal(512, 256, seed=1)),
        layers[1](normal(16, 32, 8, 8, seed=1))[:, :, 1:-1, 1:-1],
    )

    assert [out.var().item() for out in (linear, convolution)] == pytest.approx([gain**2] * 2, rel=0.05)
    assert [layer.weight.std().item() for layer in layers] == pytest.approx([1, 1], rel=0.05)
    assert not any(layer.bias.any() for layer in layers)


def test_a_step_of_adam_changes_equalized_layers_alike_and_others_the_more_the_wider_they_are():
    def changes(make):
        """The relative change of the weights of a narrow and of a wide layer in one step."""
        found = []
        for width in (16, 1024):
            layer = make(width)
            before = layer.weight.detach().clone()
            layer(normal(32, width)).square().sum().backward()
            torch.optim.Adam(layer.parameters(), lr=1e-3).step()
            found.append(((layer.weight - before).norm() / before.norm()).item())
        return found

    def he(width):
        layer = torch.nn.Linear(width, 64)
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        return layer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        equalized, plain = changes(lambda width: gan_progressive.EqualizedLinear(width, 64)), changes(he)

    assert equalized[1] / equalized[0] == pytest.approx(1, rel=0.05)
    assert plain[1] / plain[0] == pytest.approx((1024 / 16) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", ["ProgressiveGenerator", "ProgressiveDiscriminator"])
def test_weights_that_are_scaled_once_begin_as_the_same_function_as_those_scaled_at_run_time(name):
    equalized, plain = (tiny_model(name, is_equalized=is_equalized) for is_equalized in (True, False))
    inputs = tiny_inputs(name, equalized)

    assert_close(plain(**inputs).to_tuple(), equalized(**inputs).to_tuple(), rtol=1e-4, atol=1e-5)
    assert not torch.equal(next(plain.parameters()), next(equalized.parameters()))


def test_the_length_of_the_features_matters_without_pixel_norm_alone():
    lengths = []
    for has_pixel_norm in (True, False):
        model = tiny_model("ProgressiveGenerator", level=0, has_pixel_norm=has_pixel_norm)
        image = model(**tiny_inputs("ProgressiveGenerator", model)).sample
        with torch.no_grad():
            model.from_latents.weight.mul_(3)
        lengths.append(torch.allclose(model(**tiny_inputs("ProgressiveGenerator", model)).sample, image, atol=1e-5))

    assert lengths == [True, False]


@pytest.mark.parametrize("has_deviation", [True, False])
def test_an_image_is_judged_by_itself_without_the_minibatch_deviation(has_deviation):
    model = tiny_model("ProgressiveDiscriminator", has_minibatch_deviation=has_deviation)
    sample = tiny_inputs("ProgressiveDiscriminator", model, 4)["sample"]

    together, alone = model(sample).logits[:2], model(sample[:2]).logits

    assert torch.allclose(together, alone, atol=1e-6) != has_deviation
    assert model.has_batch_statistics == has_deviation


def test_pixel_norm_makes_vectors_of_channels_as_long_as_the_root_of_their_number():
    sample = normal(2, 9, 4, 4)

    normed = pixel_norm(sample)

    assert_close(normed.norm(dim=1), torch.full((2, 4, 4), 3.0))
    assert_close(F.cosine_similarity(normed, sample), torch.ones(2, 4, 4))


def test_equal_images_have_almost_no_deviation():
    sample = normal(1, 3, 4, 4).expand(5, -1, -1, -1)

    out = append_minibatch_deviation(sample)

    assert torch.equal(out[:, :3], sample)
    assert_close(out[:, 3:], torch.full((5, 1, 4, 4), 1e-4), rtol=0, atol=1e-6)


def test_the_deviation_of_two_images_is_half_their_mean_absolute_difference():
    sample = normal(2, 3, 4, 6) + 5 * torch.arange(3.0)[:, None, None]  # a place's deviation, not the whole's

    out = append_minibatch_deviation(sample)

    assert_close(out[:, 3], (sample[0] - sample[1]).abs().mean().div(2).expand(2, 4, 6), rtol=0, atol=1e-4)
