"""Histograms of shares, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from genhub.plotting.style import COLOURS, canvas, styled


@dataclass(frozen=True)
class Histogram:
    """Shares of `values` between `edges`, both ends included; what lies beyond is not drawn, but counted in the whole.

    Args:
        of: what the values are values of, in the plural.
    """

    values: torch.Tensor
    edges: Sequence[float]
    x_label: str
    of: str

    def shares(self) -> torch.Tensor:
        """Returns the share of the values in each bin, those on an inner edge in the bin above it."""
        values, edges = self.values.flatten().double(), torch.tensor(self.edges, dtype=torch.double)
        values = values[(values >= edges[0]) & (values <= edges[-1])]
        bins = (torch.searchsorted(edges, values, right=True) - 1).clamp(max=len(edges) - 2)
        return bins.bincount(minlength=len(edges) - 1) / self.values.numel()


def histograms(parts: Sequence[Histogram], title: str):
    """Draws `parts` side by side on one common axis of shares, each with its mean, as a figure of matplotlib."""
    with styled():
        from matplotlib.ticker import PercentFormatter

        figure = canvas(9, 4, title)
        axes = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
        for place, part in zip(axes, parts, strict=True):
            edges = torch.tensor(part.edges)
            middles, mean = (edges[:-1] + edges[1:]) / 2, part.values.double().mean().item()
            place.bar(middles, part.shares(), edges.diff() * 0.86, color=COLOURS[0])
            place.axvline(mean, color=COLOURS[1], linestyle="--", linewidth=1.5, label=f"mean {mean:.3g}")
            place.set_xlim(part.edges[0], part.edges[-1])
            place.set_xlabel(part.x_label)
            place.set_ylabel(f"share of the {part.values.numel():,} {part.of}")
            place.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
            place.grid(axis="x", visible=False)
            place.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12))
    return figure
