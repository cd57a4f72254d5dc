"""Networks as columns of boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genhub.plotting.style import COLOURS, canvas, house_style, wrap_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, BOX, STEP = 3.9, 0.46, 0.66  # of a column, height of a box, and from one box to the next, in inches
NARROWEST = 0.5  # share of its column that the narrowest box takes


@dataclass(frozen=True)
class Block:
    """A box of a diagram.

    Args:
        label: what it computes.
        shape: of its output, without the batch.
        note: in a second line, beside the shape.
    """

    label: str
    shape: tuple[int, ...]
    note: str = ""

    @property
    def size(self) -> int:
        """The number of values of its output."""
        return math.prod(self.shape)


def diagram(columns: dict[str, Sequence[Block]], title: str) -> "Figure":
    """Draws each of `columns`, name -> blocks from its input to its output, as boxes with arrows between them. A box
    is the wider the more values it hands on, on a logarithmic scale; the colour of one without a note is lighter.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not any(columns.values()):
        raise ValueError("`columns` must hold at least one block.")
    sizes = [block.size for blocks in columns.values() for block in blocks]
    longest = max(map(len, columns.values()))
    with house_style():
        figure = canvas(max(WIDTH * len(columns), 6), 1.3 + STEP * longest, title)
        row = figure.subplots(1, len(columns), squeeze=False)[0]
        for axes, (name, blocks) in zip(row, columns.items(), strict=True):
            axes.set(xlim=(-0.5, 0.5), ylim=(STEP * longest - STEP + BOX, -0.05))
            axes.axis("off")
            axes.set_title(wrap_text(name, 44))
            for number, block in enumerate(blocks):
                draw_block(axes, block, STEP * number, relative_width(block.size, sizes), number > 0)
    return figure


def relative_width(size: int, sizes: Sequence[int]) -> float:
    """Returns the share of its column that a box of `size` values takes, from `NARROWEST` to 1 on a logarithmic scale
    between the least and the most of `sizes`."""
    low, high = math.log(min(sizes)), math.log(max(sizes))
    return NARROWEST + (1 - NARROWEST) * ((math.log(size) - low) / (high - low) if high > low else 1)


def draw_block(axes: "Axes", block: Block, top: float, width: float, has_arrow: bool):
    """Draws a box `top` inches below the first one, and an arrow from the box above it."""
    from matplotlib.patches import FancyBboxPatch

    place, pad = (-width / 2 + 0.02, top + 0.02), "round,pad=0,rounding_size=0.02"
    alpha = 0.28 if block.note else 0.1
    box = FancyBboxPatch(place, width - 0.04, BOX - 0.04, pad, facecolor=(COLOURS[0], alpha), edgecolor="0.4")
    box.set_mutation_aspect(WIDTH)
    axes.add_patch(box)
    shape = " x ".join(f"{length:,}" for length in block.shape)
    below = f"{shape}  |  {block.note}" if block.note else shape
    axes.text(0, top + 0.3 * BOX, block.label, ha="center", va="center", fontsize=9)
    axes.text(0, top + 0.7 * BOX, below, ha="center", va="center", fontsize=8, color="0.25")
    if has_arrow:
        end, start = (0, top + 0.02), (0, top - STEP + BOX - 0.02)
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "0.4", "shrinkA": 0, "shrinkB": 0})
