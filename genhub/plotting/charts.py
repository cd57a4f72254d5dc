"""Line charts, drawn by matplotlib."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from genhub.plotting.labels import write_labels
from genhub.plotting.style import CLASS_COLOURS, COLOURS, MARKERS, Panel, canvas, house_style, wrap_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def chart(panels: Sequence[Panel], title: str, marks: Mapping[str, Sequence[float]] | None = None) -> "Figure":
    """Draws `panels` one below the other on a common x axis.

    Args:
        marks: name -> values of x, drawn as dashed vertical lines in all panels and named in the first legend.

    Raises:
        ValueError: matplotlib is not installed.
    """
    marks = marks or {}
    with house_style():
        figure = canvas(8, 4.6 if len(panels) == 1 else 1 + 3 * len(panels), title)
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(rows, panels, strict=True):
            draw_panel(axes, panel)
        for axes, panel in zip(rows, panels, strict=True):  # after all panels are drawn: this fixes both ends
            if panel.x_start is not None:
                axes.set_xlim(left=panel.x_start)
        used = max(len(panel.lines) for panel in panels if not panel.is_stacked)
        for axes in rows:
            draw_marks(axes, marks, used)
        for axes, panel in zip(rows, panels, strict=True):
            draw_legend(axes, panel, marks if axes is rows[0] else {})
        rows[-1].set_xlabel(wrap_text(panels[-1].x_label, 80))
        figure.draw_without_rendering()  # lays out the axes, and so fixes where the points are
        figure.set_layout_engine("none")
        for axes, panel in zip(rows, panels, strict=True):
            if not panel.is_stacked:
                write_labels(axes, panel.lines)
    return figure


def chart_png(figure: "Figure") -> bytes:
    """Returns a matplotlib figure as a PNG file; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def draw_panel(axes: "Axes", panel: Panel) -> None:
    """Draws the lines and levels of a panel, and scales its axes."""
    axes.set_ylabel(panel.y_label)
    if panel.is_stacked:
        x, names = panel.lines[0].x, [line.name for line in panel.lines]
        colours = [CLASS_COLOURS[number % len(CLASS_COLOURS)] for number in range(len(names))]
        axes.stackplot(x, [line.y for line in panel.lines], labels=names, colors=colours)
        axes.margins(y=0)
        return
    for number, line in enumerate(panel.lines):
        spread = None if line.spread is None else [math.nan if s is None else s for s in line.spread]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)] if line.has_markers else ""
        axes.errorbar(line.x, line.y, spread, label=line.name, color=colour, marker=marker, capsize=3, elinewidth=1.2)
    for name, level in panel.levels.items():
        axes.axhline(level, color="0.25", linestyle="--", linewidth=1.3, label=name)
    if panel.log_x:
        scale_log_axis(axes, "x", [x for line in panel.lines for x in line.x])
    if panel.log_y:
        values = [*panel.levels.values()]
        for line in panel.lines:
            for y, spread in zip(line.y, line.spread or [None] * len(line.y), strict=True):
                values += [y - (spread or 0), y + (spread or 0)]
        scale_log_axis(axes, "y", [value for value in values if value > 0])


def draw_marks(axes: "Axes", marks: Mapping[str, Sequence[float]], used: int) -> None:
    """Draws dashed vertical lines, not in the first `used` colours; up to three at one place are all seen, as their
    dashes take turns."""
    for number, (name, places) in enumerate(marks.items()):
        style = {"color": COLOURS[(used + number) % len(COLOURS)], "linestyle": (3 * number, (3, 6)), "linewidth": 1.6}
        for x in places[1:]:
            axes.axvline(x, **style)
        axes.axvline(places[0], label=name, **style)


def draw_legend(axes: "Axes", panel: Panel, marks: Mapping[str, Sequence[float]]) -> None:
    """Names lines, levels and marks, in this order; a single line needs no legend."""
    if len(panel.lines) < 2 and not panel.levels and not marks:
        return
    order = [*(line.name for line in panel.lines), *panel.levels, *marks]
    handles, names = axes.get_legend_handles_labels()
    entries = [entry for entry in zip(handles, names, strict=True) if entry[1] in order]
    entries.sort(key=lambda entry: order.index(entry[1]))
    if panel.is_stacked:  # the uppermost first, beside what covers the panel
        axes.legend(*zip(*reversed(entries), strict=True), loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
        return
    # White behind the legend, as its search for the best place overlooks lines across the panel
    ground = {"handlelength": 3, "frameon": True, "framealpha": 1, "edgecolor": "white"} if marks else {}
    axes.legend(*zip(*entries, strict=True), loc="best", **ground)


def scale_log_axis(axes: "Axes", name: str, values: Sequence[float]) -> None:
    """Makes the axis `name` logarithmic, from a quarter of a decade below `values` to one above, with plain ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = min(values) / 10**0.25, max(values) * 10**0.25
    steps = (1, 1.5, 2, 3, 5, 7) if high / low < 10 else (1, 2, 5) if high / low < 300 else (1,)
    axis = getattr(axes, f"{name}axis")
    axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
    axis.set_major_locator(LogLocator(subs=steps, numticks=99))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, position: tick_label(value)))


def tick_label(value: float) -> str:
    """Writes a tick as a table would: 0.001, 50, 10,000."""
    return f"{value:,.0f}" if 1000 <= value < 1e7 else f"{value:.4g}"
