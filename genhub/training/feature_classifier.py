"""Classifiers trained for evaluation, by our own loop: the feature net of a data set that is not Fashion MNIST, and
those of the classification accuracy score."""

import dataclasses
from pathlib import Path

import torch
from accelerate import Accelerator

from genhub.data import DataConfig, Images
from genhub.evaluation.features import ClassifierSpace, pinned_spaces
from genhub.evaluation.protocol import is_fashion_mnist
from genhub.recipes.recipe import find_recipe
from genhub.repository.load import download
from genhub.training.run import train
from genhub.utils.cache import cache_folder, content_hash

RECIPE = "feature-classifier"


def feature_spaces(
    images: Images, config: DataConfig, feature_net: str | None, accelerator: Accelerator
) -> list[ClassifierSpace]:
    """Returns the classifiers' spaces for a data set: those of the protocol for Fashion MNIST, that of `feature_net`
    (a folder or repository of the recipe `feature-classifier`), or of one that is trained on its training `images`.

    Raises:
        ValueError: there is no such net, the images have no labels to train one on, or several processes would.
    """
    device = accelerator.device
    if feature_net is not None:
        return [ClassifierSpace.load("clf", download(feature_net) / "classifier", device)]
    if is_fashion_mnist(images.images):
        return list(pinned_spaces(device))
    if images.labels is None:
        raise ValueError(
            f"{config.source} has no labels to train a feature net on; give one that fits its images (`feature_net`)."
        )
    given = {f"data.{key}": value for key, value in dataclasses.asdict(config).items() if key != "streaming"}
    given |= {"data.val_size": 0, "training.batch_size": min(256, len(images))}
    return [ClassifierSpace.load("clf", trained(images, given, accelerator.num_processes) / "classifier", device)]


def hits_after_training(images: Images, test: Images, epochs: float = 10) -> torch.Tensor:
    """Returns which of the `test` images a classifier names right that was trained on `images`, bool (N,)."""
    source = cache_folder() / "labelled" / content_hash(images.images, images.labels)
    if not source.is_dir():
        write_parquet(images, source)
    given = {
        "data.source": str(source),
        "data.val_size": 0,
        "training.epochs": epochs,
        "training.batch_size": min(256, len(images)),
    }
    space = ClassifierSpace.load("cas", trained(images, given) / "classifier")
    return space.probabilities(space(test.images)).argmax(1) == test.labels


def trained(images: Images, given: dict, processes: int = 1) -> Path:
    """Returns the repository of a classifier trained on `images`, in the cache; what was stopped goes on.

    Raises:
        ValueError: several processes were launched, which would have to train it together.
    """
    key = content_hash(images.images, images.labels, find_recipe(RECIPE).read_text(), repr(sorted(given.items())))
    folder = cache_folder() / "classifiers" / key
    if not (folder / "model_index.json").is_file():
        if processes > 1:
            raise ValueError(
                "A feature net has to be trained first, on one process: run `genhub evaluate` once without "
                "`accelerate launch`, or give `feature_net`."
            )
        print(f"Training a classifier on {len(images):,} images of {given['data.source']}, once, into {folder}.")
        train(RECIPE, folder, resume=(folder / "recipe.yaml").is_file(), overrides=given)
    return folder


def write_parquet(images: Images, folder: Path):
    """Writes `images` as the training split of a data set in the Hub's layout."""
    from datasets import ClassLabel, Dataset, Features, Image, Value

    names = images.class_names
    features = Features({"image": Image(), "label": ClassLabel(names=list(names)) if names else Value("int64")})
    arrays = images.images.permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    rows = {"image": [array.squeeze(-1) if array.shape[-1] == 1 else array for array in arrays]}
    dataset = Dataset.from_dict(rows | {"label": images.labels.tolist()}, features)
    scratch = folder.with_suffix(".part")
    scratch.mkdir(parents=True, exist_ok=True)
    dataset.to_parquet(str(scratch / "train-00000-of-00001.parquet"))
    scratch.replace(folder)
