"""Grids of images, pixel by pixel."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from genhub.figures import grid, png


def pixels(*values):
    """One grey image of one pixel for each value."""
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_images_stand_in_rows_on_a_grey_ground():
    wide = pixels(0.0, 1.0, 0.2).repeat(1, 1, 1, 2)  # (3, 1, 1, 2)

    sheet = np.asarray(grid(wide, columns=2, scale=1, gap=1))

    rows = [[128, 0, 0, 128, 255, 255, 128], [128, 51, 51, 128, 128, 128, 128]]
    assert sheet.tolist() == [[128] * 7, rows[0], [128] * 7, rows[1], [128] * 7]


def test_each_pixel_is_scale_pixels_wide_and_high():
    sheet = grid(torch.tensor([[0.0, 1.0]]).view(1, 1, 1, 2), scale=3, gap=0)

    assert np.asarray(sheet).tolist() == [[0, 0, 0, 255, 255, 255]] * 3


@pytest.mark.parametrize(
    ("count", "columns", "size"),
    [(1, None, (1, 1)), (5, None, (3, 2)), (9, None, (3, 3)), (5, 5, (5, 1)), (2, 1, (1, 2))],
)
def test_a_grid_is_square_unless_told_otherwise(count, columns, size):
    assert grid(pixels(*[0.5] * count), columns, scale=1, gap=0).size == size


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_grey_stays_grey_and_colour_keeps_its_channels_apart(channels, mode):
    image = torch.arange(channels * 10, dtype=torch.uint8).reshape(channels, 2, 5)

    sheet = grid(image[None] / 255, scale=1, gap=0)

    assert sheet.mode == mode
    np.testing.assert_array_equal(np.asarray(sheet).reshape(2, 5, channels), image.permute(1, 2, 0))


def test_values_beyond_the_range_are_cut_and_others_rounded():
    sheet = grid(pixels(-3.0, 7.0, 100.4 / 255, 100.6 / 255), columns=4, scale=1, gap=0)

    assert np.asarray(sheet).tolist() == [[0, 255, 100, 101]]


def test_png_is_a_file_of_the_very_pixels():
    image = grid(torch.rand(3, 1, 4, 4))

    again = Image.open(io.BytesIO(png(image)))

    assert (again.format, again.mode, again.tobytes()) == ("PNG", "L", image.tobytes())


@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (2, 2, 4, 4), (2, 4, 4, 4), (1, 4, 4), (1, 1, 1, 4, 4)])
def test_what_is_no_stack_of_images_is_refused(shape):
    with pytest.raises(ValueError, match=r"`images` must be \(N, 1 or 3, H, W\)"):
        grid(torch.zeros(shape))


@pytest.mark.parametrize(("argument", "value"), [("columns", 0), ("columns", -1), ("scale", 0), ("gap", -1)])
def test_a_layout_that_cannot_be_drawn_is_refused(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be at least ., got {value}"):
        grid(pixels(0.5), **{argument: value})
