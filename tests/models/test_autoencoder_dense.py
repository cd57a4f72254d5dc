"""Stacked autoencoders of dense layers: the book's sizes, shared matrices, and layers that stand alone."""

import math

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_inputs, tiny_model
from torch.testing import assert_close

from genhub import DenseAutoencoder

WEIGHTS = "diffusion_pytorch_model.safetensors"
BOOK = {"sample_size": 28, "in_channels": 1}


def images(model, count=3):
    return tiny_inputs("DenseAutoencoder", model, count)["sample"]


def pixels(model, count=3):
    """Rows (B, K) of [0, 1] that the first layer sees."""
    return ((images(model, count) + 1) / 2).flatten(1)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 163_814),
        ({"is_tied": True}, 82_414),
        ({"latent_channels": 300, "latent_activation": "sigmoid"}, 218_084),
        ({"latent_channels": 16, "latent_activation": "sigmoid"}, 161_000),
        ({"sample_size": (1, 3), "hidden_sizes": (), "latent_channels": 2, "latent_activation": "linear"}, 17),
    ],
)
def test_it_has_as_many_parameters_as_the_books(arguments, count):
    model = DenseAutoencoder(**BOOK | arguments)

    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_stack_is_its_matrices_and_activations_in_turn(is_tied):
    model = tiny_model("DenseAutoencoder", hidden_sizes=[12, 8], is_tied=is_tied, latent_activation="sigmoid")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    parameters, rows = model.state_dict(), pixels(model)
    down = [(parameters[f"layers.{k}.encoder.weight"], parameters[f"layers.{k}.encoder.bias"]) for k in range(3)]
    if is_tied:
        up = [(down[k][0].T, parameters[f"layers.{k}.decoder_bias"]) for k in range(3)]
    else:
        up = [(parameters[f"layers.{k}.decoder.weight"], parameters[f"layers.{k}.decoder.bias"]) for k in range(3)]

    output = model(images(model))

    first = (rows @ down[0][0].T + down[0][1]).clamp(min=0)
    second = (first @ down[1][0].T + down[1][1]).clamp(min=0)
    code = 1 / (1 + (-(second @ down[2][0].T + down[2][1])).exp())
    first = (code @ up[2][0].T + up[2][1]).clamp(min=0)
    second = (first @ up[1][0].T + up[1][1]).clamp(min=0)
    out = second @ up[0][0].T + up[0][1]
    assert_close(output.latents, code)
    assert_close(output.sample, 2 * out.view(3, 1, 8, 8) - 1)


def test_a_linear_stack_is_one_affine_map():
    model = tiny_model("DenseAutoencoder", activation="linear", latent_activation="linear")
    a, b = images(model, 6).split(3)

    middle = model((a + b) / 2)

    assert_close(middle.sample, (model(a).sample + model(b).sample) / 2)
    assert_close(middle.latents, (model(a).latents + model(b).latents) / 2)


def test_a_forward_is_decoding_what_was_encoded():
    model = tiny_model("DenseAutoencoder", "deep")

    output = model(images(model))

    assert torch.equal(model.encode(images(model)), output.latents)
    assert torch.equal(model.decode(output.latents), output.sample)
    assert output.target is None


@pytest.mark.parametrize("variant", ["tied", "tied colour"])
def test_a_tied_model_holds_each_matrix_once_in_memory_and_on_disk(variant, tmp_path):
    tied = tiny_model("DenseAutoencoder", variant)
    free = tiny_model("DenseAutoencoder", variant, is_tied=False)

    for name, model in (("tied", tied), ("free", free)):
        model.save_pretrained(tmp_path / name)

    saved, both = (load_file(tmp_path / name / WEIGHTS) for name in ("tied", "free"))
    matrices = [tensor for tensor in saved.values() if tensor.ndim == 2]
    assert [tuple(matrix.shape) for matrix in matrices] == [tuple(layer.encoder.weight.shape) for layer in tied.layers]
    assert 2 * sum(matrix.numel() for matrix in matrices) == sum(t.numel() for t in both.values() if t.ndim == 2)
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("tied", "free")]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_tied_matrix_learns_from_both_of_its_uses():
    model = tiny_model("DenseAutoencoder", hidden_sizes=[], latent_activation="linear", is_tied=True)
    (layer,), rows = model.layers, pixels(model)

    model(images(model)).sample.sum().backward()

    # sample = 2 (x W' + b) W + ...: each row's gradient of the sum is 2 (1 (x W' + b) + (W 1) x)
    code = rows @ layer.encoder.weight.T
    ones = torch.ones(64)
    expected = 2 * (code[:, :, None] * ones + (layer.encoder.weight @ ones)[None, :, None] * rows[:, None]).sum(0)
    assert_close(layer.encoder.weight.grad, expected.detach())


def test_a_transposed_matrix_is_read_where_it_lies():
    weight = tiny_model("DenseAutoencoder", is_tied=True).layers[0].encoder.weight

    assert weight.T.data_ptr() == weight.data_ptr()
    assert not weight.T.is_contiguous()


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("is_tied", [False, True])
def test_a_layer_alone_is_the_shallow_autoencoder_of_what_the_layers_beneath_give(layer, is_tied):
    model = tiny_model("DenseAutoencoder", hidden_sizes=[16, 12], is_tied=is_tied, latent_activation="sigmoid")
    sizes, last = [64, 16, 12, 4], layer == 2
    shallow = DenseAutoencoder(
        sample_size=(1, sizes[layer]),
        hidden_sizes=(),
        latent_channels=sizes[layer + 1],
        latent_activation="sigmoid" if last else "relu",
        is_tied=is_tied,
    )
    shallow.layers[0].load_state_dict(model.layers[layer].state_dict())
    below = pixels(model)
    for part in list(model.layers)[:layer]:
        below = part.encoder(below).relu()

    output = model(images(model), layer=layer)

    alone = shallow(2 * below[:, None, None, :] - 1)
    assert_close(output.target, below)
    assert_close(output.latents, alone.latents)
    shown = (alone.sample.flatten(1) + 1) / 2  # without the activation of what the layer was given
    assert_close(output.sample, shown if layer == 0 else shown.relu())


def test_noise_is_added_to_what_the_code_layer_is_given_and_nowhere_else():
    model = tiny_model("DenseAutoencoder", "sigmoid code")
    noise = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    first, last = model.layers
    hidden = first.encoder(pixels(model)).relu()

    output = model(images(model), noise=noise)

    assert_close(output.latents, last.encoder(hidden + noise).sigmoid())
    assert_close(output.sample, model.decode(output.latents))
    assert_close(model(images(model), noise=torch.zeros(3, 12)).sample, model(images(model)).sample)


@pytest.mark.parametrize("is_tied", [False, True])
def test_weights_start_as_kerass_do(is_tied):
    model = DenseAutoencoder(is_tied=is_tied)

    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert not parameter.any(), name
        else:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.95 * bound < parameter.abs().max() <= bound, name
            assert parameter.var().item() == pytest.approx(bound**2 / 3, rel=0.05), name
