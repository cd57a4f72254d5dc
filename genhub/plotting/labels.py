"""Labels of the points of a chart, each where it hides the least."""

import math
from collections.abc import Sequence

from genhub.plotting.style import COLOURS, Line

PLACES = (  # of a label at its point, the best first
    *((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)),
    *((across, up * far) for far in (2, 3.5, 5, 6.5) for across in (0, 1, -1) for up in (1, -1)),
)


def write_labels(axes, lines: Sequence[Line]):
    """Writes the points' labels beside them, each where it hides the least."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    to_pixels, renderer = axes.transData.transform, axes.figure.canvas.get_renderer()
    marks = [to_pixels(point) for line in lines for point in zip(line.x, line.y, strict=True)]
    marks = [Bbox.from_extents(x - 7, y - 7, x + 7, y + 7) for x, y in marks]
    taken = marks
    if (legend := axes.get_legend()) is not None:
        taken = [*marks, legend.get_window_extent(renderer)]
        legend.set_loc(tuple(axes.transAxes.inverted().transform(taken[-1].p0)))  # or labels would drive it away
    joined = [spot for line in lines for spot in _spots(to_pixels(list(zip(line.x, line.y, strict=True))))]
    for line in lines:
        for x, y, s in zip(line.x, line.y, line.spread or [None] * len(line.y), strict=True):
            joined += _spots(to_pixels([(x, max(y - (s or 0), axes.get_ylim()[0])), (x, y + (s or 0))]))

    for number, line in enumerate(lines):
        for x, y, label in zip(line.x, line.y, line.labels or [""] * len(line.x), strict=True):
            if not label:
                continue
            tried = []
            for across, up in PLACES:
                text = axes.annotate(
                    label,
                    (x, y),
                    (7 * across, 7 * up) if across and up else (9 * across, 9 * up),
                    textcoords="offset points",
                    ha=("center", "left", "right")[across],
                    va=("center", "bottom", "top")[(up > 0) - (up < 0)],
                    fontsize=10,
                    color=COLOURS[number % len(COLOURS)],
                    path_effects=[withStroke(linewidth=3, foreground="white")],
                )
                box = text.get_window_extent(renderer)
                hides = sum(box.overlaps(other) for other in taken) + (not _holds(axes.bbox, box))
                tried.append((100 * hides + sum(box.contains(*spot) for spot in joined), len(tried), text, box))
                text.remove()
            _, _, text, box = min(tried)
            axes.add_artist(text)
            taken.append(box.padded(4))


def _spots(corners) -> list[tuple[float, float]]:
    """Returns places along the line through `corners`, a few pixels apart."""
    spots = []
    for (x, y), (next_x, next_y) in zip(corners, corners[1:], strict=False):
        count = 1 + int(math.hypot(next_x - x, next_y - y) / 4)
        spots += [(x + (next_x - x) * i / count, y + (next_y - y) * i / count) for i in range(count + 1)]
    return spots


def _holds(outer, inner) -> bool:
    """Whether a box lies within another one."""
    return outer.x0 <= inner.x0 and outer.y0 <= inner.y0 and inner.x1 <= outer.x1 and inner.y1 <= outer.y1
