"""Charts of numbers, drawn by matplotlib, object by object."""

import io
import math
from collections.abc import Sequence

from genhub.plotting.labels import write_labels
from genhub.plotting.style import COLOURS, MARKERS, Panel, canvas, styled, wrapped_at


def chart(panels: Sequence[Panel], title: str):
    """Draws `panels` beneath one another, on one common x axis, as a figure of matplotlib; `chart_png` makes it a
    file.

    Raises:
        ValueError: matplotlib is not installed.
    """
    with styled():
        figure = canvas(8, 4.6 if len(panels) == 1 else 1 + 3 * len(panels), title)
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for place, panel in zip(axes, panels, strict=True):
            _draw(place, panel)
        for place, panel in zip(axes, panels, strict=True):  # at last: this ends the search for the right end
            if panel.x_start is not None:
                place.set_xlim(left=panel.x_start)
        axes[-1].set_xlabel(wrapped_at(panels[-1].x_label, 80))
        figure.draw_without_rendering()  # places the axes, and with them the points that labels must not hide
        figure.set_layout_engine("none")
        for place, panel in zip(axes, panels, strict=True):
            write_labels(place, panel.lines)
    return figure


def chart_png(figure) -> bytes:
    """Returns a figure of matplotlib as a PNG file, the same bytes for the same figure."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes, panel: Panel):
    """Draws lines and levels, and chooses what the axes show."""
    for number, line in enumerate(panel.lines):
        spread = None if line.spread is None else [math.nan if s is None else s for s in line.spread]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        axes.errorbar(line.x, line.y, spread, label=line.name, color=colour, marker=marker, capsize=3, elinewidth=1.2)
    for name, level in panel.levels.items():
        axes.axhline(level, color="0.25", linestyle="--", linewidth=1.3, label=name)
    if panel.log_x:
        _log_axis(axes, "x", [x for line in panel.lines for x in line.x])
    if panel.log_y:
        ends = [*panel.levels.values()]
        for line in panel.lines:
            spread = line.spread or [None] * len(line.y)
            ends += [end for y, s in zip(line.y, spread, strict=True) for end in (y, y + (s or 0), y - (s or 0))]
        _log_axis(axes, "y", [end for end in ends if end > 0])
    axes.set_ylabel(panel.y_label)
    if len(panel.lines) > 1 or panel.levels:
        shown = dict(
            sorted(zip(*axes.get_legend_handles_labels()[::-1], strict=True), key=lambda x: x[0] in panel.levels)
        )
        axes.legend(shown.values(), shown.keys(), loc="best")


def _log_axis(axes, name: str, values: Sequence[float]):
    """Makes an axis logarithmic: a quarter of a decade more than `values` at both ends, and plain numbers at it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = min(values) / 10**0.25, max(values) * 10**0.25
    steps = (1, 1.5, 2, 3, 5, 7) if high / low < 10 else (1, 2, 5) if high / low < 300 else (1,)
    axis = getattr(axes, f"{name}axis")
    getattr(axes, f"set_{name}scale")("log")
    getattr(axes, f"set_{name}lim")(low, high)
    axis.set_major_locator(LogLocator(subs=steps, numticks=99))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:.4g}"))
