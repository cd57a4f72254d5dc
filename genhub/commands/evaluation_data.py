"""The data that an evaluation compares with, and the folder that its results go to."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from genhub import data
from genhub.commands.subject import Subject
from genhub.evaluation import protocol
from genhub.recipes.recipe import Recipe
from genhub.repository.metrics import read_metrics
from genhub.utils.files import expanded
from genhub.utils.locks import check_unlocked
from genhub.utils.reading import read_text


def check_target(target: Path, subject: Subject) -> None:
    """Raises ValueError if a folder cannot be written, holds the images, is in use, or has results of another
    repository."""
    existing = next(path for path in [target, *target.absolute().parents] if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"The folder {target} cannot be written; `output` names another one.")
    if subject.images is not None and target.resolve().is_relative_to(expanded(subject.source).resolve()):
        raise ValueError(f"`output` must lie outside the folder of the images, got {target}.")
    check_unlocked(target)
    if (target / "metrics.json").is_file():
        evaluations = read_metrics(target / "metrics.json").get("evaluations", [])
        if any(evaluation["repository"] != subject.key for evaluation in evaluations):
            raise ValueError(f"The folder {target} holds the evaluation of another repository.")


def read_newest(name: str, *folders: Path | None) -> str | None:
    """Returns the text of a document in the first of some folders that has it."""
    paths = (folder / name for folder in folders if folder is not None)
    return next((read_text(path) for path in paths if path.is_file()), None)


def metrics_of(*folders: Path | None) -> dict[str, Any]:
    """Returns the metrics.json of the first of some folders that has one."""
    folder = next((folder for folder in folders if folder is not None and (folder / "metrics.json").is_file()), None)
    return {} if folder is None else read_metrics(folder / "metrics.json")


def load_splits(recipe: Recipe | None, data_source: str | None) -> tuple[data.DataConfig, dict[str, data.Images]]:
    """Loads the data to compare with, by split: the recipe's, or others, split as the protocol demands."""
    config = data.DataConfig() if recipe is None else config_of(recipe)
    if data_source is not None:
        config = replace(config, source=data_source, val_size=0, labelled=None)
    splits = {split: load_images(config, split) for split in ("train", "test")}
    train = splits["train"]
    if data_source is not None and len(train) == 60_000 and protocol.is_fashion_mnist(train.images):
        splits["train"] = train[:55_000]
    if config.has_val:
        splits["val"] = load_images(config, "val")
    return config, splits


def config_of(recipe: Recipe) -> data.DataConfig:
    """Returns the data of a recipe: images as they are."""
    return replace(recipe.data, padding=0, captions=recipe.data.caption_column, encode=None, standardise=False)


def load_images(config: data.DataConfig, split: str) -> data.Images:
    images = data.load_whole(config, split)
    if not isinstance(images, data.Images):
        raise ValueError(f"`data.memory_limit_gb` must be enough for {config.source}, got {config.memory_limit_gb}.")
    return images
