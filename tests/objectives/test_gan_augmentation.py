"""Augmentation: what each change does to an image, how often, and how that adapts."""

import pytest
import torch
from tiny import tiny_model
from torch.testing import assert_close

from genhub.objectives import AdversarialGame, Step
from genhub.objectives.gan_augmentation import OPERATIONS, Augmentation
from genhub.utils.randomness import BatchRandom


def images_of(count=8, channels=3, size=16):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def step_of(index=0, rows=None, total=8):
    return Step(index, 0.0, BatchRandom("test", index, rows=rows or range(total), total=total))


def augment(images, *names, probability=1.0, target=None, step=None):
    return Augmentation(names, probability, target)(images, step or step_of(total=len(images)))


@pytest.mark.parametrize("target", [None, 0.6])
def test_a_probability_of_zero_leaves_images_alone(target):
    images = images_of()

    assert torch.equal(augment(images, *OPERATIONS, probability=0.0, target=target), images)


@pytest.mark.parametrize("probability", [0.2, 0.7])
def test_a_change_comes_to_as_many_images_as_its_probability_says(probability):
    images = images_of(4000, 1, 8)

    augmented = augment(images, "colour", probability=probability)

    share = (augmented != images).flatten(1).any(1).float().mean().item()
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 4000) ** 0.5)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_change_is_the_same_for_the_same_step_and_another_in_the_next(name):
    images = images_of()

    first, again, other = (augment(images, name, step=step_of(index)) for index in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_two_processes_change_images_as_one(probability):
    images = images_of()

    whole, *parts = (
        augment(images[rows.start : rows.stop], *OPERATIONS, probability=probability, step=step_of(rows=rows))
        for rows in (range(8), range(4), range(4, 8))
    )

    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_pass_through_a_change(name):
    images = images_of().requires_grad_()
    direction, size = images_of(16)[8:], 1e-2

    (slope,) = torch.autograd.grad(augment(images, name).square().sum(), images)

    ahead, behind = (augment(images.detach() + way * direction, name).square().sum() for way in (size, -size))
    assert slope.abs().sum() > 0
    assert_close((slope * direction).sum(), (ahead - behind) / (2 * size), rtol=1e-2, atol=1e-2)


def test_colour_moves_brightness_by_up_to_a_half_and_contrast_by_up_to_a_half():
    images = images_of(1000, 3, 8)

    augmented = augment(images, "colour")

    moved = augmented.mean((1, 2, 3)) - images.mean((1, 2, 3))
    stretched = augmented.flatten(1).std(1) / images.flatten(1).std(1)
    for values, middle in ((moved, 0.0), (stretched, 1.0)):
        assert (values - middle).abs().max() <= 0.5 + 1e-4
        assert values.std().item() == pytest.approx(12**-0.5, abs=0.03)  # uniform over an interval of length 1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 24), (4, 4)])
def test_translation_moves_images_by_up_to_an_eighth_and_at_least_a_pixel(height, width):
    images = torch.full((600, 1, height, width), -1.0)
    images[:, :, height // 2, width // 2] = 1

    augmented = augment(images, "translation")

    _, _, row, column = augmented.gt(0).nonzero().unbind(1)
    down, right = max(height // 8, 1), max(width // 8, 1)
    assert (row - height // 2).unique().tolist() == list(range(-down, down + 1))
    assert (column - width // 2).unique().tolist() == list(range(-right, right + 1))


def test_translation_keeps_what_it_moves_and_fills_up_with_black():
    images = images_of(64, 3, 16)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), value=-1.0)
    windows = padded.unfold(2, 16, 1).unfold(3, 16, 1).flatten(2, 3)  # (B, C, 25, 16, 16): all that may come out

    augmented = augment(images, "translation")

    matches = (augmented[:, :, None] == windows).flatten(3).all(3).all(1)  # (B, 25)
    assert matches.sum(1).tolist() == [1] * 64


def test_cutout_hides_a_quarter_of_an_image_or_less_at_its_edge():
    augmented = augment(torch.ones(600, 3, 16, 16), "cutout")

    hidden = (augmented == 0).float()
    area, rows, columns = hidden.mean((1, 2, 3)), hidden.amax((1, 3)).sum(1), hidden.amax((1, 2)).sum(1)
    assert area.max() == 1 / 4
    assert area.min() < 1 / 8
    assert set(augmented.unique().tolist()) == {0.0, 1.0}
    assert_close(area, rows * columns / 16**2)  # a rectangle, in all channels


@pytest.mark.parametrize(("sign", "way"), [(0.7, 1), (0.5, -1)])
def test_the_probability_rises_above_the_target_and_falls_below_it_once_in_four_steps(sign, way):
    augmentation, seen = Augmentation(("colour",), 0.5, 0.6), []

    for _ in range(8):
        augmentation.adapt(torch.tensor(sign), 100)
        seen.append(augmentation.probability)

    moved = way * 4 * 100 / 500_000
    assert seen == pytest.approx([0.5] * 3 + [0.5 + moved] * 4 + [0.5 + 2 * moved])


def test_the_device_is_waited_for_in_every_fourth_step_only():
    augmentation = Augmentation(("colour",), 0.5, 0.6)
    unreadable = torch.tensor(1.0, device="meta")

    for _ in range(3):
        augmentation.adapt(unreadable, 100)

    with pytest.raises(NotImplementedError):
        augmentation.adapt(unreadable, 100)


def test_the_mean_of_four_steps_decides():
    augmentation = Augmentation(("colour",), 0.5, 0.6)

    for sign in (1.0, 1.0, 1.0, -0.5):  # 0.625
        augmentation.adapt(torch.tensor(sign), 100)

    assert augmentation.probability > 0.5


@pytest.mark.parametrize(("sign", "end"), [(1.0, 1.0), (-1.0, 0.0)])
def test_the_probability_stays_a_probability(sign, end):
    augmentation = Augmentation(("colour",), 0.5, 0.6)

    for _ in range(12):
        augmentation.adapt(torch.tensor(sign), 50_000)

    assert augmentation.probability == end


def test_what_has_adapted_goes_on_as_if_it_had_not_been_put_away():
    one, two = (Augmentation(("colour",), 0.5, 0.6) for _ in range(2))
    for _ in range(6):
        one.adapt(torch.tensor(1.0), 100)

    two.load_state_dict(one.state_dict())
    for augmentation in (one, two):
        for sign in (0.25, 0.0):
            augmentation.adapt(torch.tensor(sign), 100)

    assert two.state_dict() == one.state_dict()
    assert two.probability == pytest.approx(0.5)  # up, and down again


def test_in_a_game_augmentation_adapts_to_the_signs_of_real_scores():
    networks = tiny_model("DenseGenerator"), tiny_model("DenseDiscriminator")
    game = AdversarialGame(*networks, augmentations=("colour",), augmentation_target=0.6)
    step = step_of()

    game.discriminator_loss({"sample": images_of(8, 1, 8)}, step)
    for _ in range(4):
        game.after_step(step_of(total=64), {"discriminator/sign": torch.tensor(1.0)})

    assert_close(step.metrics["sign"], networks[1](images_of(8, 1, 8)).logits.sign().mean())
    assert game.augmentation.probability == pytest.approx(4 * 64 / 500_000)  # from 0 on (Karras et al. 2020, Sec. 3)
    assert AdversarialGame(*networks, augmentations=("colour",)).augmentation.probability == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("mirror",), 1.0, None), "`augmentations` must be of colour, translation, cutout, got 'mirror'"),
        ((("colour",), 1.5, None), r"`augmentation_probability` must lie in \[0, 1\], got 1.5"),
        ((("colour",), -0.5, None), r"`augmentation_probability` must lie in \[0, 1\], got -0.5"),
        ((("colour",), 1.0, 1.0), r"`augmentation_target` must lie in \(0, 1\), .*, got 1.0"),
        ((("colour",), 1.0, 0.0), r"`augmentation_target` must lie in \(0, 1\), .*, got 0.0"),
        (((), 1.0, 0.6), r"`augmentation_target` must lie in \(0, 1\), with `augmentations`, got 0.6"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(*arguments)
