"""The recurrent autoencoder against the equations of an LSTM, one row after the other."""

import math

import pytest
import torch
from tiny import tiny_inputs, tiny_model
from torch.testing import assert_close

from genhub import RecurrentAutoencoder


def lstm(rows, part):
    """Returns the states (B, T, K) of an LSTM on `rows` (B, T, R), by its equations; gates i, f, g, o."""
    state = cell = rows.new_zeros(len(rows), part.hidden_size)
    states = []
    for row in rows.unbind(1):
        gates = row @ part.weight_ih_l0.T + part.bias_ih_l0 + state @ part.weight_hh_l0.T + part.bias_hh_l0
        i, f, g, o = gates.chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        state = o.sigmoid() * cell.tanh()
        states.append(state)
    return torch.stack(states, 1)


def test_it_has_as_many_parameters_as_the_notebooks():
    assert sum(parameter.numel() for parameter in RecurrentAutoencoder().parameters()) == 122_548


@pytest.mark.parametrize("variant", ["plain", "colour", "wide", "one row"])
def test_an_image_is_read_row_by_row_and_written_row_by_row(variant):
    model = tiny_model("RecurrentAutoencoder", variant)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.7, 0.7, generator=torch.Generator().manual_seed(parameter.numel()))
    sample = tiny_inputs("RecurrentAutoencoder", model, 3)["sample"]

    output = model(sample)

    rows = torch.stack([((row + 1) / 2).flatten(1) for row in sample.unbind(2)], 1)  # (B, H, C W)
    code = lstm(lstm(rows, model.encoder[0]), model.encoder[1])[:, -1]
    states = lstm(torch.stack([code] * sample.shape[2], 1), model.decoder)
    rows = [model.to_row(state).view(3, sample.shape[1], -1) for state in states.unbind(1)]  # (B, C, W) each
    assert_close(output.latents, code, rtol=0, atol=1e-6)
    assert_close(output.sample, 2 * torch.stack(rows, 2) - 1, rtol=0, atol=1e-5)


def test_the_code_depends_on_the_order_of_the_rows():
    model = tiny_model("RecurrentAutoencoder")
    sample = tiny_inputs("RecurrentAutoencoder", model)["sample"]

    assert not torch.allclose(model.encode(sample), model.encode(sample.flip(2)), atol=1e-3)


def test_a_row_of_a_reconstruction_depends_on_the_rows_written_before_it_alone():
    model = tiny_model("RecurrentAutoencoder")
    tall = tiny_model("RecurrentAutoencoder", sample_size=[12, 8])
    latents = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))

    assert_close(tall.decode(latents)[:, :, :8], model.decode(latents), rtol=0, atol=1e-6)


def test_a_forward_is_decoding_what_was_encoded():
    model = tiny_model("RecurrentAutoencoder", "wide")
    sample = tiny_inputs("RecurrentAutoencoder", model)["sample"]

    output = model(sample)

    assert torch.equal(model.encode(sample), output.latents)
    assert torch.equal(model.decode(output.latents), output.sample)


def test_weights_start_as_kerass_do():
    model = RecurrentAutoencoder()

    for part in (*model.encoder, model.decoder):
        units = part.hidden_size
        i, f, g, o = part.bias_ih_l0.chunk(4)
        assert torch.equal(f, torch.ones(units))
        assert not torch.cat([i, g, o, part.bias_hh_l0]).any()
        assert_close(part.weight_hh_l0.T @ part.weight_hh_l0, torch.eye(units), rtol=0, atol=1e-5)
        bound = math.sqrt(6 / sum(part.weight_ih_l0.shape))
        assert 0.95 * bound < part.weight_ih_l0.abs().max() <= bound
    assert 0.95 < model.to_row.weight.abs().max() / math.sqrt(6 / (100 + 28)) <= 1
    assert not model.to_row.bias.any()
