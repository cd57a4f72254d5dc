"""The convolutional autoencoder against the layers of Keras that it is made of, written as loops."""

import math

import numpy as np
import pytest
import torch
from tiny import tiny_inputs, tiny_model
from torch.testing import assert_close

from genhub import ConvAutoencoder


def transposed_convolution(maps, kernel, bias, padding):
    """Keras's Conv2DTranspose of stride 2 as a loop: every pixel of `maps` (C, H, W) leaves a stamp of `kernel`
    (C, K, 3, 3). "same" has 2H rows, "valid" all that the stamps reach."""
    _, height, width = maps.shape
    whole = np.zeros((kernel.shape[1], 2 * height + 1, 2 * width + 1))
    for y in range(height):
        for x in range(width):
            whole[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3] += np.einsum("c,ckij->kij", maps[:, y, x], kernel)
    # Keras pads as the convolution that this one transposes: of 3 - 2 = 1 pixel, none before and one after
    whole = whole[:, : 2 * height, : 2 * width] if padding == "same" else whole
    return whole + bias[:, None, None]


def convolution(maps, kernel, bias):
    """Keras's Conv2D, padding "same", stride 1, kernel (K, C, 3, 3), as a loop over the taps."""
    _, height, width = maps.shape
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(kernel), height, width)) + bias[:, None, None]
    for i in range(3):
        for j in range(3):
            out += np.einsum("kc,chw->khw", kernel[:, :, i, j], padded[:, i : i + height, j : j + width])
    return out


def pooled(maps):
    """Keras's MaxPool2D of 2: an odd row or column at the end is left out."""
    channels, height, width = maps.shape
    maps = maps[:, : height // 2 * 2, : width // 2 * 2]
    return maps.reshape(channels, height // 2, 2, width // 2, 2).max((2, 4))


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


def test_it_has_as_many_parameters_as_the_books():
    assert sum(parameter.numel() for parameter in ConvAutoencoder().parameters()) == 54_479


@pytest.mark.parametrize("variant", ["plain", "colour", "odd", "three halvings"])
def test_the_code_is_the_average_of_the_last_maps(variant):
    model = with_biases(tiny_model("ConvAutoencoder", variant))
    sample = tiny_inputs("ConvAutoencoder", model)["sample"]

    codes = model.encode(sample)

    for image, code in zip(sample, codes, strict=True):
        maps = (image.double().numpy() + 1) / 2
        for part in model.encoder[:-1]:
            maps = pooled(convolution(maps, *numbers(part)).clip(0))
        maps = convolution(maps, *numbers(model.encoder[-1])).clip(0)
        assert_close(code.detach().double().numpy(), maps.mean((1, 2)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "paddings"),
    [
        (28, ["valid", "same", "same"]),  # the book's: 3 -> 7 -> 14 -> 28
        (32, ["same", "same", "same"]),  # 4 -> 8 -> 16 -> 32
        (30, ["valid", "valid", "same"]),  # 3 -> 7 -> 15 -> 30
        ((24, 30), None),  # another padding for rows than for columns
    ],
)
def test_the_decoder_is_kerass_in_a_mirror_whatever_the_size_of_the_image(size, paddings):
    model = with_biases(tiny_model("ConvAutoencoder", "three halvings", sample_size=size))
    latents = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))

    images = model.decode(latents)

    height, width = (size, size) if isinstance(size, int) else size
    assert images.shape == (2, 1, height, width)
    for code, image in zip(latents, images, strict=True):
        maps = model.from_code(code).detach().double().numpy().reshape(4, height // 8, width // 8)[:, ::-1, ::-1]
        for depth, part in enumerate(model.decoder):
            maps = transposed_convolution(maps, *mirrored(part), (paddings or ["valid"] * 3)[depth])
            if paddings is None:
                maps = maps[:, : height >> (2 - depth), : width >> (2 - depth)]
            maps = maps if depth == 2 else maps.clip(0)
        assert_close(image.detach().double().numpy(), 2 * maps - 1, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [28, (24, 30)])
def test_the_other_decoder_repeats_pixels_and_convolves(size):
    model = with_biases(tiny_model("ConvAutoencoder", "three halvings", sample_size=size, upsampling="nearest"))
    latents = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))

    images = model.decode(latents)

    height, width = (size, size) if isinstance(size, int) else size
    for code, image in zip(latents, images, strict=True):
        maps = model.from_code(code).detach().double().numpy().reshape(4, height // 8, width // 8)
        for depth, part in enumerate(model.decoder):
            rows, columns = (np.arange(length >> (2 - depth)) for length in (height, width))
            maps = maps[:, rows * maps.shape[1] // len(rows)][:, :, columns * maps.shape[2] // len(columns)]
            maps = convolution(maps, *numbers(part))
            maps = maps if depth == 2 else maps.clip(0)
        assert_close(image.detach().double().numpy(), 2 * maps - 1, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("upsampling", "is_even"), [("transposed", False), ("nearest", True)])
def test_a_flat_map_stays_flat_inside_where_each_pixel_is_as_many_terms(upsampling, is_even):
    model = with_biases(tiny_model("ConvAutoencoder", sample_size=16, upsampling=upsampling))
    with torch.no_grad():
        model.from_code.weight.zero_()
        model.from_code.bias.fill_(1)

    inside = model.decode(torch.zeros(1, 4))[0, 0, 5:11, 5:11]  # two convolutions from the edges

    assert (inside.std() < 1e-5) == is_even


def test_the_code_does_not_depend_on_where_an_object_is():
    model = tiny_model("ConvAutoencoder", block_out_channels=[4], decoder_channels=[4], sample_size=16)
    black = -torch.ones(1, 1, 16, 16)
    here, there = black.clone(), black.clone()
    here[:, :, 4:8, 4:8] = there[:, :, 8:12, 6:10] = 0.5  # moved by whole windows of the pooling

    assert_close(model.encode(here), model.encode(there))
    assert not torch.allclose(model.encode(here), model.encode(black), atol=1e-4)


def test_a_forward_is_decoding_what_was_encoded():
    model = tiny_model("ConvAutoencoder", "wide")
    sample = tiny_inputs("ConvAutoencoder", model)["sample"]

    output = model(sample)

    assert torch.equal(model.encode(sample), output.latents)
    assert torch.equal(model.decode(output.latents), output.sample)
    assert (output.latents >= 0).all()


def test_weights_start_as_kerass_do():
    model = ConvAutoencoder()

    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert not parameter.any(), name
        else:
            taps = math.prod(parameter.shape[2:])
            bound = math.sqrt(6 / (taps * (parameter.shape[0] + parameter.shape[1])))
            assert 0.95 * bound < parameter.abs().max() <= bound, name
