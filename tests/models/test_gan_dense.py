"""The dense generative adversarial network against the layers of Keras that it is made of."""

import math

import pytest
import torch
from tiny import tiny_inputs, tiny_model
from torch.testing import assert_close

from genhub import DenseDiscriminator, DenseGenerator

SIZES = {DenseGenerator: (30, 100, 150, 784), DenseDiscriminator: (784, 150, 100, 1)}
both = pytest.mark.parametrize("network", SIZES)


def linear_layers(model):
    return [layer for layer in model.layers if isinstance(layer, torch.nn.Linear)]


@pytest.mark.parametrize(("network", "count"), [(DenseGenerator, 136_634), (DenseDiscriminator, 132_951)])
def test_it_has_as_many_parameters_as_the_books(network, count):
    sizes = SIZES[network]

    numbers = sum(parameter.numel() for parameter in network().parameters())

    assert numbers == count == sum((a + 1) * b for a, b in zip(sizes, sizes[1:], strict=False))


@both
def test_layers_with_a_relu_start_as_he_says_truncated_as_in_keras(network):
    for layer in linear_layers(network())[:-1]:
        std, weight = math.sqrt(2 / layer.in_features), layer.weight.detach()

        # what a cut at two deviations leaves has the deviation 0.8796: Keras makes up for it beforehand
        assert 0.95 * 2 * std / 0.8796 < weight.abs().max() <= 2 * std / 0.8796
        assert weight.std().item() == pytest.approx(std, rel=0.05)


@both
def test_the_last_layer_starts_as_glorot_says_and_all_biases_at_zero(network):
    layers = linear_layers(network())

    bound = math.sqrt(6 / (layers[-1].in_features + layers[-1].out_features))
    assert 0.9 * bound < layers[-1].weight.abs().max() <= bound
    assert not any(layer.bias.any() for layer in layers)


@pytest.mark.parametrize("variant", ["plain", "colour", "wide"])
def test_both_work_on_pixels_from_zero_to_one(variant):
    generator, discriminator = tiny_model("DenseGenerator", variant), tiny_model("DenseDiscriminator", variant)
    latents = tiny_inputs("DenseGenerator", generator)["latents"]

    sample = generator(latents).sample
    logits = discriminator(sample).logits

    pixels = generator.layers(latents).sigmoid()
    assert_close((sample + 1) / 2, pixels.view_as(sample))
    assert_close(logits, discriminator.layers(pixels)[:, 0])
