"""The house style of charts, and the data that they are drawn from."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genhub.utils.extras import how_to_install

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
# Of ten classes: far apart for colour-blind readers too, as simulated by Machado et al. 2009
CLASS_COLOURS = "#4477AA #DDCC77 #BD1F01 #92DADD #490092 #A96B59 #FFA90E #000000 #B66DFF #882255".split()
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
    """Points joined in the order given.

    Args:
        spread: half the length of each point's error bar; None where it is unknown.
        labels: text at each point, "" for none.
        has_markers: show each point.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float | None] | None = None
    labels: Sequence[str] | None = None
    has_markers: bool = True


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        levels: name -> value of y, drawn as a dashed horizontal line.
        log_x, log_y: logarithmic axes; all values must be positive.
        x_start: left end of a linear x axis; None leaves it to the data.
        is_stacked: draw lines of the same x as areas, one upon the other.
    """

    lines: Sequence[Line]
    x_label: str
    y_label: str
    levels: dict[str, float] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False
    x_start: float | None = None
    is_stacked: bool = False


@contextmanager
def house_style() -> Iterator[None]:
    """Applies the house style within a `with` block, whatever the user's own style is.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        import matplotlib.style
    except ImportError as error:
        raise ValueError(f"Charts need matplotlib: {how_to_install('figures')}.") from error
    with matplotlib.style.context(["default", STYLE]):
        yield


def wrap_text(text: str, width: int) -> str:
    """Breaks the lines of `text` between words, at `width` characters or before."""
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width, break_on_hyphens=False))


def canvas(width: float, height: float, title: str) -> "Figure":
    """Returns an empty matplotlib figure of `width` x `height` inches, with a left-aligned title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(wrap_text(title, round(10.75 * width)), x=0.01, ha="left", fontsize=11)
    return figure
