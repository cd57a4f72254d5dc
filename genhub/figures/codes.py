"""What an autoencoder's codes are like: `codes`, `units` and `activations`."""

import torch

from genhub import plotting
from genhub.figures.subject import SPLITS, Subject, class_names, load_subject, scale_for

MOST_UNITS, EACH = 16, 10  # rows of `units`, and images in each
BINS = 20
COLLAPSED = 0.1  # standard deviation of a latent's mean, below which it is not in use (Burda et al. 2015, Sec. 5)


def codes(repo: str, count: int = 5000, seed: int = 42) -> bytes:
    """Draws the codes of held-out images on a plane, where t-SNE keeps neighbours together (van der Maaten & Hinton
    2008); codes of two numbers are drawn as they are."""
    subject = load_subject(repo, "encode")
    images = subject.images(subject.held_out, count)
    found = subject.codes(images)
    if found.shape[1] < 2 or len(found) < 5:
        raise ValueError(f"`repo` must give at least 5 codes of at least 2 numbers, got {tuple(found.shape)}.")
    points = found if found.shape[1] == 2 else embedded(found, seed)
    how = "codes of two numbers, as they are" if points is found else f"t-SNE of codes of {found.shape[1]} numbers"
    title = f"{subject.name}: {how}, of {len(images):,} {SPLITS[subject.held_out]} images"
    title += "" if images.labels is None else "; a colour for each class"
    names = () if images.labels is None else class_names(images)
    return plotting.chart_png(plotting.image_map(points, images.images / 255, title, images.labels, names))


def embedded(found: torch.Tensor, seed: int) -> torch.Tensor:
    """Returns codes (N, L) on a plane, (N, 2), by t-SNE that begins with PCA.

    Raises:
        ValueError: scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ValueError("t-SNE needs scikit-learn: `pip install genhub[eval]`.") from error
    perplexity = min(30.0, (len(found) - 1) / 3)
    plane = TSNE(init="pca", random_state=seed, perplexity=perplexity).fit_transform(found.numpy())
    return torch.from_numpy(plane)


def units(repo: str, count: int | None = None) -> bytes:
    """Draws the held-out images that most excite each unit of the code; none for a unit that is not in use."""
    subject = load_subject(repo, "encode")
    images = subject.images(subject.held_out, count)
    found = subject.codes(images)
    total, shown = found.shape[1], min(MOST_UNITS, found.shape[1])
    said, excite, idle = in_use(found, is_sigmoid(subject))
    rows = []
    for unit in range(shown):
        best = found[:, unit].sort(descending=True, stable=True).indices
        rows.append(images.images[best[: min(EACH, excite[unit])]] / 255)
    if not any(map(len, rows)):  # a place without an image looks like this one
        rows[0] = torch.full_like(images.images[:1], plotting.GREY) / 255
    names = [f"unit {unit}, {said[unit]}" for unit in range(shown)]
    which = f"the first {shown} of {total} units" if total > shown else "each unit"
    title = (
        f"{subject.name}: the images that most excite {which} of the code, of {len(images):,} "
        f"{SPLITS[subject.held_out]} images (of equals the first); {excite.count(0)} of {total} units {idle}"
    )
    return plotting.png(plotting.named_rows(rows, names, EACH, title, scale_for(images.images, 56)))


def in_use(found: torch.Tensor, sigmoid: bool) -> tuple[list[str], list[int], str]:
    """Returns, of codes (N, L), how much each unit is in use, in words; how many images excite it; and what is true of
    those that none excites.

    Units that are never below zero are active above it, or above 1/2 where they are sigmoids. Of others the standard
    deviation counts: all images excite them, or none.
    """
    if sigmoid or (found >= 0).all():
        counts = (found > (0.5 if sigmoid else 0)).sum(0).tolist()
        above = "above 1/2" if sigmoid else "active"
        said = [f"{above} in {percent(count, len(found))}" if count else f"never {above}" for count in counts]
        return said, counts, f"are never {above}"
    spreads = found.double().std(0, correction=0)
    excite = [len(found) * (spread >= COLLAPSED) for spread in spreads.tolist()]
    said = [f"sd {spread:.2f}" + ", collapsed" * (spread < COLLAPSED) for spread in spreads.tolist()]
    return said, excite, f"have collapsed: their standard deviation is below {COLLAPSED}"


def activations(repo: str, count: int | None = None) -> bytes:
    """Draws how active the units of the code are, image by image, and each on average."""
    subject = load_subject(repo, "encode")
    images = subject.images(subject.held_out, count)
    found = subject.codes(images)
    sigmoid = is_sigmoid(subject)
    zeros = int((found == 0).sum())
    title = f"{subject.name}: activations of the {found.shape[1]} units of the code"
    title += f" by {len(images):,} {SPLITS[subject.held_out]} images"
    title += f"; {percent(zeros, found.numel())} are exactly 0" if zeros and not sigmoid else ""
    parts = [
        plotting.Histogram(values, edges_of(values, sigmoid), x_label, of)
        for values, x_label, of in (
            (found, "activation", "activations"),
            (found.mean(0), "mean activation of a unit", "units"),
        )
    ]
    return plotting.chart_png(plotting.histograms(parts, title))


def edges_of(values: torch.Tensor, sigmoid: bool) -> list[float]:
    """Returns the edges of bins for activations: ten from 0 to 1 for sigmoids, else twenty over all and 0."""
    if sigmoid:
        return torch.linspace(0, 1, BINS // 2 + 1, dtype=torch.double).tolist()
    low, high = min(0.0, values.min().item()), max(0.0, values.max().item())
    return torch.linspace(low, high if high > low else low + 1, BINS + 1, dtype=torch.double).tolist()


def is_sigmoid(subject: Subject) -> bool:
    """Whether the units of the code are sigmoids."""
    return subject.model.config.get("latent_activation") == "sigmoid"


def percent(part: int, total: int) -> str:
    """Returns a share in whole percents: neither 0% of what there is nor 100% of what is not all."""
    share = 100 * part / total
    return "under 1%" if 0 < share < 1 else "over 99%" if 99 < share < 100 else f"{share:.0f}%"
