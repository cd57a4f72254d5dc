"""How images are masked for a denoising autoencoder: pixels by Keras's dropout, or patches."""

import pytest
import torch

from genhub.objectives import Reconstruction, Step
from genhub.utils.randomness import BatchRandom

NETWORK = torch.nn.Identity()


def masked(sample, mask, patch_size, rows=None, index=0):
    """Masks `rows` of the images `sample` (B, C, H, W); a lost pixel is 0 in the result."""
    rows = range(len(sample)) if rows is None else rows
    step = Step(index, 0.0, BatchRandom("test", index, rows=rows, total=len(sample)))
    kept = Reconstruction(NETWORK, mask=mask, patch_size=patch_size).corrupt(sample[rows.start : rows.stop], step)
    return (kept + 1) / 2


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (3, 2)])
@pytest.mark.parametrize("side", [2, 4, 7])
def test_a_patch_is_lost_or_kept_whole_in_all_channels_also_where_it_is_cut(side, size):
    kept = masked(torch.ones(50, 3, *size), 0.5, side)

    assert set(kept.unique().tolist()) == {0.0, 1.0}
    for top in range(0, size[0], side):
        for left in range(0, size[1], side):
            patch = kept[:, :, top : top + side, left : left + side].flatten(1)
            assert torch.equal(patch.amin(1), patch.amax(1))


@pytest.mark.parametrize("side", [1, 2, 4])
@pytest.mark.parametrize("mask", [0.25, 0.75])
def test_the_promised_share_is_lost(mask, side):
    kept = masked(torch.ones(1000, 1, 16, 16), mask, side) > 0

    patches = kept[:, :, ::side, ::side].double()
    spread = (mask * (1 - mask) / patches.numel()) ** 0.5
    assert abs(patches.mean() - (1 - mask)) < 4 * spread


@pytest.mark.parametrize(("side", "left"), [(1, 2.0), (2, 1.0)])
def test_pixels_that_are_left_are_divided_by_their_share_as_in_keras_and_patches_stay_as_they_are(side, left):
    sample = torch.rand(20, 1, 8, 8)  # grey 0.5 to 1

    kept = masked(sample, 0.5, side)

    there = kept > 0
    torch.testing.assert_close(kept[there], left * (sample[there] + 1) / 2)


def test_two_processes_lose_the_same_patches_as_one_and_every_step_loses_others():
    sample = torch.rand(8, 1, 8, 8)

    whole, first, second = (masked(sample, 0.5, 2, rows) for rows in (range(8), range(4), range(4, 8)))

    assert torch.equal(torch.cat([first, second]), whole)
    assert not torch.equal(masked(sample, 0.5, 2, index=1), whole)


@pytest.mark.parametrize("side", [0, -1])
def test_a_patch_has_a_side(side):
    with pytest.raises(ValueError, match=f"`patch_size` must be at least 1, got {side}"):
        Reconstruction(NETWORK, patch_size=side)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, ""),
        ({"mask": 0.5}, "each pixel lost with probability 0.5, the others divided by 0.5"),
        ({"mask": 0.5, "patch_size": 7}, "each patch of 7 x 7 pixels lost with probability 0.5"),
        ({"noise": 0.2}, "Gaussian noise of standard deviation 0.2"),
    ],
)
def test_an_objective_says_how_it_corrupts(arguments, says):
    assert Reconstruction(NETWORK, **arguments).corruption == says
