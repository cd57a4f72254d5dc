"""Figures of an autoencoder: a pipeline with `reconstruct(image, output_type)` and perhaps `encode(image)`."""

import importlib.util
from collections.abc import Callable

import torch
from diffusers import DiffusionPipeline

from genhub.data import Images
from genhub.evaluation.autoencoder import active_units, linear_probe, reconstruction
from genhub.evaluation.yardstick import Figure

FEW = 500  # labels of a linear probe that has few


def check_probes(train: Images, test: Images):
    """Refuses to begin where the linear probes at the end would need a package that is not there."""
    if train.labels is not None and test.labels is not None and importlib.util.find_spec("sklearn") is None:
        raise ValueError("Linear probes of the codes need scikit-learn: `pip install genhub[eval]`.")


def judge_reconstructions(
    pipeline: DiffusionPipeline, splits: dict[str, Images], tell: Callable[[str], None] = lambda what: None
) -> list[Figure]:
    """Returns error and PSNR on every one of `splits` (with "train" and "test"), active units of the codes, and the
    accuracy of linear probes on them where the images have labels."""

    def reconstruct(sample: torch.Tensor) -> torch.Tensor:
        return 2 * pipeline.reconstruct((sample + 1) / 2, output_type="pt").images.to(sample) - 1

    figures = []
    for split, images in splits.items():
        tell(f"reconstructions, {split}")
        found = reconstruction(reconstruct, images.images)
        error = "standard error over images"
        figures.append(Figure(f"reconstruction MSE, {split}", "", *found.mse, error, len(images)))
        figures.append(Figure(f"reconstruction PSNR in dB, {split}", "", found.psnr, None, "", len(images)))
    if not callable(getattr(pipeline, "encode", None)):
        return figures

    tell("codes")
    train, test = splits["train"], splits["test"]
    codes, test_codes = (codes_of(pipeline, images.images) for images in (train, test))
    figures.append(Figure("active units", "", active_units(test_codes), None, "", len(test)))
    if train.labels is not None and test.labels is not None:
        classes, counts = train.labels.unique(return_counts=True)
        few = min(FEW // len(classes), int(counts.min())) * len(classes)  # as many of each class
        for labelled in (None, few):
            tell(f"linear probe, {labelled or 'all'} labels")
            value, sd = linear_probe(codes, train.labels, test_codes, test.labels, labelled)
            spread, meaning = (sd, "sd over 5 draws of the labels") if labelled else (None, "")
            figures.append(Figure(f"linear probe, {labelled or 'all'} labels", "", value, spread, meaning, len(test)))
    return figures


def codes_of(pipeline: DiffusionPipeline, images: torch.Tensor, batch_size: int = 250) -> torch.Tensor:
    """Returns the codes of uint8 `images`, (N, L)."""
    parts = [pipeline.encode(part / 255).flatten(1).float().cpu() for part in images.split(batch_size)]
    return torch.cat(parts)
