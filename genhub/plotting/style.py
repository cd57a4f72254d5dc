"""What a chart is made of, its colours and its style."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
CLASS_COLOURS = (  # of ten classes: far apart for colour-blind eyes too, as Machado et al. 2009 simulate them
    *("#4477AA", "#DDCC77", "#BD1F01", "#92DADD", "#490092"),
    *("#A96B59", "#FFA90E", "#000000", "#B66DFF", "#882255"),
)
MARKERS = "osD^vPX*"  # one more than colours, so that both repeat together only after 56 lines
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


@contextmanager
def styled() -> Iterator[None]:
    """Lends matplotlib our style, whatever the user's own is."""
    try:
        import matplotlib.style
    except ImportError as error:
        raise ValueError("Charts need matplotlib: `pip install genhub[figures]`.") from error
    with matplotlib.style.context(["default", STYLE]):
        yield


def wrapped_at(text: str, width: int) -> str:
    """Returns `text` with its lines broken after at most `width` letters."""
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width, break_on_hyphens=False))


def canvas(width: float, height: float, title: str):
    """Returns an empty figure of matplotlib, in inches, with its title at the left."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(wrapped_at(title, round(10.75 * width)), x=0.01, ha="left", fontsize=11)
    return figure
