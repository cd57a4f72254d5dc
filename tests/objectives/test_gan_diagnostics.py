"""Failure modes are reported for records that show them, and for no others."""

import pytest
from tiny import tiny_model

from genhub.objectives import AdversarialGame
from genhub.objectives.gan_diagnostics import ADVICE, WINDOW, diagnose, total_variation


def training(real=0.6, fake=0.4, spread=0.3, real_spread=0.35):
    names = {"D(real)": real, "D(fake)": fake, "spread": spread, "real_spread": real_spread}
    return {f"discriminator/{name}": value for name, value in names.items()}


def evaluation(*shares):
    return {f"val_share/{name}": share for name, share in enumerate(shares)}


HEALTHY = [training(), evaluation(0.12, 0.28, 0.35, 0.25)]
WON = [training(real=0.99, fake=0.01)]
DULL = [training(spread=0.1)]
LOST = [evaluation(0.5, 0.5, 0.0, 0.005)]
SWINGING = [evaluation(0.9, 0.1, 0.0, 0.0), evaluation(0.1, 0.3, 0.3, 0.3)]
SICK = [
    (WON, "discriminator wins", "D(real) - D(fake) is 0.98."),
    (DULL, "mode collapse", "Fakes spread 0.29 times as far as real images."),
    (LOST, "mode collapse", "No fakes of class 2, 3."),
    (SWINGING, "oscillation", "80% of the fakes moved to other classes."),
]


def test_health_is_not_a_trouble():
    assert diagnose(HEALTHY * WINDOW) == {}


@pytest.mark.parametrize(("records", "name", "seen"), SICK)
def test_a_trouble_is_found_by_name_with_what_is_seen_and_what_to_try(records, name, seen):
    problems = diagnose(HEALTHY * WINDOW + records * WINDOW)

    assert problems == {name: f"{seen} {ADVICE[name]}"}


@pytest.mark.parametrize("records", [records for records, _, _ in SICK])
def test_fewer_records_than_must_agree_say_nothing(records):
    assert diagnose((records * WINDOW)[: WINDOW - 1]) == {}
    assert diagnose(HEALTHY * WINDOW + records[-1:]) == {}


@pytest.mark.parametrize("records", [records for records, _, _ in SICK])
def test_a_trouble_that_is_over_is_forgotten(records):
    assert diagnose(records * WINDOW + HEALTHY * WINDOW) == {}


def test_a_critic_cannot_win():
    assert diagnose(WON * WINDOW, has_probabilities=False) == {}


@pytest.mark.parametrize(("loss", "troubles"), [("hinge", {"discriminator wins"}), ("wasserstein", set())])
def test_a_game_knows_whether_its_scores_are_probabilities(loss, troubles):
    game = AdversarialGame(tiny_model("DenseGenerator"), tiny_model("DenseDiscriminator"), loss)

    assert game.has_diagnostics
    assert game.diagnose(WON * WINDOW).keys() == troubles


def test_troubles_come_together():
    problems = diagnose([training(real=0.99, fake=0.01, spread=0.1)] * WINDOW)

    assert problems.keys() == {"discriminator wins", "mode collapse"}


def test_total_variation_is_one_between_distributions_that_share_nothing_and_zero_from_itself():
    p, q = {"a": 1.0, "b": 0.0, "c": 0.0}, {"a": 0.0, "b": 0.25, "c": 0.75}

    assert (total_variation(p, q), total_variation(p, p)) == (1.0, 0.0)


def test_batches_of_one_image_say_nothing_of_spread():
    assert diagnose([training(spread=0.0, real_spread=0.0)] * WINDOW) == {}
