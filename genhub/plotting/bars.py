"""Histograms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from genhub.plotting.style import COLOURS, canvas, house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Histogram:
    """The share of `values` in each bin.

    Args:
        edges: of the bins, ascending; both ends belong to a bin. Values beyond are not drawn, but still counted.
        name: of the values, in the plural, for the y axis.
    """

    values: torch.Tensor
    edges: Sequence[float]
    x_label: str
    name: str

    def shares(self) -> torch.Tensor:
        """Returns the share of all values in each bin; an inner edge belongs to the bin above it."""
        values, edges = self.values.flatten().double(), torch.tensor(self.edges, dtype=torch.double)
        values = values[(values >= edges[0]) & (values <= edges[-1])]
        bins = (torch.searchsorted(edges, values, right=True) - 1).clamp(max=len(edges) - 2)
        return bins.bincount(minlength=len(edges) - 1) / self.values.numel()


def histograms(parts: Sequence[Histogram], title: str) -> "Figure":
    """Draws histograms side by side, with their means and a common y axis."""
    with house_style():
        from matplotlib.ticker import PercentFormatter

        figure = canvas(9, 4, title)
        columns = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
        for axes, part in zip(columns, parts, strict=True):
            edges = torch.tensor(part.edges)
            middles, mean = (edges[:-1] + edges[1:]) / 2, part.values.double().mean().item()
            axes.bar(middles, part.shares(), edges.diff() * 0.86, color=COLOURS[0])
            axes.axvline(mean, color=COLOURS[1], linestyle="--", linewidth=1.5, label=f"mean {mean:.3g}")
            axes.set_xlim(part.edges[0], part.edges[-1])
            axes.set_xlabel(part.x_label)
            axes.set_ylabel(f"share of the {part.values.numel():,} {part.name}")
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
            axes.grid(axis="x", visible=False)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12))
    return figure
