"""Labels beside the points of a chart.

adjustText does the same job, but lets labels overlap in a crowd, and not the same way every time.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from genhub.plotting.style import COLOURS, Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

# Directions from a point to its label, (right, up), the preferred ones first
BESIDE = [(1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)]
FARTHER = [(right, up * far) for far in (2, 3.5, 5, 6.5) for right in (0, 1, -1) for up in (1, -1)]


def write_labels(axes: "Axes", lines: Sequence[Line]) -> None:
    """Labels the points of `lines`, each label where it covers least."""
    from matplotlib.transforms import Bbox

    to_pixels = axes.transData.transform
    points = [to_pixels(point) for line in lines for point in zip(line.x, line.y, strict=True)]
    obstacles = [Bbox.from_extents(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    if (legend := axes.get_legend()) is not None:
        obstacles.append(legend.get_window_extent())
        legend.set_loc(tuple(axes.transAxes.inverted().transform(obstacles[-1].p0)))  # else labels would move it
    strokes = np.concatenate([trace_line(axes, line) for line in lines])
    for number, line in enumerate(lines):
        for x, y, label in zip(line.x, line.y, line.labels or [""] * len(line.x), strict=True):
            if label:
                box = write_label(axes, label, (x, y), COLOURS[number % len(COLOURS)], obstacles, strokes)
                obstacles.append(box.padded(4))


def write_label(
    axes: "Axes",
    label: str,
    point: tuple[float, float],
    colour: str,
    obstacles: list["Bbox"],
    strokes: np.ndarray,
) -> "Bbox":
    """Writes one label in the best direction from `point`, and returns its box.

    Args:
        obstacles: boxes that the label must not cover, if there is a way.
        strokes: pixels (N, 2) of lines, of which it covers as few as possible.
    """
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground="white")]
    text = axes.annotate(
        label, point, (0, 0), textcoords="offset points", fontsize=10, color=colour, path_effects=halo
    )

    def move(direction: tuple[int, float]) -> "Bbox":
        right, up = direction
        distance = 7 if right and up else 9
        text.xyann = (distance * right, distance * up)
        text.set_horizontalalignment(("center", "left", "right")[right])
        text.set_verticalalignment("center" if up == 0 else "bottom" if up > 0 else "top")
        return text.get_window_extent()

    def cost(direction: tuple[int, float]) -> int:
        box = move(direction)
        covered = sum(box.overlaps(obstacle) for obstacle in obstacles) + (not contains(axes.bbox, box))
        return 100 * covered + int(((strokes >= box.p0) & (strokes <= box.p1)).all(1).sum())

    return move(min(BESIDE + FARTHER, key=cost))


def trace_line(axes: "Axes", line: Line) -> np.ndarray:
    """Returns pixels (N, 2) on a line and on its error bars."""
    to_pixels, bottom = axes.transData.transform, axes.get_ylim()[0]
    paths = [trace_path(to_pixels(np.column_stack([line.x, line.y])))]
    for x, y, spread in zip(line.x, line.y, line.spread or [None] * len(line.y), strict=True):
        if spread is not None:
            paths.append(trace_path(to_pixels([(x, max(y - spread, bottom)), (x, y + spread)])))
    return np.concatenate(paths)


def trace_path(corners: np.ndarray) -> np.ndarray:
    """Returns pixels (N, 2) on the path through `corners`, at most 4 apart."""
    segments = [
        np.linspace(start, end, 2 + int(np.hypot(*(end - start)) / 4)) for start, end in itertools.pairwise(corners)
    ]
    return np.concatenate([corners[:1], *segments])


def contains(outer: "Bbox", inner: "Bbox") -> bool:
    """Returns whether the box `inner` lies within the box `outer`."""
    return outer.x0 <= inner.x0 and outer.y0 <= inner.y0 and inner.x1 <= outer.x1 and inner.y1 <= outer.y1
