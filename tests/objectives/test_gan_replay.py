"""Replay, with fakes whose pixels say in which step and at which place they were made."""

import pytest
import torch
from tiny import tiny_model

from genhub.objectives import AdversarialGame, Step
from genhub.objectives.gan_replay import Replay
from genhub.utils.randomness import BatchRandom


def shown(replay, index, rows=range(8), total=8):
    """(step, place, label) of each fake shown in step `index`; made in step s at place i, its label is 10 s + i."""
    place = torch.arange(rows.start, rows.stop)
    fakes = (index + place / total).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)  # few enough bits for half precision

    seen, labels = replay.replace(
        fakes, 10 * index + place, Step(index, 0.0, BatchRandom("test", index, rows=rows, total=total))
    )

    values = seen[:, 0, 0, 0]
    made, at = values.floor().long(), (values.frac() * total).round().long()
    return list(zip(made.tolist(), at.tolist(), labels.tolist(), strict=True))


@pytest.mark.parametrize("steps", [1, 3])
def test_only_what_was_made_at_the_same_place_within_memory_is_shown_again(steps):
    replay, seen = Replay(steps, 1.0), set()

    for index in range(12):
        replayed = shown(replay, index)

        assert [place for _, place, _ in replayed] == list(range(8))
        ages = {index - made for made, _, _ in replayed}
        assert ages == {0} if index == 0 else ages <= set(range(1, min(index, steps) + 1))
        seen |= ages
    assert seen == {0, *range(1, steps + 1)}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_share_of_old_fakes_is_the_one_asked_for(share):
    replay = Replay(4, share)

    is_old = [made < index for index in range(8) for made, _, _ in shown(replay, index, range(512), 512) if index]

    assert sum(is_old) / len(is_old) == pytest.approx(share, abs=0.03)


def test_labels_travel_with_their_fakes():
    replay = Replay(3, 0.7)

    for index in range(8):
        assert all(label == 10 * made + place for made, place, label in shown(replay, index))


def test_two_processes_show_what_one_shows():
    whole, first, second = (Replay(3, 0.7) for _ in range(3))

    for index in range(8):
        assert shown(first, index, range(4)) + shown(second, index, range(4, 8)) == shown(whole, index)


def test_no_memory_no_change():
    replay, fakes = Replay(0, 1.0), torch.rand(8, 1, 2, 2)

    seen, labels = replay.replace(fakes, None, Step(5, 0.0, BatchRandom("test", rows=range(8), total=8)))

    assert seen is fakes
    assert labels is None
    assert replay.state_dict() == {}


def test_what_is_remembered_can_be_put_away_and_taken_back():
    one, two = Replay(3, 1.0), Replay(3, 1.0)
    for index in range(4):
        shown(one, index)

    two.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})

    assert [shown(two, index) for index in range(4, 8)] == [shown(one, index) for index in range(4, 8)]


def test_a_game_takes_back_its_fakes_and_its_augmentation():
    arguments = {"replay_steps": 2, "augmentations": ("colour",), "augmentation_target": 0.5}
    one, two = (
        AdversarialGame(tiny_model("DenseGenerator"), tiny_model("DenseDiscriminator"), **arguments) for _ in range(2)
    )
    step = Step(0, 0.0, BatchRandom("test", rows=range(8), total=8))
    one.discriminator_loss({"sample": torch.rand(8, 1, 8, 8)}, step)
    one.after_step(step, {"discriminator/sign": torch.tensor(0.25)})

    two.load_state_dict(one.state_dict())

    assert set(one.per_sample) < one.state_dict().keys()
    assert torch.equal(two.state_dict()["fakes"], one.state_dict()["fakes"])
    assert two.state_dict()["augmentation"] == one.state_dict()["augmentation"] == {"probability": 0, "signs": [0.25]}


def test_more_than_half_of_memory_is_refused_and_what_would_fit_is_said():
    replay, needed = Replay(10, 0.5), 10 * 4 * 3 * 8 * 8 * 2  # steps, images, numbers, bytes

    replay.check_memory(4, (3, 8, 8), memory=2 * needed)
    with pytest.raises(ValueError, match="`replay_steps` must be at most 5, for half of the memory .*, got 10"):
        replay.check_memory(4, (3, 8, 8), memory=needed)


@pytest.mark.parametrize(
    ("steps", "share", "message"),
    [
        (-1, 0.5, "`replay_steps` must be at least 0, got -1"),
        (4, 1.5, r"`replay_share` must lie in \[0, 1\], got 1.5"),
        (4, -0.5, r"`replay_share` must lie in \[0, 1\], got -0.5"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(steps, share, message):
    with pytest.raises(ValueError, match=message):
        Replay(steps, share)
