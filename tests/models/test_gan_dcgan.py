"""The deep convolutional GAN against the layers of Keras that it is made of, and what ours adds to it."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_inputs, tiny_model
from torch.testing import assert_close

from genhub import DCGANDiscriminator, DCGANGenerator
from genhub.models.gan_dcgan import MinibatchDiscrimination

CONDITIONAL = [("DCGANGenerator", "conditional"), ("DCGANDiscriminator", "conditional")]
every_conditional = pytest.mark.parametrize("kind", [*CONDITIONAL, ("DCGANDiscriminator", "projection")], ids=" ".join)


def with_numbers(model):
    """Gives biases and statistics values, which start at zero or one."""
    for name, value in model.state_dict().items():
        if value.ndim == 1:
            value.uniform_(0.1, 0.6, generator=torch.Generator().manual_seed(len(name)))
    return model


def mirrored(layer):
    return layer.weight.flip(2, 3), layer.bias


def images_of(model, batch_size=2):
    return tiny_inputs("DCGANDiscriminator", model, batch_size)["sample"]


@pytest.mark.parametrize("variant", ["plain", "colour", "wide", "conditional"])
def test_a_generator_is_kerass_in_a_mirror(variant):
    model = with_numbers(tiny_model("DCGANGenerator", variant))
    inputs = tiny_inputs("DCGANGenerator", model)

    sample = model(**inputs).sample

    entrance = inputs["latents"]
    if "class_labels" in inputs:
        entrance = torch.cat([entrance, torch.eye(4)[inputs["class_labels"]]], 1)
    maps = model.from_latents(entrance).view(2, *model.smallest).flip(2, 3)
    for norm, layer in zip(model.norms, model.layers, strict=True):
        mean, var, gamma, beta = (
            n[:, None, None] for n in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        maps = (maps - mean) / (var + 1e-3).sqrt() * gamma + beta
        maps = F.conv_transpose2d(maps, *mirrored(layer), stride=2, padding=1)[:, :, :-1, :-1]
        maps = maps.tanh() if layer is model.layers[-1] else maps.relu()
    assert_close(sample, maps, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["plain", "colour", "wide", "conditional"])
def test_a_discriminator_is_kerass_in_a_mirror(variant):
    model = with_numbers(tiny_model("DCGANDiscriminator", variant))
    inputs = tiny_inputs("DCGANDiscriminator", model) | {"noise": None}

    logits = model(**inputs).logits

    maps = inputs["sample"]
    if "class_labels" in inputs:
        classes = torch.eye(4)[inputs["class_labels"]][:, :, None, None].expand(-1, -1, 8, 8)
        maps = torch.cat([maps, classes], 1)
    for layer in model.layers:
        maps = F.leaky_relu(F.conv2d(F.pad(maps, (1, 2, 1, 2)), *mirrored(layer), stride=2), 0.2)
    assert_close(logits, model.to_logit(maps.flip(2, 3).flatten(1))[:, 0], rtol=1e-5, atol=1e-5)


def test_a_generator_has_as_many_numbers_as_the_books():
    model = DCGANGenerator()
    moving = sum(norm.running_mean.numel() + norm.running_var.numel() for norm in model.norms)

    trained = sum(parameter.numel() for parameter in model.parameters())

    dense, first, second = (100 + 1) * 7 * 7 * 128, (25 * 128 + 1) * 64, 25 * 64 + 1
    assert trained == 840_321 == dense + 2 * 128 + first + 2 * 64 + second
    assert (moving, trained + moving) == (2 * (128 + 64), 840_705)


def test_a_discriminator_has_as_many_parameters_as_the_books():
    numbers = sum(parameter.numel() for parameter in DCGANDiscriminator().parameters())

    assert numbers == 212_865 == (25 + 1) * 64 + (25 * 64 + 1) * 128 + 7 * 7 * 128 + 1


@pytest.mark.parametrize("network", [DCGANGenerator, DCGANDiscriminator])
def test_weights_start_as_kerass_do(network):
    model = network()

    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            bound = math.sqrt(6 / (math.prod(parameter.shape[2:]) * sum(parameter.shape[:2])))
            assert 0.95 * bound < parameter.abs().max() <= bound, name
        else:
            assert (parameter == (1 if name in ("norms.0.weight", "norms.1.weight") else 0)).all(), name


def test_moving_statistics_move_by_a_hundredth_of_the_way():
    model = tiny_model("DCGANGenerator").train()
    latents = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))

    model(latents)

    maps = model.from_latents(latents).view(16, *model.smallest)
    assert_close(model.norms[0].running_mean, maps.mean((0, 2, 3)).detach() / 100)


def test_with_batch_norm_an_image_is_judged_among_the_others_in_training_alone():
    model = tiny_model("DCGANDiscriminator", "batch norm")
    sample = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    apart = [torch.allclose(model.train(mode)(sample).logits[:3], model(sample[:3]).logits) for mode in (True, False)]

    assert apart == [False, True]
    maps = model.layers[1](F.leaky_relu(model.layers[0](sample.flip(2, 3)), 0.2))
    assert_close(model.train().norms[0](maps).mean((0, 2, 3)), torch.zeros(8), rtol=0, atol=1e-5)


def test_noise_of_zero_drops_all_so_that_only_a_bias_is_left():
    model = with_numbers(tiny_model("DCGANDiscriminator"))

    logits = model(images_of(model), noise=torch.zeros(2, model.noise_size)).logits

    assert torch.equal(logits, model.to_logit.bias.expand(2))


def test_noise_near_one_drops_none_and_each_of_two_dropouts_divides_by_what_it_would_keep():
    model = tiny_model("DCGANDiscriminator")  # no biases yet, and a ReLU that leaks: linear in scale

    logits = model(images_of(model), noise=torch.full((2, model.noise_size), 1 - 2**-20)).logits

    assert_close(logits, model(images_of(model)).logits / 0.6**2)


def test_the_mean_over_all_noise_is_what_no_noise_gives():
    model = with_numbers(tiny_model("DCGANDiscriminator", block_out_channels=[4]))  # linear after its one dropout
    sample = images_of(model, batch_size=1)
    source = torch.Generator().manual_seed(0)
    tenths = (torch.arange(10.0) + 0.5) / 10  # each number meets each of them once, six of ten above 0.4
    noise = torch.stack([tenths[torch.randperm(10, generator=source)] for _ in range(model.noise_size)], 1)

    logits = model(sample.expand(10, -1, -1, -1), noise=noise).logits

    assert_close(logits.mean(), model(sample).logits[0])
    assert logits.std() > 0.01


def test_without_noise_there_is_no_dropout():
    model = tiny_model("DCGANDiscriminator").train()
    other = tiny_model("DCGANDiscriminator", "no dropout")
    other.load_state_dict(model.state_dict())

    assert_close(model(images_of(model)).logits, other(images_of(model)).logits)
    assert other.noise_size == 0


@every_conditional
def test_the_class_changes_the_output(kind):
    model = tiny_model(*kind)
    inputs = tiny_inputs(kind[0], model)

    other = model(**inputs | {"class_labels": (inputs["class_labels"] + 1) % 4})[0]

    assert ((model(**inputs)[0] - other).reshape(2, -1).abs().amax(1) > 1e-3).all()


@pytest.mark.parametrize("kind", CONDITIONAL, ids=" ".join)
def test_a_class_is_asked_for_by_conditional_networks_alone(kind):
    inputs = tiny_inputs(kind[0], tiny_model(*kind))
    labels = inputs.pop("class_labels")

    with pytest.raises(ValueError, match="`class_labels` must be given: the network is conditional"):
        tiny_model(*kind)(**inputs)
    with pytest.raises(ValueError, match="`class_labels` must be unset: the network is unconditional"):
        tiny_model(kind[0])(**inputs, class_labels=labels)


def test_the_logit_of_a_projection_is_linear_in_the_embedding_of_the_class():
    model = tiny_model("DCGANDiscriminator", "projection")
    inputs = tiny_inputs("DCGANDiscriminator", model)
    embeddings = model.class_embedding.weight.detach().clone()

    logits = []
    for factor in (0, 1, 3):
        model.class_embedding.weight.data = factor * embeddings
        logits.append(model(**inputs).logits)

    assert_close(logits[2] - logits[0], 3 * (logits[1] - logits[0]), rtol=1e-4, atol=1e-5)
    assert (logits[1] - logits[0]).abs().min() > 1e-3


@pytest.mark.parametrize(("spread", "likeness"), [(0.0, 4.0), (1e4, 0.0)])
def test_likeness_counts_the_other_images_that_are_equal_and_none_that_are_far(spread, likeness):
    similarity = MinibatchDiscrimination(6, num_kernels=3, kernel_size=5)
    features = torch.ones(5, 6) + spread * torch.arange(5.0)[:, None]

    assert_close(similarity(features), torch.full((5, 3), likeness))


def test_likeness_falls_with_the_sum_of_absolute_differences():
    similarity = MinibatchDiscrimination(2, num_kernels=1, kernel_size=2)
    similarity.kernels.weight.data = torch.eye(2)

    statistics = similarity(torch.tensor([[0.0, 0.0], [0.5, -0.25], [0.0, 2.0]]))

    e = math.exp
    expected = [e(-0.75) + e(-2), e(-0.75) + e(-2.75), e(-2) + e(-2.75)]
    assert_close(statistics[:, 0].tolist(), expected, rtol=0, atol=1e-6)
