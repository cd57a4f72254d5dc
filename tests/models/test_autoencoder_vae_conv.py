"""The convolutional variational autoencoder against Keras's layers, and its classes as maps beside the image."""

import math

import numpy as np
import pytest
import torch
from tiny import tiny_inputs, tiny_model
from torch.testing import assert_close

from genhub import ConvVAE

NAME = "ConvVAE"


def numbers(part):
    return part.weight.detach().double().numpy(), part.bias.detach().double().numpy()


def mirrored(part):
    """The numbers of a layer whose kernels are turned around in space."""
    weight, bias = numbers(part)
    return weight[:, :, ::-1, ::-1], bias


def with_biases(model):
    """Gives all biases values, which start at zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.1, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


def strided(maps, kernel, bias):
    """Keras's Conv2D, padding "valid", stride 2, as a loop over places."""
    height, width = ((size - 3) // 2 + 1 for size in maps.shape[1:])
    out = np.zeros((len(kernel), height, width))
    for y in range(height):
        for x in range(width):
            out[:, y, x] = np.einsum("kcij,cij->k", kernel, maps[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3])
    return out + bias[:, None, None]


def stamped(maps, kernel, bias, stride):
    """Keras's Conv2DTranspose, padding "same", as a loop over places: a sum of stamps, of whose one or two pixels
    beyond the image Keras cuts the last off first (stride 2: one, behind; stride 1: one on each side)."""
    _, height, width = maps.shape
    whole = np.zeros((kernel.shape[1], stride * (height - 1) + 3, stride * (width - 1) + 3))
    for y in range(height):
        for x in range(width):
            stamp = np.einsum("c,ckij->kij", maps[:, y, x], kernel)
            whole[:, stride * y : stride * y + 3, stride * x : stride * x + 3] += stamp
    before = (3 - stride) // 2
    return whole[:, before:, before:][:, : stride * height, : stride * width] + bias[:, None, None]


def test_it_has_as_many_parameters_as_the_tutorials():
    model = ConvVAE()

    def count(*parts):
        return sum(parameter.numel() for part in parts for parameter in part.parameters())

    assert count(model.encoder, model.to_moments) == 28_036
    assert count(model.from_latents, model.decoder, model.to_pixels) == 41_953
    assert count(model) == 69_989


@pytest.mark.parametrize("variant", ["plain", "colour", "wide", "hidden layers"])
def test_the_encoder_is_kerass(variant):
    model = with_biases(tiny_model(NAME, variant))
    sample = tiny_inputs(NAME, model)["sample"]

    mean, logvar = model.encode(sample)

    convolutions = [part for part in model.encoder if isinstance(part, torch.nn.Conv2d)]
    linear = [part for part in model.encoder.modules() if isinstance(part, torch.nn.Linear)]
    for row, image in enumerate(sample):
        maps = (image.double().numpy() + 1) / 2
        for part in convolutions:
            maps = strided(maps, *numbers(part)).clip(0)
        values = maps.reshape(-1)
        for part in linear:
            weight, bias = numbers(part)
            values = (weight @ values + bias).clip(0)
        weight, bias = numbers(model.to_moments)
        moments = torch.from_numpy(weight @ values + bias).float()
        assert_close(torch.cat([mean[row], logvar[row]]), moments, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["plain", "colour", "wide", "hidden layers", "one doubling"])
def test_the_decoder_is_kerass_in_a_mirror(variant):
    model = with_biases(tiny_model(NAME, variant, likelihood="bernoulli"))
    latents = tiny_inputs(NAME, model)["noise"]

    logits = model.decode(latents)

    for code, image in zip(latents, logits, strict=True):
        values = code.double().numpy()
        for part in model.from_latents[::2]:
            weight, bias = numbers(part)
            values = (weight @ values + bias).clip(0)
        halvings = len(model.decoder)
        maps = values.reshape(-1, image.shape[1] >> halvings, image.shape[2] >> halvings)[:, ::-1, ::-1]
        for part in model.decoder:
            maps = stamped(maps, *mirrored(part), stride=2).clip(0)
        expected = stamped(maps, *mirrored(model.to_pixels), stride=1)
        assert_close(image.detach().double().numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["plain", "gaussian", "conditional"])
def test_a_latent_is_the_mean_and_the_deviation_times_the_noise(variant):
    model = tiny_model(NAME, variant)
    inputs = tiny_inputs(NAME, model)
    mean, logvar = model.encode(inputs["sample"], inputs.get("class_labels"))

    output, still = model(**inputs), model(**inputs | {"noise": None})

    assert torch.equal(output.mean, mean)
    assert torch.equal(output.logvar, logvar)
    assert_close(output.latents, mean + logvar.exp().sqrt() * inputs["noise"])
    assert torch.equal(still.latents, mean)


@pytest.mark.parametrize("variant", ["gaussian", "bernoulli"])
def test_a_sample_is_the_mean_of_its_likelihood(variant):
    model = tiny_model(NAME, variant)

    output = model(**tiny_inputs(NAME, model))

    decoded = model.decode(output.latents)
    if variant == "gaussian":
        assert output.logits is None
        assert torch.equal(output.sample, decoded)
    else:
        assert torch.equal(output.logits, decoded)
        assert_close((output.sample + 1) / 2, torch.distributions.Bernoulli(logits=decoded).mean)


def test_gaussian_and_bernoulli_networks_read_the_same_numbers_otherwise():
    gaussian, bernoulli = (tiny_model(NAME, variant) for variant in ("gaussian", "bernoulli"))
    latents = tiny_inputs(NAME, gaussian)["noise"]

    assert_close(gaussian.decode(latents), 2 * bernoulli.decode(latents) - 1)


def test_a_class_shifts_the_first_layer_of_encoder_and_decoder_by_its_column():
    model = tiny_model(NAME, "colour of a class")
    inputs = tiny_inputs(NAME, model, 3)
    noise = inputs["noise"]

    for label in range(4):
        plain = tiny_model(NAME, "colour of a class", num_class_embeds=None)
        weights = model.state_dict()
        for part, known in (("encoder.0", 3), ("from_latents.0", 4)):
            kernel = weights[f"{part}.weight"]
            column = kernel[:, known + label].flatten(1).sum(1) if kernel.ndim == 4 else kernel[:, known + label]
            weights[f"{part}.bias"] = weights[f"{part}.bias"] + column
            weights[f"{part}.weight"] = kernel[:, :known]
        plain.load_state_dict(weights)

        output = model(inputs["sample"], torch.full((3,), label), noise)

        assert_close(output.to_tuple(), plain(inputs["sample"], noise=noise).to_tuple(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "labels", "message"),
    [
        ("plain", torch.tensor([0, 1]), "`class_labels` must be unset: the network is unconditional"),
        ("conditional", None, "`class_labels` must be given: the network is conditional"),
    ],
)
def test_labels_are_asked_for_where_the_network_knows_classes_and_nowhere_else(variant, labels, message):
    model = tiny_model(NAME, variant)
    inputs = tiny_inputs(NAME, model)

    with pytest.raises(ValueError, match=message):
        model(inputs["sample"], labels)
    with pytest.raises(ValueError, match=message):
        model.encode(inputs["sample"], labels)
    with pytest.raises(ValueError, match=message):
        model.decode(inputs["noise"], labels)


def test_weights_start_as_kerass_do():
    for name, parameter in ConvVAE().named_parameters():
        if parameter.ndim == 1:
            assert not parameter.any(), name
        else:
            taps = math.prod(parameter.shape[2:])
            bound = math.sqrt(6 / (taps * (parameter.shape[0] + parameter.shape[1])))
            assert 0.95 * bound < parameter.abs().max() <= bound, name
