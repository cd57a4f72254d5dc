"""Quality of reconstructions, and what the codes of an autoencoder know about the classes of images."""

import importlib.util
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline

from genhub.data import Images, Points, points_to_model_range, to_model_range
from genhub.evaluation.checks import check_at_least, check_values, image_batches
from genhub.evaluation.features import principal_components
from genhub.evaluation.latents import compute_codes
from genhub.evaluation.likelihood import PIXELS, binarise_pixels
from genhub.evaluation.metrics import mean_of
from genhub.evaluation.result import STANDARD_ERROR, Metric
from genhub.repository.capabilities import capabilities_of, is_conditional
from genhub.utils.extras import how_to_install

FEW_LABELS = 500  # of the second linear probe
DRAWS = 5  # of the labels of a probe that has few


@dataclass(frozen=True)
class Reconstruction:
    """Squared error of pixels in [0, 1], mean over images and its standard error, and the PSNR of that mean in dB."""

    mse: tuple[float, float]
    psnr: float


def evaluate_reconstructions(
    pipeline: DiffusionPipeline,
    splits: dict[str, Images],
    tell: Callable[[str], None] = lambda what: None,
    has_posterior: bool = False,
    binarise: str | None = None,
    padding: int = 0,
) -> list[Metric]:
    """Measures reconstructions of each of `splits` ("train", "test", maybe "val"), and the codes if the pipeline
    encodes: the error of PCA with as many components, the units in use, and linear probes if there are labels.

    Args:
        has_posterior: codes are means of q(z|x) with the prior N(0, I), so that "active units" is defined; for other
            codes, units are counted that vary at all.
        binarise: how training made pixels 0 or 1, as in `binarise_pixels`; the images here are treated alike.
        padding: black pixels around the images that the pipeline takes; they are no part of the error.
    """
    if binarise is not None:
        splits = {
            split: replace(images, images=binarise_pixels(images.images, binarise)) for split, images in splits.items()
        }
    metrics = []
    for split, images in splits.items():
        tell(f"reconstructions, {split}")
        metrics += _errors(pipeline, images, f"{PIXELS[binarise]}, {split}", padding)
    if not capabilities_of(pipeline).can("encode"):
        return metrics

    tell("codes")
    train, test = splits["train"], splits["test"]
    codes, test_codes = (compute_codes(pipeline, images, padding=padding) for images in (train, test))
    components = codes.shape[1]
    if components < train.images.shape[1:].numel():
        for split, images in splits.items():
            name = f"MSE of PCA with {components} components{PIXELS[binarise]}, {split}"
            value = pca_error(train.images, images.images, components)
            metrics.append(Metric(name, "", value, None, "", len(images)))
    metrics.append(_units(test_codes, has_posterior))
    if can_probe(train, test) and train.labels is not None and test.labels is not None:
        metrics += _probes(codes, train.labels, test_codes, test.labels, tell)
    return metrics


def _errors(pipeline: DiffusionPipeline, images: Images, suffix: str, padding: int) -> list[Metric]:
    """Returns MSE and, of pictures, PSNR of the reconstructions of one split."""
    takes_labels = "class_labels" in inspect.signature(cast(Any, pipeline).reconstruct).parameters

    def reconstruct(sample: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
        arguments = {"class_labels": labels[0]} if labels and takes_labels else {}
        sample = F.pad((sample + 1) / 2, (padding,) * 4)
        copy = 2 * pipeline.reconstruct(sample, output_type="pt", **arguments).images.to(sample) - 1
        return F.pad(copy, (-padding,) * 4)

    is_picture = not isinstance(images, Points)
    error = reconstruction_error(
        reconstruct, images.images, labels=images.labels if is_conditional(pipeline) else None, is_picture=is_picture
    )
    metrics = [Metric(f"reconstruction MSE{suffix}", "", *error.mse, STANDARD_ERROR, len(images))]
    if is_picture:
        metrics.append(Metric(f"reconstruction PSNR in dB{suffix}", "", error.psnr, None, "", len(images)))
    return metrics


def _units(codes: torch.Tensor, has_posterior: bool) -> Metric:
    """Counts the units of the code in use, on the test images."""
    if has_posterior:
        return Metric("active units", "", active_units(codes), None, "", len(codes))
    varying = int((codes.amax(0) > codes.amin(0)).sum())
    return Metric("units that vary", "", varying, None, "", len(codes))


def _probes(
    codes: torch.Tensor,
    labels: torch.Tensor,
    test_codes: torch.Tensor,
    test_labels: torch.Tensor,
    tell: Callable[[str], None],
) -> list[Metric]:
    """Returns the accuracy of linear probes with all labels, and with few, equally many of each class."""
    tell("linear probe, all labels")
    accuracy, _ = linear_probe(codes, labels, test_codes, test_labels)
    metrics = [Metric("linear probe, all labels", "", accuracy, None, "", len(test_codes))]
    classes, counts = labels.unique(return_counts=True)
    few = min(FEW_LABELS // len(classes), int(counts.min())) * len(classes)
    if few:
        tell(f"linear probe, {few} labels")
        accuracy, sd = linear_probe(codes, labels, test_codes, test_labels, few)
        meaning = f"sd over {DRAWS} draws of the labels"
        metrics.append(Metric(f"linear probe, {few} labels", "", accuracy, sd, meaning, len(test_codes)))
    return metrics


def can_probe(train: Images, test: Images) -> bool:
    """Returns whether train and test images have labels of the same two classes or more.

    Raises:
        ValueError: they have, but scikit-learn is missing.
    """
    if train.labels is None or test.labels is None:
        return False
    classes = train.labels.unique()
    if len(classes) < 2 or not torch.isin(test.labels, classes).all():
        return False
    if importlib.util.find_spec("sklearn") is None:
        raise ValueError(f"Linear probes of the codes need scikit-learn: {how_to_install('eval')}.")
    return True


@torch.no_grad()
def reconstruction_error(
    reconstruct: Callable[..., torch.Tensor],
    images: torch.Tensor,
    batch_size: int = 250,
    labels: torch.Tensor | None = None,
    is_picture: bool = True,
) -> Reconstruction:
    """Compares `images` with their clamped reconstructions; PSNR = 10 log10(1 / MSE), infinite without error.

    Args:
        reconstruct: maps images in [-1, 1] (and their `labels`, if given) to images.
        is_picture: False for float data without bounds, which are not clamped.
    """
    errors = []
    for sample, *classes in image_batches(images, labels, batch_size, is_picture):
        copy = reconstruct(sample, *classes)
        check_values("reconstruct", copy, sample.shape)
        copy = copy.float().clamp(-1, 1) if is_picture else copy.float()
        errors.append(((copy - sample) / 2).square().flatten(1).mean(1).cpu())  # (B,)
    mse = mean_of(torch.cat(errors))
    return Reconstruction(mse, -10 * math.log10(mse[0]) if mse[0] else math.inf)


def active_units(means: torch.Tensor, threshold: float = 0.01) -> int:
    """Counts the latent dimensions with Var_x(E[z_i|x]) > `threshold`, given the posterior means (N, ...) (Burda et
    al. 2015, Sec. 5)."""
    if means.ndim < 2 or len(means) < 2:
        raise ValueError(f"`means` must be (N, ...) with N of at least 2, got {tuple(means.shape)}.")
    check_at_least("threshold", threshold, 0)
    check_values("means", means, means.shape)
    return int((means.flatten(1).double().var(0) > threshold).sum())


def pca_error(train: torch.Tensor, images: torch.Tensor, components: int) -> float:
    """Returns the mean squared error, for pixels in [0, 1], of `images` projected on the first principal components of
    `train`: that of the best linear autoencoder with a code of this length (Baldi & Hornik 1989)."""
    to_range = points_to_model_range if train.is_floating_point() else to_model_range
    train, images = ((to_range(x).flatten(1).double() + 1) / 2 for x in (train, images))
    mean = train.mean(0)
    axes = principal_components(train - mean, components)  # (D, K)
    centred = images - mean
    return (centred - centred @ axes @ axes.T).square().mean().item()


def linear_probe(
    codes: torch.Tensor,
    labels: torch.Tensor,
    test_codes: torch.Tensor,
    test_labels: torch.Tensor,
    labelled: int | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the test accuracy in [0, 1] of logistic regression on standardised codes (N, ...), mean and sample sd.

    Args:
        labelled: number of labels to learn from, equally many of each class, in `draws` draws with the seeds `seed`,
            `seed + 1`, ...; None for all labels, once, with an sd of nan.
    """
    _check_probe(codes, labels, test_codes, test_labels, labelled, draws)
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError(f"A linear probe needs scikit-learn: {how_to_install('eval')}.") from error

    x, test_x = (values.flatten(1).detach().cpu().double().numpy() for values in (codes, test_codes))
    y, test_y = labels.cpu(), test_labels.cpu()
    if labelled is None:
        subsets = [torch.arange(len(y))]
    else:
        subsets = [_balanced_subset(y, labelled, draw) for draw in range(seed, seed + draws)]
    probes = [make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x[s], y[s]) for s in subsets]
    accuracy = torch.tensor([probe.score(test_x, test_y) for probe in probes], dtype=torch.float64)
    return accuracy.mean().item(), math.nan if labelled is None else accuracy.std().item()


def _balanced_subset(labels: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Returns the indices of `count` random samples, equally many of each class."""
    classes = labels.unique()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return torch.cat([order[labels[order] == label][: count // len(classes)] for label in classes])


def _check_probe(codes, labels, test_codes, test_labels, labelled: int | None, draws: int) -> None:
    for prefix, x, y in (("", codes, labels), ("test_", test_codes, test_labels)):
        if x.ndim < 2 or not x.numel() or x.shape[1:] != codes.shape[1:]:
            raise ValueError(f"`{prefix}codes` must be (N, ...), the same in train and test, got {tuple(x.shape)}.")
        if y.is_floating_point() or y.shape != x.shape[:1]:
            raise ValueError(f"`{prefix}labels` must be integers ({len(x)},), got {y.dtype} {tuple(y.shape)}.")
        check_values(f"{prefix}codes", x, x.shape)
    classes, counts = labels.unique(return_counts=True)
    if len(classes) < 2 or not torch.isin(test_labels, classes).all():
        raise ValueError(f"`labels` must be of 2 classes or more, those of `test_labels` too, got {classes.tolist()}.")
    maximum = len(classes) * int(counts.min())
    if labelled is not None and (labelled % len(classes) or not 0 < labelled <= maximum):
        raise ValueError(f"`labelled` must be a multiple of {len(classes)} in 1..{maximum}, got {labelled}.")
    check_at_least("draws", draws, 2)
