"""Images as points in the plane."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from genhub.plotting.style import CLASS_COLOURS, MARKERS, canvas, house_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

APART = 0.02**0.5  # of thumbnails in the unit square (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17)


def image_map(
    points: torch.Tensor,
    images: torch.Tensor,
    title: str,
    labels: torch.Tensor | None = None,
    names: Sequence[str] = (),
) -> "Figure":
    """Draws `points` (N, 2), coloured by their `labels` (N,), with thumbnails of some of `images` (N, C, H, W) in
    [0, 1].

    Each axis is rescaled to 0..1.

    Args:
        names: of the classes, for the legend.

    Raises:
        ValueError: the numbers of points and images differ, or a label has no name.
    """
    if points.shape != (len(images), 2):
        raise ValueError(f"`points` must be ({len(images)}, 2), one for each image, got {tuple(points.shape)}.")
    if labels is not None and len(labels) and labels.max() >= len(names):
        raise ValueError(f"`names` must hold a name for the label {labels.max()}, got {len(names)} names.")
    points = points.double() - points.double().amin(0)
    points = points / points.amax(0).clamp(min=1e-12)
    with house_style():
        figure = canvas(10, 8.4, title)
        axes = figure.subplots()
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        axes.axis("off")
        draw_points(axes, points, labels, names, size=9 if labels is None else 14)
        colours = ["0.4"] * len(points)
        if labels is not None:
            columns = 1 + (len(labels.unique()) - 1) // 30
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.5, ncols=columns, fontsize=12)
            colours = [CLASS_COLOURS[label % len(CLASS_COLOURS)] for label in labels.tolist()]
        draw_thumbnails(axes, points, images, colours)
    return figure


def point_maps(
    panels: dict[str, torch.Tensor],
    title: str,
    labels: torch.Tensor | None = None,
    names: Sequence[str] = (),
    radii: Sequence[float] = (),
    is_shared: bool = False,
) -> "Figure":
    """Draws the same points in several planes, `panels` name -> (N, 2), side by side, coloured by `labels` (N,).

    Args:
        names: of the classes, for one legend.
        radii: of circles around the origin.
        is_shared: draw all panels on the same axes, of one unit, with ticks.
    """
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    with house_style():
        from matplotlib.patches import Circle

        figure = canvas(3.7 * columns + 1.6, 3.6 * rows + 0.7, title)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=is_shared, sharey=is_shared)
        for axes in grid.flat[len(panels) :]:
            axes.axis("off")
        reach = max(points.abs().max().item() for points in panels.values())
        for axes, (name, points) in zip(grid.flat, panels.items(), strict=False):
            axes.set_title(name, fontsize=10)
            if is_shared:
                axes.set(xlim=(-1.05 * reach, 1.05 * reach), ylim=(-1.05 * reach, 1.05 * reach), aspect="equal")
            else:
                axes.set(xticks=[], yticks=[])
            draw_points(axes, points, labels, names, size=7)
            for radius in radii:
                axes.add_patch(Circle((0, 0), radius, fill=False, color="0.2", linewidth=1.2, zorder=3))
        if labels is not None:
            figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside right center", markerscale=2.5)
    return figure


def draw_points(
    axes: "Axes", points: torch.Tensor, labels: torch.Tensor | None, names: Sequence[str], size: float
) -> None:
    """Draws the points of each class in a colour and a marker of its own, or all in grey without labels."""
    if labels is None:
        axes.scatter(*points.T, s=size, color="0.4", linewidths=0)
        return
    for label in labels.unique().tolist():
        colour, marker = CLASS_COLOURS[label % len(CLASS_COLOURS)], MARKERS[label // len(CLASS_COLOURS) % len(MARKERS)]
        axes.scatter(*points[labels == label].T, s=size, color=colour, marker=marker, linewidths=0, label=names[label])


def draw_thumbnails(axes: "Axes", points: torch.Tensor, images: torch.Tensor, colours: Sequence[str]) -> None:
    """Draws images at their points, framed in their colours, as far as they do not overlap."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    for index in choose_apart(points):
        x, y = points[index].tolist()
        image = images[index].clamp(0, 1).permute(1, 2, 0).expand(-1, -1, 3)
        picture = OffsetImage(image.numpy(), zoom=34 / max(image.shape[:2]), interpolation="nearest")
        frame = {"edgecolor": colours[index], "linewidth": 2.5}
        axes.add_artist(AnnotationBbox(picture, (x, y), pad=0.2, bboxprops=frame))


def choose_apart(points: torch.Tensor, apart: float = APART) -> list[int]:
    """Returns the indices of `points` (N, 2), taken in order, that are at least `apart` from all taken before."""
    indices: list[int] = []
    for index, point in enumerate(points):
        if not indices or (points[indices] - point).square().sum(1).min() >= apart**2:
            indices.append(index)
    return indices
