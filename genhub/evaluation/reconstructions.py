"""Figures of an autoencoder: a pipeline with `reconstruct(image, output_type)` and perhaps `encode(image)`, or with a
component `vae` that has a likelihood."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import torch
from diffusers import DiffusionPipeline

from genhub.data import Images, to_model_range
from genhub.evaluation import autoencoder
from genhub.evaluation.generation import Figure

FEW = 500  # labels of a linear probe that has few
IMPORTANCE_IMAGES, IMPORTANCE_SAMPLES = 500, 1000
ERROR = "standard error over images"
PIXELS = {None: "", "threshold": ", pixels above 1/2", "random": ", binarised"}  # in the names of figures


def can_probe(train: Images, test: Images) -> bool:
    """Whether there are labels of two classes or more, which the test images share.

    Raises:
        ValueError: there are, and linear probes need a package that is not there.
    """
    if train.labels is None or test.labels is None:
        return False
    classes = train.labels.unique()
    if len(classes) < 2 or not torch.isin(test.labels, classes).all():
        return False
    if importlib.util.find_spec("sklearn") is None:
        raise ValueError("Linear probes of the codes need scikit-learn: `pip install genhub[eval]`.")
    return True


def judge_reconstructions(
    pipeline: DiffusionPipeline,
    splits: dict[str, Images],
    tell: Callable[[str], None] = lambda what: None,
    is_conditional: bool = False,
    has_posterior: bool = False,
    binarise: str | None = None,
) -> list[Figure]:
    """Returns error and PSNR on every one of `splits` (with "train" and "test"), the error of PCA with as many codes,
    how many units of the code are of use, and the accuracy of linear probes on them where the images have labels.

    Args:
        is_conditional: the pipeline takes `class_labels` too.
        has_posterior: codes are means of a q(z|x) beside a prior N(0, I), so that "active" means something; of other
            codes, whose scale is their own, those units are counted that are not the same for all images.
        binarise: how the training made pixels 0 or 1, which the images here then are too; as in `judge_likelihoods`.
    """
    pixels = PIXELS[binarise]
    if binarise is not None:
        splits = {split: replace(x, images=binarised(x.images, binarise)) for split, x in splits.items()}

    def reconstruct(sample: torch.Tensor, *classes: torch.Tensor) -> torch.Tensor:
        asked = {"class_labels": classes[0]} if classes else {}
        return 2 * pipeline.reconstruct((sample + 1) / 2, output_type="pt", **asked).images.to(sample) - 1

    figures = []
    for split, images in splits.items():
        tell(f"reconstructions, {split}")
        labels = images.labels if is_conditional else None
        has_bounds = not images.images.is_floating_point()
        found = autoencoder.reconstruction(reconstruct, images.images, labels=labels, has_bounds=has_bounds)
        figures.append(Figure(f"reconstruction MSE{pixels}, {split}", "", *found.mse, ERROR, len(images)))
        if has_bounds:
            name = f"reconstruction PSNR in dB{pixels}, {split}"
            figures.append(Figure(name, "", found.psnr, None, "", len(images)))
    if not callable(getattr(pipeline, "encode", None)):
        return figures

    tell("codes")
    train, test = splits["train"], splits["test"]
    codes, test_codes = (codes_of(pipeline, images, is_conditional) for images in (train, test))
    if codes.shape[1] < train.images[0].numel():
        for split, images in splits.items():
            value = autoencoder.pca_error(train.images, images.images, codes.shape[1])
            name = f"MSE of PCA with {codes.shape[1]} components{pixels}, {split}"
            figures.append(Figure(name, "", value, None, "", len(images)))
    if has_posterior:
        figures.append(Figure("active units", "", autoencoder.active_units(test_codes), None, "", len(test)))
    else:
        varying = int((test_codes.amax(0) > test_codes.amin(0)).sum())
        figures.append(Figure("units that vary", "", varying, None, "", len(test)))
    if can_probe(train, test):
        classes, counts = train.labels.unique(return_counts=True)
        few = min(FEW // len(classes), int(counts.min())) * len(classes)  # as many of each class
        for labelled in (None, few) if few else (None,):
            tell(f"linear probe, {labelled or 'all'} labels")
            value, sd = autoencoder.linear_probe(codes, train.labels, test_codes, test.labels, labelled)
            spread, meaning = (sd, "sd over 5 draws of the labels") if labelled else (None, "")
            figures.append(Figure(f"linear probe, {labelled or 'all'} labels", "", value, spread, meaning, len(test)))
    return figures


def judge_likelihoods(
    vae: torch.nn.Module,
    splits: dict[str, Images],
    binarise: str | None,
    tell: Callable[[str], None] = lambda what: None,
    importance: tuple[int, int] = (IMPORTANCE_IMAGES, IMPORTANCE_SAMPLES),
) -> list[Figure]:
    """Returns the evidence lower bound of held-out images and its two terms, in nats an image, and the importance
    weighted bound, also in bits a dimension.

    Args:
        vae: has `encode(sample, class_labels)` -> mean and logvar, and `decode(latents, class_labels)`; its config has
            `likelihood`, `sigma` and `num_class_embeds`.
        binarise: how the training made pixels 0 or 1: "threshold" (above 1/2), "random" (here once, from seed 0, as
            the protocol says), or None: grey pixels, of which a Bernoulli has no likelihood, only soft targets.
        importance: images, the first ones of the test split, and samples an image, of the importance weighted bound.
    """
    is_bernoulli, is_conditional = vae.config["likelihood"] == "bernoulli", bool(vae.config["num_class_embeds"])
    device, pixels = next(vae.parameters()).device, PIXELS[binarise]
    if is_bernoulli and binarise is None:
        pixels = ", grey pixels as soft targets"

    def encode(sample: torch.Tensor, *classes: torch.Tensor) -> SimpleNamespace:
        mean, logvar = vae.encode(sample, *classes)
        return SimpleNamespace(mean=mean, logvar=logvar)

    def log_likelihood(latents: torch.Tensor, sample: torch.Tensor, *classes: torch.Tensor) -> torch.Tensor:
        decoded = vae.decode(latents, *classes)
        if is_bernoulli:
            return autoencoder.bernoulli_log_likelihood(decoded, sample, soft=binarise is None)
        return autoencoder.gaussian_log_likelihood(decoded, sample, vae.config["sigma"])

    figures = []
    for split in [split for split in splits if split != "train"]:
        tell(f"likelihood, {split}")
        images = splits[split].to(device)
        labels = images.labels if is_conditional else None
        shown = binarised(images.images, binarise)
        found = autoencoder.elbo(encode, log_likelihood, shown, torch.Generator().manual_seed(0), labels=labels)
        named = {"ELBO": found.elbo, "log p(x|z)": found.reconstruction, "KL": found.kl}
        for name, (value, spread) in named.items():
            figures.append(Figure(f"{name} in nats{pixels}, {split}", "", value, spread, ERROR, len(images)))
        if split == "test" and importance[0] and not (is_bernoulli and binarise is None):
            count, samples = importance
            tell(f"importance weighted bound, {samples:,} samples of {min(count, len(images)):,} images")
            bound = autoencoder.importance_weighted_bound(
                encode,
                log_likelihood,
                shown[:count],
                torch.Generator().manual_seed(0),
                samples,
                labels=None if labels is None else labels[:count],
            )
            for name, (value, spread) in (("nats", bound.nats), ("bits per dimension", bound.bits_per_dimension)):
                name = f"importance weighted bound in {name}, K = {samples:,}{pixels}, {split}"
                figures.append(Figure(name, "", value, spread, ERROR, min(count, len(images))))
    return figures


def binarised(images: torch.Tensor, how: str | None) -> torch.Tensor:
    """Returns uint8 images with pixels of 0 or 255, as a training did that had `how` for its `binarise`."""
    if how == "threshold":
        return (images > 127).to(torch.uint8) * 255
    return images if how is None else autoencoder.binarise(images)


def codes_of(
    pipeline: DiffusionPipeline, images: Images, is_conditional: bool = False, batch_size: int = 250
) -> torch.Tensor:
    """Returns the codes of `images`, (N, L)."""
    parts = []
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        sample = (to_model_range(part.images) + 1) / 2
        asked = {"class_labels": part.labels} if is_conditional else {}
        parts.append(pipeline.encode(sample, **asked).flatten(1).float().cpu())
    return torch.cat(parts)
