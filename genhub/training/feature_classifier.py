"""Classifiers trained for evaluation: the feature net of data other than Fashion MNIST, and those of the
classification accuracy score."""

import dataclasses
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from genhub.data import DataConfig, Images
from genhub.evaluation.features import ClassifierSpace, pinned_spaces
from genhub.evaluation.protocol import is_fashion_mnist
from genhub.recipes.find import find_recipe
from genhub.repository.download import download
from genhub.training.run import train
from genhub.utils.cache import cache_folder, content_hash
from genhub.utils.files import new_folder

RECIPE = "feature-classifier"
GENERATOR_KEYS = (
    "caption_length",
    "captions",
    "padding",
    "random_crop",
    "random_flip",
    "standardise",
    "streaming",
)  # keys of `data` that a classifier does without


def feature_spaces(
    images: Images, config: DataConfig, feature_net: str | None, accelerator: Accelerator
) -> list[ClassifierSpace]:
    """Returns the feature spaces for training `images`: of `feature_net`, a folder or repository of the recipe
    `feature-classifier`, if given; of the protocol for Fashion MNIST; else of a classifier trained on the images.

    Raises:
        ValueError: there is no such net, or one cannot be trained: the images have no labels, or there are several
            processes.
    """
    device = accelerator.device
    if feature_net is not None:
        return [ClassifierSpace.load("clf", download(feature_net) / "classifier", device)]
    if is_fashion_mnist(images.images):
        return list(pinned_spaces(device))
    if images.labels is None:
        raise ValueError(
            f"{config.source} has no labels to train a feature net on; `feature_net` names one for such images."
        )
    overrides = {
        f"data.{key}": value for key, value in dataclasses.asdict(config).items() if key not in GENERATOR_KEYS
    }
    overrides |= {"data.val_size": 0, "training.batch_size": min(256, len(images))}
    folder = train_classifier(images, overrides, accelerator.num_processes)
    return [ClassifierSpace.load("clf", folder / "classifier", device)]


def classifies_correctly(images: Images, test: Images, epochs: float = 10, least: int = 10_000) -> torch.Tensor:
    """Returns whether a classifier trained on `images` is right about each of the `test` images, bool (N,).

    Args:
        least: fewer images than these are met more often, so that training has as many steps.
    """
    source = cache_folder() / "labelled" / content_hash(images.images, labels_of(images))
    if not source.is_dir():
        write_parquet(images, source)
    overrides = {
        "data.source": str(source),
        "data.val_size": 0,
        "data.test_size": 0,
        "training.epochs": epochs * least / len(images) if len(images) < least else epochs,
        "training.batch_size": min(256, len(images)),
    }
    space = ClassifierSpace.load("cas", train_classifier(images, overrides) / "classifier")
    return space.probabilities(space(test.images)).argmax(1) == test.labels


def train_classifier(images: Images, overrides: dict[str, object], processes: int = 1) -> Path:
    """Trains a classifier on `images`, or resumes its training, and returns its repository in the cache.

    Args:
        overrides: of the recipe.

    Raises:
        ValueError: it is not trained yet, and there are several processes.
    """
    key = content_hash(
        images.images,
        labels_of(images),
        find_recipe(RECIPE).read_text(encoding="utf-8"),
        repr(sorted(overrides.items())),
    )
    folder = cache_folder() / "classifiers" / key
    if not (folder / "model_index.json").is_file():
        if processes > 1:
            raise ValueError(
                "A feature net must be trained first, on one process: run `genhub evaluate` once without "
                "`accelerate launch`, or give `feature_net`."
            )
        told = f"Training a classifier on {len(images):,} images of {overrides['data.source']}, once, into {folder}."
        print(told, file=sys.stderr)
        train(RECIPE, folder, auto_resume=True, overrides=overrides)
    return folder


def write_parquet(images: Images, folder: Path) -> None:
    """Writes `images` as the training split of a data set in the Hub's layout."""
    from datasets import ClassLabel, Dataset, Features, Image, Value

    names = images.class_names
    features = Features({"image": Image(), "label": ClassLabel(names=list(names)) if names else Value("int64")})
    arrays = images.images.permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    rows = {"image": [array.squeeze(-1) if array.shape[-1] == 1 else array for array in arrays]}
    dataset = Dataset.from_dict(rows | {"label": labels_of(images).tolist()}, features)
    try:
        with new_folder(folder) as scratch:
            dataset.to_parquet(str(scratch / "train-00000-of-00001.parquet"))
    except OSError:
        if not folder.is_dir():  # by another process
            raise


def labels_of(images: Images) -> torch.Tensor:
    """Returns the labels of a data set, (N,).

    Raises:
        ValueError: it has none, so that no classifier can be trained on it.
    """
    if images.labels is None:
        raise ValueError("The images must have labels to train a classifier on, got none.")
    return images.labels
