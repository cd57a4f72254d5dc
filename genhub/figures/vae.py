"""What a variational autoencoder's latents stand for: `samples`, `interpolation` and `manifold`."""

import math

import torch

from genhub import plotting
from genhub.data import Images
from genhub.figures.samples import asked_for
from genhub.figures.subject import SPLITS, Subject, class_names, load_subject, scale_for
from genhub.utils.randomness import seed_of

COLUMNS = 7  # of `samples`
STRIP, REACH, AXES = 9, 1.6, 10  # images of a strip; a traversal runs from -REACH to REACH; traversals at most
LOOKED_AT = 1000  # held-out images that say which latents are in use
LOW, HIGH, TICKS = 0.05, 0.95, 7  # of `manifold`


def prior_samples(repo: str, count: int | None = None, seed: int = 0) -> bytes:
    """Draws images of latents from the prior: 21, or ten of each class from a conditional model, of the same ten
    latents for all classes. Image i is that of `genhub generate` with the same seed.

    Args:
        count: images, or of each class.
    """
    subject = load_subject(repo, "interpolate", "VAEPipeline or GANPipeline")
    count = count or (10 if subject.is_conditional else 3 * COLUMNS)
    if not subject.is_conditional:
        rows = drawn(subject, count, seed).split(COLUMNS)
        starts = range(0, count, COLUMNS)
        names = [f"{start} to {start + len(row) - 1}" for start, row in zip(starts, rows, strict=True)]
        title = f"{subject.name}: samples 0 to {count - 1} of the prior; seed {seed}, not selected"
    else:
        _, names = asked_for(subject.recipe, subject.pipeline, subject.model.config["num_class_embeds"])
        rows = [drawn(subject, count, seed, label) for label in range(len(names))]
        title = (
            f"{subject.name}: {count} samples of each class; images above one another are of the same latents; seed "
            f"{seed}, not selected"
        )
    columns = max(map(len, rows))
    return plotting.png(plotting.named_rows(rows, names, columns, title, scale_for(rows[0])))


def drawn(subject: Subject, count: int, seed: int, label: int | None = None) -> torch.Tensor:
    """Returns `count` images of the prior, (N, C, H, W) in [0, 1]."""
    generators = [torch.Generator().manual_seed(seed_of("image", seed, place)) for place in range(count)]
    asked = {} if label is None else {"class_labels": label}
    return subject.pipeline(batch_size=count, generator=generators, output_type="pt", **asked).images.float().cpu()


def interpolation(repo: str, count: int = 4) -> bytes:
    """Draws the ways between pairs of held-out images, and along the axes of the latents.

    Args:
        count: pairs: the first image with the second, the third with the fourth, ...; of a conditional model, pairs
            of one class.
    """
    subject = load_subject(repo, "traverse", "VAEPipeline")
    images = subject.images(subject.held_out, None if subject.is_conditional else 2 * count)
    ends = pairs_of(images, count, subject.is_conditional)
    if not ends:
        raise ValueError(f"`repo` must have a pair of {SPLITS[subject.held_out]} images to show, got {len(images)}.")
    known = () if images.labels is None else class_names(images)
    rows, names = [], []
    for first, second in ends:
        pair = [images.images[place : place + 1] / 255 for place in (first, second)]
        asked = {"class_labels": int(images.labels[first])} if subject.is_conditional else {}
        between = subject.pipeline.interpolate(*pair, STRIP - 2, output_type="pt", **asked).images.float().cpu()
        rows.append(torch.cat([pair[0], between, pair[1]]))
        shown = [known[images.labels[place]] if known else f"image {place}" for place in (first, second)]
        names.append(" to ".join(dict.fromkeys(shown)))
    steps = [f"{place / (STRIP - 3):.2f}" for place in range(STRIP - 2)]
    captions = [[]] * (len(rows) - 1) + [["image", *steps, "image"]]

    spreads = subject.codes(images[:LOOKED_AT]).std(0, correction=0)
    axes = sorted(spreads.argsort(descending=True, stable=True)[:AXES].tolist())
    label = int(images.labels[0]) if subject.is_conditional else None
    for axis in axes:
        asked = {"low": -REACH, "high": REACH, "num_images": STRIP, "class_labels": label, "output_type": "pt"}
        rows.append(subject.pipeline.traverse(axis, **asked).images.float().cpu())
        names.append(f"latent {axis}, sd {spreads[axis]:.2f}")
    values = torch.linspace(-REACH, REACH, STRIP).tolist()
    captions += [[]] * (len(axes) - 1) + [[f"{value:.1f}".replace("-0.0", "0.0") for value in values]]
    most = f"the {len(axes)} most used of {len(spreads)} latents" if len(axes) < len(spreads) else "each latent"
    title = (
        f"{subject.name}: above, from one {SPLITS[subject.held_out]} image to another, at equal steps between their "
        f"codes; below, along {most}, with all others 0"
        + (f", of class {known[label]}" if subject.is_conditional else "")
        + "; sd: of the latent's mean, over images"
    )
    return plotting.png(plotting.named_rows(rows, names, STRIP, title, scale_for(rows[0], 56), captions))


def pairs_of(images: Images, count: int, alike: bool) -> list[tuple[int, int]]:
    """Returns the places of up to `count` pairs of images, no image twice: of one class, one pair for each, where they
    must be `alike`, else as they come."""
    if not alike:
        return [(place, place + 1) for place in range(0, min(2 * count, len(images) - 1), 2)]
    found: dict[int, list[int]] = {}
    for place, label in enumerate(images.labels.tolist()):
        found.setdefault(label, []).append(place)
    return [(places[0], places[1]) for places in found.values() if len(places) > 1][:count]


def manifold(repo: str, count: int = 400) -> bytes:
    """Draws the images of a plane of latents, at equal steps between quantiles of the prior: of the two latents that
    the model uses most, where it has more."""
    side = math.isqrt(count)
    if side < 2 or side**2 != count:
        raise ValueError(f"`count` must make a square, such as 4 or 400, got {count}.")
    subject = load_subject(repo, "manifold", "VAEPipeline")
    images = subject.images(subject.held_out, LOOKED_AT)
    spreads = subject.codes(images).std(0, correction=0)
    if len(spreads) < 2:
        raise ValueError("`repo` must hold a model of at least 2 latents, got 1.")
    axes = tuple(sorted(spreads.argsort(descending=True, stable=True)[:2].tolist()))
    asked = {"class_labels": int(images.labels[0])} if subject.is_conditional else {}
    plane = subject.pipeline.manifold(count, LOW, HIGH, axes, output_type="pt", **asked).images.float().cpu()
    quantiles = torch.linspace(LOW, HIGH, TICKS)
    ticks = [((quantile - LOW) / (HIGH - LOW), f"{quantile:.2f}") for quantile in quantiles.tolist()]
    rest = f"; the other {len(spreads) - 2} latents are 0" if len(spreads) > 2 else ""
    which = f", the two that are used most of {len(spreads)}" if rest else ""
    title = (
        f"{subject.name}: the plane of latents {axes[0]} and {axes[1]}{which}, {side} x {side} images at "
        f"quantiles of the standard normal distribution{rest}"
        + (f"; class {class_names(images)[images.labels[0]]}" if asked else "")
    )
    labels = [f"quantile of latent {axis}" for axis in axes]
    scale = max(1, round(1120 / (side * plane.shape[2])))
    return plotting.png(plotting.plane(plane, title, *labels, ticks, scale))
