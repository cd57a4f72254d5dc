"""Penalties against critics whose slope is known on paper."""

import pytest
import torch
from tiny import tiny_model
from torch.testing import assert_close

from genhub.objectives import AdversarialGame, Step
from genhub.objectives.gan_penalties import DriftPenalty, GradientPenalty, R1Penalty
from genhub.utils.randomness import BatchRandom

WEIGHT = torch.linspace(-1, 1, 9)
REAL, FAKE = torch.rand(2, 8, 1, 3, 3, generator=torch.Generator().manual_seed(0)).mul(2).sub(1)


def linear(images):
    return images.flatten(1) @ WEIGHT + 0.5


def half_the_square(images):
    """Has the image for its slope."""
    return images.flatten(1).square().sum(1) / 2


def step_of(index=0):
    return Step(index, 0.0, BatchRandom("test", index, rows=range(8), total=8))


@pytest.mark.parametrize("every", [1, 16])
def test_r1_of_a_linear_critic_is_its_squared_slope_as_many_times_as_it_is_left_out(every):
    penalty = R1Penalty(10.0, every)(linear, REAL, FAKE, linear(REAL), step_of())

    assert_close(penalty, every * 10 / 2 * WEIGHT.square().sum())


def test_r1_looks_at_real_images_alone():
    penalty = R1Penalty(2.0, 1)(half_the_square, REAL, FAKE, half_the_square(REAL), step_of())

    assert_close(penalty, REAL.flatten(1).square().sum(1).mean())


def test_the_gradient_penalty_of_a_linear_critic_is_its_distance_from_slope_one():
    penalty = GradientPenalty(10.0)(linear, REAL, FAKE, linear(REAL), step_of())

    assert_close(penalty, 10 * (WEIGHT.norm() - 1).square())


def test_the_gradient_penalty_looks_between_real_images_and_fakes_for_each_pair_elsewhere():
    seen = []

    GradientPenalty(1.0)(lambda images: (seen.append(images), linear(images))[1], REAL, FAKE, linear(REAL), step_of())

    share = (seen[0] - FAKE) / (REAL - FAKE)  # one number for each image
    assert_close(share, share.mean((1, 2, 3), keepdim=True).expand_as(share), rtol=1e-3, atol=1e-3)
    assert share.min() >= -1e-3
    assert share.max() <= 1 + 1e-3
    assert share.mean((1, 2, 3)).std() > 0.1


def test_drift_is_the_mean_square_of_real_scores():
    assert_close(DriftPenalty(0.25)(linear, REAL, FAKE, linear(REAL), step_of()), linear(REAL).square().mean() / 4)


@pytest.mark.parametrize("penalty", [R1Penalty(3.0, 1), GradientPenalty(3.0), DriftPenalty(3.0)])
def test_a_critic_can_be_moved_against_its_penalty(penalty):
    weight = WEIGHT.clone().requires_grad_()

    def critic(images):
        return images.flatten(1) @ weight

    penalty(critic, REAL, FAKE, critic(REAL), step_of()).backward()

    length = WEIGHT.norm()
    known = {
        "r1": 3 * WEIGHT,
        "gradient_penalty": 6 * (length - 1) * WEIGHT / length,
        "drift": 6 * REAL.flatten(1).T @ (REAL.flatten(1) @ WEIGHT) / 8,
    }
    assert_close(weight.grad, known[penalty.name])


def test_in_a_game_a_lazy_penalty_is_due_once_in_every_steps_and_the_others_always():
    game = AdversarialGame(
        tiny_model("DenseGenerator"),
        tiny_model("DenseDiscriminator"),
        r1_weight=1.0,
        r1_every=3,
        gradient_penalty_weight=1.0,
        drift_weight=1.0,
    )
    batch = {"sample": torch.rand(8, 1, 8, 8) * 2 - 1}

    due = [game.discriminator_loss(batch, step_of(index)).keys() - {"real", "fake"} for index in range(7)]

    always = {"gradient_penalty", "drift"}
    assert due == [always if index % 3 else always | {"r1"} for index in range(7)]


def test_in_a_game_r1_is_the_squared_slope_by_images_in_their_range():
    critic = tiny_model("DenseDiscriminator", hidden_sizes=[])  # linear in pixels of [0, 1]
    game = AdversarialGame(tiny_model("DenseGenerator"), critic, r1_weight=2.0, r1_every=4)

    terms = game.discriminator_loss({"sample": torch.rand(8, 1, 8, 8) * 2 - 1}, step_of())

    assert_close(terms["r1"], 4 * (critic.layers[0].weight / 2).square().sum())


@pytest.mark.parametrize("name", ["r1_weight", "gradient_penalty_weight", "drift_weight"])
@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_bad_weights_are_refused_by_name_and_value(name, weight):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 0 and finite, got {weight}"):
        AdversarialGame(tiny_model("DenseGenerator"), tiny_model("DenseDiscriminator"), **{name: weight})
