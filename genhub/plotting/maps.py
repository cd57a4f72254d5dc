"""Images as points on a plane."""

from collections.abc import Sequence

import torch

from genhub.plotting.style import CLASS_COLOURS, MARKERS, canvas, styled

APART = 0.02**0.5  # of thumbnails on a plane of side 1 (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17)


def spread_out(points: torch.Tensor, apart: float = APART) -> list[int]:
    """Returns the places of those of `points` (N, 2) that are at least `apart` from all that come before them and were
    taken too."""
    taken = torch.empty(0, 2)
    places = []
    for place, point in enumerate(points):
        if not len(taken) or (taken - point).square().sum(1).min() >= apart**2:
            taken, places = torch.cat([taken, point[None]]), [*places, place]
    return places


def image_map(
    points: torch.Tensor,
    images: torch.Tensor,
    title: str,
    labels: torch.Tensor | None = None,
    names: Sequence[str] = (),
):
    """Draws `points` (N, 2) in the colours of their `labels` (N,), and some of `images` (N, C, H, W) in [0, 1] at
    theirs, as a figure of matplotlib. Each axis is rescaled to 0..1; the names of the classes stand beside the plane.

    Raises:
        ValueError: points and images are not as many, or a label has no name.
    """
    if points.shape != (len(images), 2):
        raise ValueError(f"`points` must be ({len(images)}, 2), one for each image, got {tuple(points.shape)}.")
    if labels is not None and len(labels) and labels.max() >= len(names):
        raise ValueError(f"`names` must hold a name for the label {labels.max()}, got {len(names)} names.")
    points = points.double() - points.double().amin(0)
    points = points / points.amax(0).clamp(min=1e-12)
    with styled():
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        figure = canvas(10, 8.4, title)
        axes = figure.subplots()
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        axes.axis("off")
        colours = ["0.4"] * len(points)
        if labels is None:
            axes.scatter(*points.T, s=9, color="0.4", linewidths=0)
        else:
            colours = [CLASS_COLOURS[label % len(CLASS_COLOURS)] for label in labels.tolist()]
            for label in sorted(set(labels.tolist())):
                axes.scatter(
                    *points[labels == label].T,
                    s=14,
                    color=CLASS_COLOURS[label % len(CLASS_COLOURS)],
                    marker=MARKERS[label // len(CLASS_COLOURS) % len(MARKERS)],
                    linewidths=0,
                    label=names[label],
                )
            columns = 1 + (len(set(labels.tolist())) - 1) // 30
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.5, ncols=columns, fontsize=12)
        for place in spread_out(points):
            image = images[place].clamp(0, 1).permute(1, 2, 0).expand(-1, -1, 3)
            picture = OffsetImage(image.numpy(), zoom=34 / max(image.shape[:2]), interpolation="nearest")
            frame = {"edgecolor": colours[place], "linewidth": 2.5}
            axes.add_artist(AnnotationBbox(picture, points[place].tolist(), pad=0.2, bboxprops=frame))
    return figure
