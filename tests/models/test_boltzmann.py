"""Restricted Boltzmann machines and deep belief nets, beside the sums over all states of small ones."""

import itertools

import pytest
import torch
from scipy.stats import chisquare
from torch.testing import assert_close

from genhub import BoltzmannPipeline, DeepBeliefNet


def states(size):
    """All (2^size, size) states of binary units."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=size)), dtype=torch.float64)


def machine_of(*hidden, seed=0):
    """A net on images of 2 x 2 pixels in float64, with strong weights and biases."""
    model, generator = DeepBeliefNet((2, 2), 1, hidden[:-1], hidden[-1]).double(), torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double()
    return model.requires_grad_(False)


def joint(layer):
    """p(v, h) = exp(a'v + b'h + v'W h) / Z of a machine, (2^K, 2^J), term by term."""
    weight, b, a = layer.pairs.weight, layer.pairs.bias, layer.visible_bias
    v, h = states(len(a)), states(len(b))
    energy = -(v @ a)[:, None] - h @ b - v @ weight.T @ h.T
    return (-energy).exp() / (-energy).exp().sum(), energy


def drawn(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(units):
    """The place of each state (N, K) in `states`."""
    return (units.long() * 2 ** torch.arange(units.shape[1] - 1, -1, -1)).sum(1)


def test_the_free_energy_is_minus_the_logarithm_of_the_sum_over_hidden_states():
    (layer,) = machine_of(3).layers

    free = layer.free_energy(states(4))

    _, energy = joint(layer)
    assert free.dtype == torch.float32
    assert_close(free.double(), -(-energy).exp().sum(1).log(), rtol=1e-6, atol=1e-6)


def test_units_of_one_side_given_the_other_have_the_means_of_the_joint_distribution():
    (layer,) = machine_of(3).layers
    p, _ = joint(layer)

    assert_close(layer.hidden_mean(states(4)), p @ states(3) / p.sum(1, keepdim=True))
    assert_close(layer.visible_mean(states(3)), p.T @ states(4) / p.sum(0)[:, None])


def test_gibbs_sampling_ends_in_the_distribution_of_the_machine():
    model, count = machine_of(3), 20_000
    hidden = torch.zeros(count, 3, dtype=torch.float64)

    for step in range(50):
        hidden = model.gibbs(hidden, drawn((count, 7), step))
    _, visible, _ = model.layers[0].gibbs(hidden, drawn((count, 7), 50))

    for units, axis in ((hidden, 0), (visible, 1)):
        seen = numbers(units).bincount(minlength=2 ** units.shape[1])
        expected, other = (joint(machine_of(3, seed=seed).layers[0])[0].sum(axis) * count for seed in (0, 1))
        assert chisquare(seen, expected).pvalue > 0.001
        assert chisquare(seen, other).pvalue < 1e-9


def test_images_of_a_deep_belief_net_have_the_mean_of_its_distribution():
    model, count = machine_of(3, 2), 10_000
    images = BoltzmannPipeline(model, num_inference_steps=50)(
        count, torch.Generator().manual_seed(0), output_type="pt"
    ).images

    top, _ = joint(model.layers[1])
    given = model.layers[0].visible_mean(states(3))  # (8, 4)
    mean = top.sum(1) @ given
    error = ((top.sum(1) @ given.square() - mean.square()) / count).sqrt()
    assert ((images.flatten(1).double().mean(0) - mean).abs() < 4 * error).all()


def test_a_chain_without_steps_shows_what_it_starts_from_and_steps_forget_it():
    pipe = BoltzmannPipeline(machine_of(3))
    codes = torch.eye(3)

    def images(steps, latents=None):
        generator = torch.Generator().manual_seed(0)
        return pipe(3, generator, steps, None if latents is None else latents.repeat(1, 1), "pt").images

    assert torch.equal(images(0, codes), pipe.decode(codes, output_type="pt").images)
    assert not torch.equal(images(0, codes), images(0, 1 - codes))
    assert torch.equal(images(200, codes), images(200, 1 - codes))  # coupled by the same numbers


def test_an_image_is_encoded_and_decoded_by_means_from_layer_to_layer():
    model = machine_of(3, 2)
    sample = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    first, second = model.layers

    output = model(sample)

    code = second.hidden_mean(first.hidden_mean(((sample + 1) / 2).flatten(1)))
    copy = first.visible_mean(second.visible_mean(code))
    assert_close(output.latents, code)
    assert_close(output.sample, (2 * copy - 1).view(5, 1, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inference_steps": -1}, "`num_inference_steps` must be at least 0, got -1"),
        ({"latents": torch.zeros(2, 4)}, r"`latents` must have the shape \(2, 3\), got \(2, 4\)"),
        ({"callback_on_step_end_tensor_inputs": ["x"]}, r"must be among \['latents'\], got \['x'\]"),
    ],
)
def test_bad_arguments_of_sampling_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BoltzmannPipeline(machine_of(3))(**arguments)
