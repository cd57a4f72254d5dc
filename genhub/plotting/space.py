"""Points in space beside their codes in the plane."""

from typing import TYPE_CHECKING, Any

import torch

from genhub.plotting.style import COLOURS, canvas, house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def space(
    points: torch.Tensor, copies: torch.Tensor, surface: torch.Tensor, codes: torch.Tensor, title: str
) -> "Figure":
    """Draws `points` (N, 3), a line from each to its copy, and a `surface` (R, C, 3); on the right `codes` (N, 2). The
    first code of a point is its colour on both sides."""
    with house_style():
        figure = canvas(11, 5.4, title)
        grid = figure.add_gridspec(1, 2, width_ratios=[1.25, 1])
        axes: Any = figure.add_subplot(grid[0], projection="3d", computed_zorder=False)
        axes.plot_surface(*surface.unbind(2), color=COLOURS[5], alpha=0.3, edgecolor="0.6", linewidth=0.4, zorder=1)
        for point, copy in zip(points.tolist(), copies.tolist(), strict=True):
            axes.plot(*zip(point, copy, strict=True), color="0.4", linewidth=0.8, zorder=2)
        colours = {"c": codes[:, 0], "cmap": "viridis"}
        for (x, y, z), style in ((copies.T, {"s": 7, "color": "0.3"}), (points.T, {"s": 34, **colours})):
            axes.scatter(x, y, z, depthshade=False, zorder=3, **style)
        axes.set(xlabel="x", ylabel="y", zlabel="z", box_aspect=extents(points), title="points, and the plane")
        axes.view_init(elev=14, azim=-72)
        axes.locator_params(nbins=5)
        axes = figure.add_subplot(grid[1])
        axes.scatter(*codes.T, s=34, **colours)
        axes.set(xlabel="code 0", ylabel="code 1", aspect="equal", title="their codes; the first is the colour")
    return figure


def extents(points: torch.Tensor) -> list[float]:
    """Returns the extent of points (N, 3) along each axis, so that a box of this aspect has one unit on all axes."""
    return (points.amax(0) - points.amin(0)).tolist()
