"""Codes and reconstructions of autoencoders: `codes`, `units`, `activations`, `reconstructions`, `denoising` and
`neighbours`."""

import torch

from genhub import plotting
from genhub.data import Images, to_model_range
from genhub.figures.subject import SPLITS, Subject, class_of, label_names, load_subject, pixels, scale_for
from genhub.objectives.autoencoder import Reconstruction
from genhub.objectives.objective import Step
from genhub.utils.extras import how_to_install
from genhub.utils.randomness import BatchRandom

MAX_UNITS, PER_UNIT = 16, 10  # rows of `units`, and images in each
BINS = 20
COLLAPSED = 0.1  # standard deviation of a latent's mean below which it is inactive (Burda et al. 2015, Sec. 5)
COLUMNS = 10  # of `reconstructions` and `denoising`
NEAREST = 8  # neighbours of each image


def codes(repo: str, count: int = 5000, seed: int = 42) -> bytes:
    """Draws the codes of held-out images in the plane, by t-SNE.

    t-SNE keeps neighbours together (van der Maaten & Hinton 2008). Codes of two numbers are drawn as they are.

    Args:
        count: images.
        seed: of t-SNE.
    """
    subject = load_subject(repo, "encode")
    images = subject.images(subject.held_out, count)
    latents = subject.codes(images)
    length = latents.shape[1]
    if length < 2 or len(latents) < 5:
        raise ValueError(f"`repo` must give at least 5 codes of at least 2 numbers, got {tuple(latents.shape)}.")
    points, method = (latents, "") if length == 2 else (tsne(latents, seed), "t-SNE of ")
    title = f"{subject.name}: {method}the {length}-dimensional codes of {describe_count(subject, images)}"
    names = ()
    if images.labels is not None:
        title, names = f"{title}, coloured by class", label_names(images)
    return plotting.chart_png(plotting.image_map(points, images.images / 255, title, images.labels, names))


def tsne(latents: torch.Tensor, seed: int) -> torch.Tensor:
    """Embeds codes (N, L) in the plane by t-SNE, initialised with PCA; returns (N, 2).

    Raises:
        ValueError: scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ValueError(f"t-SNE needs scikit-learn: {how_to_install('eval')}.") from error
    perplexity = min(30.0, (len(latents) - 1) / 3)
    plane = TSNE(init="pca", random_state=seed, perplexity=perplexity).fit_transform(latents.numpy())
    return torch.from_numpy(plane)


def units(repo: str, count: int | None = None) -> bytes:
    """Draws the held-out images with the highest activations of each code unit.

    A unit that is never active has none.

    Args:
        count: images to choose from; all if None.
    """
    subject = load_subject(repo, "encode")
    images = subject.images(subject.held_out, count)
    latents = subject.codes(images)
    total, shown = latents.shape[1], min(MAX_UNITS, latents.shape[1])
    descriptions, active, inactive = describe_units(latents, has_sigmoid_code(subject))
    rows = []
    for unit in range(shown):
        order = latents[:, unit].sort(descending=True, stable=True).indices
        rows.append(images.images[order[: min(PER_UNIT, active[unit])]] / 255)
    if not any(map(len, rows)):
        rows[0] = plotting.blank(images.images)
    names = [f"unit {unit}, {descriptions[unit]}" for unit in range(shown)]
    which = f"the first {shown} of {total} code units" if total > shown else "each code unit"
    title = (
        f"{subject.name}: the images with the highest activations of {which}, out of "
        f"{describe_count(subject, images)}; {active.count(0)} of {total} units {inactive}"
    )
    return plotting.png(plotting.image_rows(rows, names, PER_UNIT, title, scale_for(images.images, 56)))


def describe_units(latents: torch.Tensor, is_sigmoid: bool) -> tuple[list[str], list[int], str]:
    """Describes how active each unit of codes (N, L) is.

    A unit that is never negative is active above 0, or above 1/2 if it is a sigmoid. Any other is active in all images
    if its standard deviation is at least `COLLAPSED`, else in none.

    Returns:
        a description of each unit, the number of images in which it is active, and a clause about inactive units.
    """
    if is_sigmoid or (latents >= 0).all():
        threshold, active = (0.5, "above 1/2") if is_sigmoid else (0.0, "active")
        counts = (latents > threshold).sum(0).tolist()
        shares = [percent(count, len(latents)) for count in counts]
        descriptions = [
            f"{active} in {share}" if count else f"never {active}" for count, share in zip(counts, shares, strict=True)
        ]
        return descriptions, counts, f"are never {active}"
    deviations = latents.double().std(0, correction=0).tolist()
    counts = [len(latents) if sd >= COLLAPSED else 0 for sd in deviations]
    descriptions = [f"sd {sd:.2f}" if sd >= COLLAPSED else f"sd {sd:.2f}, collapsed" for sd in deviations]
    return descriptions, counts, f"have collapsed: their standard deviation is below {COLLAPSED}"


def activations(repo: str, count: int | None = None) -> bytes:
    """Draws histograms of code activations on held-out images, and of their means.

    Args:
        count: images; all if None.
    """
    subject = load_subject(repo, "encode")
    images = subject.images(subject.held_out, count)
    latents, is_sigmoid = subject.codes(images), has_sigmoid_code(subject)
    title = f"{subject.name}: activations of the {latents.shape[1]} code units on {describe_count(subject, images)}"
    zeros = int((latents == 0).sum())
    if zeros and not is_sigmoid:
        title += f"; {percent(zeros, latents.numel())} are exactly 0"
    means = latents.mean(0)
    parts = [
        plotting.Histogram(latents, bin_edges(latents, is_sigmoid), "activation", "activations"),
        plotting.Histogram(means, bin_edges(means, is_sigmoid), "mean activation of a unit", "units"),
    ]
    return plotting.chart_png(plotting.histograms(parts, title))


def bin_edges(values: torch.Tensor, is_sigmoid: bool) -> list[float]:
    """Returns the edges of ten bins from 0 to 1 for sigmoids, of twenty that cover all values and 0 for others."""
    if is_sigmoid:
        return torch.linspace(0, 1, BINS // 2 + 1, dtype=torch.double).tolist()
    low, high = min(0.0, values.min().item()), max(0.0, values.max().item())
    return torch.linspace(low, high if high > low else low + 1, BINS + 1, dtype=torch.double).tolist()


def has_sigmoid_code(subject: Subject) -> bool:
    """Returns whether the code units are sigmoids."""
    configs = [component.config for component in subject.pipeline.components.values()]
    return any(config.get("latent_activation") == "sigmoid" for config in configs)


def percent(count: int, total: int) -> str:
    """Returns a share in whole percents, rounded to 0% or 100% only if it is exactly that."""
    share = 100 * count / total
    if 0 < share < 1:
        return "under 1%"
    return "over 99%" if 99 < share < 100 else f"{share:.0f}%"


def reconstructions(repo: str, count: int = COLUMNS) -> bytes:
    """Draws held-out images above their reconstructions.

    Args:
        count: images, the first ones.
    """
    subject = load_subject(repo, "reconstruct")
    images = subject.images(subject.held_out, count)
    originals, copies = images.images / 255, subject.reconstructions(images)
    title = (
        f"{subject.name}: the first {describe_count(subject, images)} and their reconstructions; "
        f"{describe_error(copies, originals)}"
    )
    return draw_blocks({"original": originals, "reconstruction": copies}, title)


def denoising(repo: str, count: int = COLUMNS, seed: int = 0) -> bytes:
    """Draws held-out images clean, corrupted as in training, and denoised.

    Args:
        count: images, the first ones.
        seed: of the corruption.
    """
    subject = load_subject(repo, "denoise", "AutoencoderPipeline")
    objectives = [stage.objective.build(**subject.pipeline.components) for stage in subject.recipe.stages]
    corrupting = [part for part in objectives if isinstance(part, Reconstruction) and part.corruption]
    if not corrupting:
        raise ValueError(
            "`repo` must be trained on corrupted images, with `objective.mask` or `objective.noise` above 0, got "
            f"{subject.name}, whose objective corrupts nothing."
        )
    objective = corrupting[-1]
    images = subject.images(subject.held_out, count)
    step = Step(0, 0.0, BatchRandom("denoising", seed, rows=range(len(images)), total=len(images)))
    corrupted = (objective.corrupt(to_model_range(images.images), step) + 1) / 2  # may leave [0, 1]
    clean, denoised = images.images / 255, pixels(subject.pipeline.denoise(corrupted, output_type="pt"))
    title = (
        f"{subject.name}: the first {describe_count(subject, images)}, corrupted and denoised "
        f"({objective.corruption}; seed {seed}); {describe_error(denoised, clean)}"
    )
    return draw_blocks({"clean": clean, "corrupted": corrupted, "denoised": denoised}, title)


def neighbours(repo: str, count: int = 8) -> bytes:
    """Draws test images beside the training images with the nearest hashes.

    Args:
        count: test images, the first ones.
    """
    subject = load_subject(repo, "hash", "AutoencoderPipeline with a sigmoid code")
    queries, known = subject.images("test", count), subject.images("train")
    subject.pipeline.index(known.images / 255)
    length = subject.pipeline.autoencoder.config["latent_channels"]
    results = subject.pipeline.search(queries.images / 255, min(NEAREST, len(known)))
    indices, distances = results.indices.cpu(), results.distances.cpu().tolist()
    rows = [torch.cat([queries.images[i : i + 1], known.images[indices[i]]]) / 255 for i in range(len(queries))]
    captions = [["query", *("1 bit" if bits == 1 else f"{bits} bits" for bits in row)] for row in distances]
    title = (
        f"{subject.name}: the first {len(queries)} test images, each beside the {indices.shape[1]} of {len(known):,} "
        f"training images whose {length}-bit hashes are nearest; captions: bits that differ (ties: the first image)"
    )
    names = [f"image {i}" for i in range(len(queries))]
    if queries.labels is not None and known.labels is not None:
        names = [class_of(queries, i) for i in range(len(queries))]
        same = (known.labels[indices] == queries.labels[:, None]).double().mean().item()
        title += f"; {same:.0%} are of their query's class"
    return plotting.png(plotting.image_rows(rows, names, 1 + NEAREST, title, scale_for(rows[0]), captions))


def describe_count(subject: Subject, images: Images) -> str:
    """Returns words such as "5,000 validation images"."""
    return f"{len(images):,} {SPLITS[subject.held_out]} images"


def describe_error(images: torch.Tensor, others: torch.Tensor) -> str:
    """Returns the mean squared error of images as they are shown, in words."""
    return f"mean squared error {squared_error(images, others):.4f} (pixels in [0, 1])"


def squared_error(images: torch.Tensor, others: torch.Tensor) -> float:
    """Returns the mean squared error of pixels clamped to [0, 1]."""
    return (images.clamp(0, 1) - others.clamp(0, 1)).square().mean().item()


def draw_blocks(sets: dict[str, torch.Tensor], title: str) -> bytes:
    """Draws named sets of images (N, C, H, W) one below the other, in blocks of ten columns."""
    parts = {name: images.split(COLUMNS) for name, images in sets.items()}
    blocks = range(len(next(iter(parts.values()))))
    rows = [parts[name][block] for block in blocks for name in sets]
    columns = max(map(len, rows))
    return plotting.png(plotting.image_rows(rows, [*sets] * len(blocks), columns, title, scale_for(rows[0])))
