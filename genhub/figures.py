"""Pictures of images, and charts of numbers: what is drawn comes as arguments, and nothing is read or written.

Charts need matplotlib, which is imported where they are drawn, and never by `pyplot`, whose state is everybody's.
"""

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from PIL import Image, ImageDraw, ImageFont

GREY = 128  # the ground that images lie on
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
MARKERS = "osD^vPX*"  # one more than colours, so that both repeat together only after 56 lines
PLACES = (  # of a label at its point, the best first
    *((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)),
    *((across, up * far) for far in (2, 3.5, 5, 6.5) for across in (0, 1, -1) for up in (1, -1)),
)
STYLE = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.edgecolor": "0.4",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.ymargin": 0.12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "0.88",
    "legend.frameon": False,
    "savefig.dpi": 150,
}


def grid(images: torch.Tensor, columns: int | None = None, scale: int = 2, gap: int = 2) -> Image.Image:
    """Lays images (N, C, H, W) in [0, 1] out in rows on a mid-grey ground, each pixel `scale` pixels wide.

    Raises:
        ValueError: there is no image, or they have neither 1 nor 3 channels.
    """
    if images.ndim != 4 or not len(images) or images.shape[1] not in (1, 3):
        raise ValueError(f"`images` must be (N, 1 or 3, H, W) with N of at least 1, got {tuple(images.shape)}.")
    for name, value, least in (("columns", columns, 1), ("scale", scale, 1), ("gap", gap, 0)):
        if value is not None and value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    height, width = height * scale, width * scale
    sheet = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), GREY, dtype=torch.uint8)
    for place, image in enumerate(pixels):
        top, left = gap + place // columns * (height + gap), gap + place % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return Image.fromarray(sheet[0].numpy() if channels == 1 else sheet.permute(1, 2, 0).numpy())


def png(image: Image.Image) -> bytes:
    """Returns `image` as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def named_rows(
    rows: Sequence[torch.Tensor], names: Sequence[str], columns: int, title: str = "", scale: int = 3
) -> Image.Image:
    """Lays each of `rows`, images (N, C, H, W) in [0, 1], out in a row with its name at the left; places without an
    image stay grey.

    Raises:
        ValueError: there are not as many names as rows, a row has more than `columns` images, or there is no image.
    """
    if len(rows) != len(names):
        raise ValueError(f"`names` must be as many as the {len(rows)} rows, got {len(names)}.")
    if max(map(len, rows)) > columns:
        raise ValueError(f"`columns` must be at least {max(map(len, rows))}, the longest row, got {columns}.")
    shape = next((row.shape[1:] for row in rows if len(row)), None)
    if shape is None:
        raise ValueError("`rows` must hold at least one image.")
    places = torch.full((len(rows), columns, *shape), GREY / 255)
    for place, row in zip(places, rows, strict=True):
        if len(row):
            place[: len(row)] = row
    sheet = grid(places.flatten(0, 1), columns, scale).convert("RGB")

    pitch = (sheet.height - 2) // len(rows)
    font = ImageFont.load_default(max(10, min(18, pitch // 2)))
    left = 24 + math.ceil(max(font.getlength(name) for name in names))
    lines = _wrapped(title, font, left + sheet.width - 24)
    top = 12 + round(1.4 * font.size) * len(lines) + 10 * bool(lines)
    picture = Image.new("RGB", (left + sheet.width + 12, top + sheet.height + 12), "white")
    picture.paste(sheet, (left, top))
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        pen.text((12, 12 + number * round(1.4 * font.size)), line, "black", font)
    for number, name in enumerate(names):
        pen.text((left - 10, top + 2 + number * pitch + (pitch - 2) / 2), name, "black", font, anchor="rm")
    return picture


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Returns `text` in lines of at most `width` pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        lines[-1:] = [longer] if not lines or font.getlength(longer) <= width else [lines[-1], word]
    return lines


@dataclass(frozen=True)
class Line:
    """Points in the order in which they are joined.

    Args:
        spread: of `y`, drawn as an error bar; None where it is not known.
        labels: what is written at each point, "" for nothing.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float | None] | None = None
    labels: Sequence[str] | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        levels: name -> value of `y`, drawn as a dashed line.
        log_x, log_y: axes in powers of ten; all values must be above zero.
        x_start: where a linear x axis begins; None for the first point.
    """

    lines: Sequence[Line]
    x_label: str
    y_label: str
    levels: dict[str, float] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False
    x_start: float | None = None


def chart(panels: Sequence[Panel], title: str):
    """Draws `panels` beneath one another, on one common x axis, as a figure of matplotlib; `chart_png` makes it a
    file.

    Raises:
        ValueError: matplotlib is not installed.
    """
    with _matplotlib():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.6 if len(panels) == 1 else 1 + 3 * len(panels)), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(_wrapped_at(title, 86), x=0.01, ha="left", fontsize=11)
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for place, panel in zip(axes, panels, strict=True):
            _draw(place, panel)
        for place, panel in zip(
            axes, panels, strict=True
        ):  # when all is drawn: this ends the search for the right end
            if panel.x_start is not None:
                place.set_xlim(left=panel.x_start)
        axes[-1].set_xlabel(_wrapped_at(panels[-1].x_label, 80))
        figure.draw_without_rendering()  # places the axes, and with them the points that labels must not hide
        figure.set_layout_engine("none")
        for place, panel in zip(axes, panels, strict=True):
            _write_labels(place, panel)
    return figure


def _wrapped_at(text: str, width: int) -> str:
    """Returns `text` with its lines broken after at most `width` letters."""
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width, break_on_hyphens=False))


def chart_png(figure) -> bytes:
    """Returns a figure of matplotlib as a PNG file, the same bytes for the same figure."""
    buffer = io.BytesIO()
    with _matplotlib():
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def _matplotlib() -> Iterator[None]:
    """Lends matplotlib our style, whatever the user's own is."""
    try:
        import matplotlib.style
    except ImportError as error:
        raise ValueError("Charts need matplotlib: `pip install genhub[figures]`.") from error
    with matplotlib.style.context(["default", STYLE]):
        yield


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


def _write_labels(axes, panel: Panel):
    """Writes the points' labels beside them, each where it hides the least."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    to_pixels, renderer = axes.transData.transform, axes.figure.canvas.get_renderer()
    marks = [to_pixels(point) for line in panel.lines for point in zip(line.x, line.y, strict=True)]
    marks = [Bbox.from_extents(x - 7, y - 7, x + 7, y + 7) for x, y in marks]
    taken = marks
    if (legend := axes.get_legend()) is not None:
        taken = [*marks, legend.get_window_extent(renderer)]
        legend.set_loc(tuple(axes.transAxes.inverted().transform(taken[-1].p0)))  # or labels would drive it away
    joined = [spot for line in panel.lines for spot in _spots(to_pixels(list(zip(line.x, line.y, strict=True))))]
    for line in panel.lines:
        for x, y, s in zip(line.x, line.y, line.spread or [None] * len(line.y), strict=True):
            joined += _spots(to_pixels([(x, max(y - (s or 0), axes.get_ylim()[0])), (x, y + (s or 0))]))

    for number, line in enumerate(panel.lines):
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
