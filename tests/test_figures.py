"""Grids of images, pixel by pixel, and charts, object by object."""

import io

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from genhub.figures import Line, Panel, chart, chart_png, grid, named_rows, png


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


def test_rows_have_their_names_at_the_left_and_empty_places_stay_grey():
    white, black = torch.ones(2, 1, 4, 4), torch.zeros(1, 1, 4, 4)

    picture = np.asarray(named_rows([white, black, black[:0]], ["white", "black", "none"], columns=3, scale=5))

    middles = [
        [picture[-12 - 2 - 22 * (3 - r) + 12, -12 - 22 * (3 - c) + 8].tolist() for c in range(3)] for r in range(3)
    ]
    grey = [128] * 3
    assert middles == [[[255] * 3, [255] * 3, grey], [[0] * 3, grey, grey], [grey] * 3]
    for row in range(3):
        name = picture[-12 - 2 - 22 * (3 - row) :, : -12 - 68][:22]
        assert (name < 128).any()  # is written
        assert (name[:, :10] == 255).all()  # and not cut off


def test_a_long_title_is_broken_into_lines_that_are_not_cut_off():
    one, long = (
        named_rows([torch.ones(2, 1, 9, 9)], ["a"], 2, title, scale=9) for title in ("all of it", "all of it " * 8)
    )

    assert one.width == long.width
    assert long.height > one.height
    assert (np.asarray(long)[: long.height - one.height, -12:] == 255).all()


def test_rows_that_do_not_fit_are_refused():
    row = torch.zeros(2, 1, 4, 4)

    for arguments, message in (
        (([row], [], 2), "`names` must be as many as the 1 rows, got 0"),
        (([row], ["a"], 1), "`columns` must be at least 2, the longest row, got 1"),
        (([row[:0]], ["a"], 1), "`rows` must hold at least one image"),
    ):
        with pytest.raises(ValueError, match=message):
            named_rows(*arguments)


CROWD = [
    Line("a", [1, 10, 100], [5.0, 3.0, 2.0], [1.0, None, 0.1], ["10 steps", "20 steps", "50 steps"]),
    Line("b", [1.02, 10.1, 101], [5.1, 3.05, 2.0], [0.1, 0.1, 0.1], ["10 steps", "20 steps", "50 steps"]),
    Line("c", [1.04, 10.2, 102], [5.2, 3.1, 2.0], [0.1, 0.1, 0.1], ["10 steps", "20 steps", "50 steps"]),
    Line("d", [1.06, 10.3, 103], [5.3, 3.15, 2.0], [0.1, 0.1, 0.1], ["10 steps", "20 steps", "50 steps"]),
]


def axes_of(*panels):
    return chart(panels, "title").axes


def test_points_stand_at_their_values_and_error_bars_reach_as_far_as_the_spread():
    (axes,) = axes_of(Panel(CROWD, "x", "y", {"floor": 0.5}, log_x=True, log_y=True))

    points = [(list(bar[0].get_xdata()), list(bar[0].get_ydata())) for bar in axes.containers]
    assert points == [(line.x, line.y) for line in CROWD]
    bars = [segment[:, 1].tolist() for segment in axes.containers[0][2][0].get_segments() if len(segment)]
    assert bars == [[4.0, 6.0], [1.9, 2.1]]  # none where the spread is not known
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_levels_are_dashed_and_within_the_axes():
    (axes,) = axes_of(Panel(CROWD, "x", "y", {"floor": 0.5}, log_x=True, log_y=True))

    (level,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert set(level.get_ydata()) == {0.5}
    assert axes.get_ylim()[0] < 0.5
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "c", "d", "floor"]


def test_one_line_alone_needs_no_legend():
    (axes,) = axes_of(Panel(CROWD[:1], "x", "y", log_x=True, log_y=True))

    assert axes.get_legend() is None


@pytest.mark.parametrize("log", [False, True])
def test_labels_overlap_neither_each_other_nor_points_nor_the_legend_nor_the_edge(log):
    (axes,) = axes_of(Panel(CROWD, "x", "y", {"floor": 0.5}, log_x=log, log_y=log))
    renderer = axes.figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    legend = axes.get_legend().get_window_extent(renderer)

    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in [*boxes[:place], legend])
        assert not any(
            box.contains(*axes.transData.transform(p)) for line in CROWD for p in zip(line.x, line.y, strict=True)
        )
        assert axes.bbox.x0 <= box.x0 < box.x1 <= axes.bbox.x1
    assert [text.get_text() for text in axes.texts] == [label for line in CROWD for label in line.labels]


@pytest.mark.parametrize("values", [[0.03], [19.2, 19.3], [1, 8], [0.01, 3], [1e-4, 1e5]], ids=str)
def test_a_logarithmic_axis_shows_every_point_and_at_least_two_numbers(values):
    (axes,) = axes_of(Panel([Line("a", values, values)], "x", "y", log_x=True, log_y=True))

    for (low, high), ticks in ((axes.get_xlim(), axes.get_xticks()), (axes.get_ylim(), axes.get_yticks())):
        assert low < min(values) <= max(values) < high
        assert 2 <= sum(low <= tick <= high for tick in ticks) <= 14


def test_panels_share_the_x_axis_which_begins_where_it_is_told():
    upper, lower = axes_of(*(Panel([Line("a", x, [1, 2])], "x", "y", x_start=0) for x in ([3, 4], [5, 9])))

    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_xlim()[0] == 0
    assert upper.get_xlim()[1] >= 9
    assert (upper.get_xlabel(), lower.get_xlabel()) == ("", "x")


def test_a_long_title_stays_on_the_picture():
    figure = chart([Panel(CROWD, "x " * 90, "y")], "a long title " * 20)
    renderer = figure.canvas.get_renderer()

    for text in (figure._suptitle, figure.axes[0].xaxis.label):
        box = text.get_window_extent(renderer)
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_a_chart_is_the_same_bytes_every_time_whatever_the_style_of_the_user():
    panel = Panel(CROWD, "x", "y", {"floor": 0.5}, log_x=True, log_y=True)
    first = chart_png(chart([panel], "title"))

    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 20}):
        again = chart_png(chart([panel], "title"))
        assert matplotlib.rcParams["font.size"] == 30

    assert again == first
    assert b"Software" not in first
