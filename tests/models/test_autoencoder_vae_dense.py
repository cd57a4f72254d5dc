"""The dense variational autoencoder: the book's sizes, its reparametrisation, its likelihoods and its classes."""

import math

import pytest
import torch
from tiny import tiny_inputs, tiny_model
from torch.testing import assert_close

from genhub import DenseVAE

NAME = "DenseVAE"


def test_it_has_as_many_parameters_as_the_books():
    assert sum(parameter.numel() for parameter in DenseVAE().parameters()) == 269_504


@pytest.mark.parametrize("variant", ["plain", "bernoulli", "wide", "shallow"])
def test_it_is_its_matrices_and_activations_in_turn(variant):
    model = tiny_model(NAME, variant)
    inputs = tiny_inputs(NAME, model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.3, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))

    output = model(**inputs)

    values = ((inputs["sample"] + 1) / 2).flatten(1)
    for part in model.encoder[::2]:
        values = (values @ part.weight.T + part.bias).clamp(min=0)
    moments = values @ model.to_moments.weight.T + model.to_moments.bias
    mean, logvar = moments[:, :4], moments[:, 4:]
    values = mean + logvar.exp().sqrt() * inputs["noise"]
    for part in model.decoder[::2]:
        values = (values @ part.weight.T + part.bias).clamp(min=0)
    values = (values @ model.to_pixels.weight.T + model.to_pixels.bias).view_as(output.sample)
    assert_close((output.mean, output.logvar), (mean, logvar))
    if variant == "bernoulli":
        assert_close(output.logits, values)
    pixels = 1 / (1 + (-values).exp()) if variant == "bernoulli" else values
    assert_close(output.sample, 2 * pixels - 1)


def test_what_is_decoded_is_distributed_as_the_posterior():
    model = tiny_model(NAME)
    sample = tiny_inputs(NAME, model, 1)["sample"]
    noise = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))

    output = model(sample.expand(20_000, -1, -1, -1), noise=noise)

    mean, logvar = model.encode(sample)
    assert_close(output.latents.mean(0), mean[0], rtol=0, atol=0.05)
    assert_close(output.latents.var(0).log(), logvar[0], rtol=0, atol=0.05)


def test_a_gradient_reaches_the_encoder_through_mean_and_deviation_and_not_through_a_draw():
    model = tiny_model(NAME).train()
    inputs = tiny_inputs(NAME, model)
    encoder = [*model.encoder.parameters(), *model.to_moments.parameters()]

    mean, logvar = model.encode(inputs["sample"])
    drawn = torch.distributions.Normal(mean, (logvar / 2).exp()).sample()
    through_draw = torch.autograd.grad(model.decode(drawn).square().sum(), encoder, allow_unused=True)
    through_both = torch.autograd.grad(model(**inputs).sample.square().sum(), encoder)

    assert through_draw == (None,) * len(encoder)
    assert all(gradient.any() for gradient in through_both)


@pytest.mark.parametrize("variant", ["plain", "conditional"])
def test_without_noise_the_mean_is_decoded(variant):
    model = tiny_model(NAME, variant)
    inputs = tiny_inputs(NAME, model)

    output = model(**inputs | {"noise": None})

    assert torch.equal(output.latents, output.mean)
    assert torch.equal(output.sample, model(**inputs | {"noise": torch.zeros(2, 4)}).sample)
    assert not torch.allclose(output.sample, model(**inputs).sample, atol=1e-3)


@pytest.mark.parametrize("variant", ["plain", "bernoulli"])
def test_a_sample_is_the_mean_of_its_likelihood(variant):
    model = tiny_model(NAME, variant)

    output = model(**tiny_inputs(NAME, model))

    decoded = model.decode(output.latents)
    if variant == "plain":
        assert output.logits is None
        assert torch.equal(output.sample, decoded)
    else:
        assert torch.equal(output.logits, decoded)
        assert_close((output.sample + 1) / 2, torch.distributions.Bernoulli(logits=decoded).mean)


def test_a_class_shifts_the_first_layer_of_encoder_and_decoder_by_its_column():
    model = tiny_model(NAME, "conditional")
    inputs = tiny_inputs(NAME, model, 3)
    noise = inputs["noise"]

    for label in range(4):
        plain = tiny_model(NAME)
        weights = model.state_dict()
        for part, known in (("encoder.0", 64), ("decoder.0", 4)):
            weights[f"{part}.bias"] = weights[f"{part}.bias"] + weights[f"{part}.weight"][:, known + label]
            weights[f"{part}.weight"] = weights[f"{part}.weight"][:, :known]
        plain.load_state_dict(weights)

        output = model(inputs["sample"], torch.full((3,), label), noise)

        assert_close(output.to_tuple(), plain(inputs["sample"], noise=noise).to_tuple())


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


def test_weights_start_as_kerass_do_and_the_moments_as_two_layers():
    model = DenseVAE()

    heads = {"mean": model.to_moments.weight[:10], "logvar": model.to_moments.weight[10:]}
    matrices = {name: p for name, p in model.named_parameters() if p.ndim == 2 and "moments" not in name}
    for name, matrix in (matrices | heads).items():
        bound = math.sqrt(6 / sum(matrix.shape))
        assert 0.95 * bound < matrix.abs().max() <= bound, name
    assert not any(p.any() for name, p in model.named_parameters() if name.endswith("bias"))
