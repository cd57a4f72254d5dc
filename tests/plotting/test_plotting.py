"""Grids of images, pixel by pixel, and charts, object by object."""

import io

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from genhub.plotting import (
    Histogram,
    Line,
    Panel,
    add_title,
    blank,
    chart,
    chart_png,
    cut_grid,
    gif,
    grid,
    histograms,
    image_map,
    image_plane,
    image_rows,
    pairs,
    png,
)
from genhub.plotting.maps import choose_apart
from genhub.plotting.style import CLASS_COLOURS


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


@pytest.mark.parametrize("count", [3, 8, 20])
@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 7)])
def test_what_is_cut_out_of_a_grid_is_what_was_laid_out_in_it(count, shape):
    images = torch.randint(256, (count, *shape), generator=torch.Generator().manual_seed(0)) / 255

    torch.testing.assert_close(cut_grid(grid(images, columns=8), count), images)


def test_a_blank_image_cannot_be_told_from_an_empty_place():
    row = torch.ones(1, 3, 4, 4)

    left_empty, blanked = (image_rows([images], ["a"], 2) for images in (row, torch.cat([row, blank(row)])))

    assert left_empty.tobytes() == blanked.tobytes()


def test_png_is_a_file_of_the_very_pixels():
    image = grid(torch.rand(3, 1, 4, 4))

    again = Image.open(io.BytesIO(png(image)))

    assert (again.format, again.mode, again.tobytes()) == ("PNG", "L", image.tobytes())


def test_rows_of_pairs_stand_above_one_another():
    ordered = pairs(pixels(*range(5)), pixels(*range(10, 15)), columns=3)

    assert ordered.flatten().tolist() == [0, 1, 2, 10, 11, 12, 3, 4, 13, 14]


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

    picture = np.asarray(image_rows([white, black, black[:0]], ["white", "black", "none"], columns=3, scale=5))

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
        image_rows([torch.ones(2, 1, 9, 9)], ["a"], 2, title, scale=9) for title in ("all of it", "all of it " * 8)
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
            image_rows(*arguments)


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


def test_a_line_without_points_is_no_obstacle():
    (axes,) = axes_of(Panel([CROWD[0], Line("nothing", [], [])], "x", "y"))

    assert [text.get_text() for text in axes.texts] == CROWD[0].labels


@pytest.mark.parametrize("values", [[0.03], [19.2, 19.3], [1, 8], [0.01, 3], [1e-4, 1e5]], ids=str)
def test_a_logarithmic_axis_shows_every_point_and_at_least_two_numbers(values):
    (axes,) = axes_of(Panel([Line("a", values, values)], "x", "y", log_x=True, log_y=True))

    for (low, high), ticks in ((axes.get_xlim(), axes.get_xticks()), (axes.get_ylim(), axes.get_yticks())):
        assert low < min(values) <= max(values) < high
        assert 2 <= sum(low <= tick <= high for tick in ticks) <= 14


def test_numbers_at_a_logarithmic_axis_are_written_as_in_a_table():
    (axes,) = axes_of(Panel([Line("a", [0.02, 20_000], [0, 1])], "x", "y", log_x=True))

    written = [axes.xaxis.get_major_formatter()(tick) for tick in axes.get_xticks()]

    assert [text for text in written if float(text.replace(",", "")) >= 0.01][
        :7
    ] == "0.01 0.1 1 10 100 1,000 10,000".split()


def test_panels_share_the_x_axis_which_begins_where_it_is_told():
    upper, lower = axes_of(*(Panel([Line("a", x, [1, 2])], "x", "y", x_start=0) for x in ([3, 4], [5, 9])))

    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_xlim()[0] == 0
    assert upper.get_xlim()[1] >= 9
    assert (upper.get_xlabel(), lower.get_xlabel()) == ("", "x")


def test_marks_stand_in_all_panels_and_once_in_the_first_legend():
    lines = [Line("a", [1, 2], [1, 2]), Line("b", [1, 2], [2, 1])]

    figure = chart([Panel(lines, "x", "y", {"floor": 0.5}), Panel(lines, "x", "y")], "title", {"end": [1.2, 1.7]})

    for axes in figure.axes:
        dashed = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
        assert sorted(dashed)[-2:] == [1.2, 1.7]
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert legends == [["a", "b", "floor", "end"], ["a", "b"]]


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


def test_captions_stand_beneath_their_images_and_take_room_only_where_there_are_some():
    row = torch.ones(2, 1, 9, 9)

    plain, said = (
        np.asarray(image_rows([row, row], ["a", "b"], 3, scale=4, captions=captions))
        for captions in (None, [["one", "two"], []])
    )

    room = said.shape[0] - plain.shape[0]
    first = 12 + 4 * 9 + 4  # the end of the first row
    assert said.shape[1] == plain.shape[1]
    np.testing.assert_array_equal(said[:first], plain[:first])
    np.testing.assert_array_equal(said[first + room :], plain[first:])
    places = said[first + 1 : first + room - 2, -12 - 3 * 38 : -12].min((0, 2))  # the darkest of each column of pixels
    assert [(places[38 * place : 38 * (place + 1)] < 128).any() for place in range(3)] == [True, True, False]
    assert (places[[0, 36, 37, 38, 74, 75]] > 200).all()  # neither reaches its neighbour


def test_captions_that_do_not_fit_are_refused():
    row = torch.ones(1, 1, 4, 4)

    for captions, message in (
        ([], "`captions` must be as many as the 1 rows, got 0"),
        ([["a", "b"]], "`columns` must be at least 2, the longest row, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            image_rows([row], ["a"], 1, captions=captions)


def test_a_plane_has_its_images_side_by_side_and_its_ticks_at_their_middles():
    images = torch.arange(9).div(8).view(9, 1, 1, 1).repeat(1, 1, 20, 20)

    picture = np.asarray(image_plane(images, "", "across", "down", [(0, "low"), (1, "high")], scale=2))

    under = np.argwhere((picture == 0).all(2))[:, 0].min()  # black is the first image's, and what is written
    assert under == 12
    left = next(x for x in range(picture.shape[1]) if (picture[12 + 20 : 12 + 40, x] == 0).all())
    sheet = picture[12 : 12 + 120, left : left + 120]
    assert sheet[20::40, 20::40, 0].tolist() == [[0, 32, 64], [96, 128, 159], [191, 223, 255]]
    assert [x for x in range(120) if (picture[132 : 132 + 5, left + x] == 0).all()] == [20, 100]
    assert [y for y in range(120) if (picture[12 + y, left - 6 : left - 1] == 0).all()] == [20, 100]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_what_fills_no_square_is_no_plane(count):
    with pytest.raises(ValueError, match=f"`images` must fill a square, got {count}"):
        image_plane(torch.zeros(count, 1, 4, 4), "", "x", "y", [(0, "a")])


def test_a_title_stands_above_and_keeps_its_own_lines():
    body = grid(torch.ones(1, 1, 30, 30), scale=4)

    one, two = (add_title(body, title) for title in ("a", "a\nb"))

    assert one.mode == "L"
    assert two.height - one.height == round(1.4 * 14)
    assert (np.asarray(one)[-12 - body.height : -12, 12:-12] == np.asarray(body)).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_frames_follow_one_another_and_the_last_one_stays(mode):
    frames = [Image.new(mode, (8, 6), colour) for colour in ("white", "black", "white")]

    animation = Image.open(io.BytesIO(gif(frames, milliseconds=120, last=900)))

    shown = []
    for place in range(animation.n_frames):
        animation.seek(place)
        shown.append((animation.info["duration"], np.asarray(animation.convert("L")).mean()))
    assert shown == [(120, 255), (120, 0), (900, 255)]
    assert animation.info["loop"] == 0  # for ever


def test_grey_frames_keep_their_pixels():
    frames = [Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16).T[::step]) for step in (1, -1)]

    animation = Image.open(io.BytesIO(gif(frames)))

    for place, frame in enumerate(frames):
        animation.seek(place)
        np.testing.assert_array_equal(np.asarray(animation.convert("L")), np.asarray(frame))


@pytest.mark.parametrize("sizes", [[], [(2, 2), (2, 3)]], ids=str)
def test_frames_of_several_sizes_or_none_are_no_animation(sizes):
    with pytest.raises(ValueError, match="`frames` must be at least one, all of one size"):
        gif([Image.new("L", size) for size in sizes])


def test_shares_are_of_all_values_and_an_inner_edge_belongs_to_the_bin_above_it():
    histogram = Histogram(torch.tensor([0.0, 0.2, 0.5, 1.0, 1.0, 7.0, -1.0, 0.4]), [0, 0.5, 1], "x", "values")

    assert histogram.shares().tolist() == [3 / 8, 3 / 8]


def test_bars_are_as_high_as_the_shares_and_the_line_stands_at_the_mean():
    values = torch.tensor([0.1, 0.1, 0.1, 0.9])

    left, right = histograms(
        [Histogram(values, [0, 0.5, 1], "x", "values"), Histogram(values[:1], [0, 1], "y", "units")], "title"
    ).axes

    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in left.patches] == [
        (0.25, 0.75),
        (0.75, 0.25),
    ]
    assert list(left.lines[0].get_xdata()) == pytest.approx([0.3, 0.3])
    assert "0.3" in left.get_legend().get_texts()[0].get_text()
    assert (left.get_xlabel(), left.get_ylabel(), right.get_ylabel()) == (
        "x",
        "share of the 4 values",
        "share of the 1 units",
    )


def test_of_points_in_order_those_are_taken_that_are_far_from_all_taken_before():
    line = torch.tensor([[0.0, 0], [0.5, 0], [1.0, 0], [1.4, 0], [2.0, 0]])

    assert choose_apart(line, apart=1.0) == [0, 2, 4]  # exactly so far is far enough
    assert choose_apart(line, apart=0.0) == [0, 1, 2, 3, 4]


def test_a_map_rescales_its_points_and_names_the_classes_beside_them():
    points = torch.tensor([[-5.0, 100], [5.0, 300], [0.0, 100]])

    figure = image_map(points, torch.rand(3, 1, 4, 4), "title", torch.tensor([2, 0, 2]), ["a", "b", "c"])

    (axes,) = figure.axes
    places = {found.get_label(): found.get_offsets().tolist() for found in axes.collections}
    assert places == {"a": [[1, 1]], "c": [[0, 0], [0.5, 0]]}
    legend, renderer = axes.get_legend(), figure.canvas.get_renderer()
    assert [text.get_text() for text in legend.get_texts()] == ["a", "c"]
    figure.draw_without_rendering()
    thumbnails = [artist.get_window_extent(renderer) for artist in axes.artists]
    assert len(thumbnails) == 3
    box = legend.get_window_extent(renderer)
    assert axes.bbox.x1 <= box.x0 < box.x1 <= figure.bbox.x1  # to the right, at half the height
    assert (box.y0 + box.y1) / 2 == pytest.approx((axes.bbox.y0 + axes.bbox.y1) / 2, abs=2)
    assert not axes.axison  # the numbers mean nothing
    assert not any(box.overlaps(thumbnail) for thumbnail in thumbnails)
    assert not any(a.overlaps(b) for place, a in enumerate(thumbnails) for b in thumbnails[:place])


def test_thumbnails_never_overlap_however_many_points_there_are():
    points = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0))

    figure = image_map(points, torch.rand(4000, 3, 6, 6), "title")

    figure.draw_without_rendering()
    boxes = [artist.get_window_extent(figure.canvas.get_renderer()) for artist in figure.axes[0].artists]
    assert len(boxes) > 20
    assert not any(
        abs(a.x0 - b.x0) < a.width and abs(a.y0 - b.y0) < a.height for n, a in enumerate(boxes) for b in boxes[:n]
    )
    assert figure.axes[0].get_legend() is None  # there are no classes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 1, 4, 4), ""), r"`points` must be \(2, 2\), one for each image"),
        ((torch.zeros(3, 2), torch.zeros(2, 1, 4, 4), ""), r"`points` must be \(2, 2\), one for each image"),
        (
            (torch.zeros(1, 2), torch.zeros(1, 1, 4, 4), "", torch.tensor([2]), ["a", "b"]),
            "`names` must hold a name for the label 2, got 2 names",
        ),
    ],
    ids=str,
)
def test_a_map_of_other_things_than_points_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        image_map(*arguments)


SEEN = {  # linear RGB as the colour-blind see it (Machado et al. 2009, severity 1)
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


def cielab(linear):
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    parts = np.array(matrix) @ np.clip(linear, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(parts > 0.008856, np.cbrt(parts), 7.787 * parts + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", SEEN)
def test_the_colours_of_ten_classes_are_far_apart_for_all_eyes(eyes):
    bytes_of = [[int(colour[place : place + 2], 16) for place in (1, 3, 5)] for colour in CLASS_COLOURS]
    linear = [((np.array(values) / 255 + 0.055) / 1.055) ** 2.4 for values in bytes_of]
    colours = [cielab(np.array(SEEN[eyes]) @ colour) for colour in linear]

    distances = [np.linalg.norm(a - b) for place, a in enumerate(colours) for b in colours[:place]]

    assert len(CLASS_COLOURS) == 10
    assert min(distances) > 25
    assert min(np.linalg.norm(colour - cielab(np.ones(3))) for colour in colours) > 15  # the white ground
