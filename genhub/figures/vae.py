"""The latents of a variational autoencoder: `interpolation` and `manifold`."""

import math

import torch

from genhub import plotting
from genhub.data import Images
from genhub.figures.subject import SPLITS, Subject, blend, class_of, labels_of, load_subject, pixels, scale_for

STRIP = 9  # images of a row of `interpolation`
REACH, MAX_AXES = 1.6, 10  # a traversal runs from -REACH to REACH; traversals at most
EXAMINED = 1000  # held-out images from which the most used latents are determined
LOW, HIGH, TICKS = 0.05, 0.95, 7  # quantiles of `manifold`, and ticks on its axes


def interpolation(repo: str, count: int = 4) -> bytes:
    """Draws interpolations between held-out images, and traversals of single latents.

    Below each interpolation of codes stands that of the pixels, which only lays one image over the other.

    Args:
        count: pairs: the first image and the second, the third and the fourth, ...; pairs of one class if the model is
            conditional.
    """
    subject = load_subject(repo, "traverse", "VAEPipeline")
    images = subject.images(subject.held_out, None if subject.is_conditional else 2 * count)
    pairs = find_pairs(images, count, subject.is_conditional)
    if not pairs:
        raise ValueError(f"`repo` must have a pair of {SPLITS[subject.held_out]} images to show, got {len(images)}.")
    rows, names = [], []
    for pair in pairs:
        between = interpolate_pair(subject, images, pair)
        rows += [between, torch.cat([between[:1], blend(between[[0, -1]], STRIP - 2), between[-1:]])]
        names += [name_pair(images, pair), "pixels"]
    steps = [f"{step / (STRIP - 3):.2f}" for step in range(STRIP - 2)]
    captions = [[]] * (len(rows) - 1) + [["image", *steps, "image"]]

    deviations = subject.codes(images[:EXAMINED]).std(0, correction=0)
    axes = most_used(deviations, MAX_AXES)
    label = int(labels_of(images)[0]) if subject.is_conditional else None
    for axis in axes:
        traversal = subject.pipeline.traverse(axis, -REACH, REACH, STRIP, class_labels=label, output_type="pt")
        rows.append(pixels(traversal))
        names.append(f"latent {axis}, sd {deviations[axis]:.2f}")
    values = [f"{value:.1f}".replace("-0.0", "0.0") for value in torch.linspace(-REACH, REACH, STRIP).tolist()]
    captions += [[]] * (len(axes) - 1) + [values]

    traversed = "each latent"
    if len(axes) < len(deviations):
        traversed = f"the {len(axes)} most used of {len(deviations)} latents"
    if label is not None:
        traversed += f", of class {class_of(images, 0)}"
    title = (
        f"{subject.name}: above, interpolation between pairs of {SPLITS[subject.held_out]} images at equal steps "
        f"between their codes, and between their pixels; below, traversal of {traversed}, with all others at 0; sd: "
        "standard deviation of the latent's mean over images"
    )
    return plotting.png(plotting.image_rows(rows, names, STRIP, title, scale_for(rows[0], 56), captions))


def find_pairs(images: Images, count: int, same_class: bool) -> list[tuple[int, int]]:
    """Returns the indices of up to `count` disjoint pairs of images: neighbours, or the first two of each class."""
    if not same_class:
        return [(index, index + 1) for index in range(0, min(2 * count, len(images) - 1), 2)]
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels_of(images).tolist()):
        by_class.setdefault(label, []).append(index)
    return [(indices[0], indices[1]) for indices in by_class.values() if len(indices) > 1][:count]


def interpolate_pair(subject: Subject, images: Images, pair: tuple[int, int]) -> torch.Tensor:
    """Returns two images and the interpolation between their codes, (STRIP, C, H, W)."""
    first, second = (images.images[index : index + 1] / 255 for index in pair)
    label = {"class_labels": int(labels_of(images)[pair[0]])} if subject.is_conditional else {}
    between = pixels(subject.pipeline.interpolate(first, second, STRIP - 2, output_type="pt", **label))
    return torch.cat([first, between, second])


def name_pair(images: Images, pair: tuple[int, int]) -> str:
    """Returns the names of the classes of two images, or their numbers; one name if they are the same."""
    if images.labels is None:
        return f"image {pair[0]} to image {pair[1]}"
    first, second = (class_of(images, index) for index in pair)
    return first if first == second else f"{first} to {second}"


def most_used(deviations: torch.Tensor, count: int) -> list[int]:
    """Returns the `count` axes with the largest deviations (L,), in ascending order."""
    return sorted(deviations.argsort(descending=True, stable=True)[:count].tolist())


def manifold(repo: str, count: int = 400) -> bytes:
    """Draws a plane of two latents as a square of images.

    They are the two most used latents, at equal steps between quantiles of the prior.

    Args:
        count: images, a square number.
    """
    side = math.isqrt(count)
    if side < 2 or side**2 != count:
        raise ValueError(f"`count` must make a square, such as 4 or 400, got {count}.")
    subject = load_subject(repo, "manifold", "VAEPipeline")
    images = subject.images(subject.held_out, EXAMINED)
    deviations = subject.codes(images).std(0, correction=0)
    if len(deviations) < 2:
        raise ValueError("`repo` must hold a model of at least 2 latents, got 1.")
    across, down = most_used(deviations, 2)
    label = {"class_labels": int(labels_of(images)[0])} if subject.is_conditional else {}
    plane = pixels(subject.pipeline.manifold(count, LOW, HIGH, (across, down), output_type="pt", **label))
    quantiles = torch.linspace(LOW, HIGH, TICKS).tolist()
    ticks = [((quantile - LOW) / (HIGH - LOW), f"{quantile:.2f}") for quantile in quantiles]
    title = f"{subject.name}: the plane of latents {across} and {down}"
    if len(deviations) > 2:
        title += f", the most used of {len(deviations)} (the others are 0)"
    title += f"; {side} x {side} images at quantiles of the standard normal distribution"
    if subject.is_conditional:
        title += f"; class {class_of(images, 0)}"
    x_label, y_label = (f"quantile of latent {axis}" for axis in (across, down))
    scale = max(1, round(1120 / (side * plane.shape[2])))
    return plotting.png(plotting.image_plane(plane, title, x_label, y_label, ticks, scale))
