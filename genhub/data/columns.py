"""Which columns of a data set hold the images, their classes and their captions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from genhub.data.config import DataConfig
from genhub.data.image_folder import FOLDER_COLUMN, natural_key
from genhub.utils.spelling import did_you_mean

MOST_CLASSES = 65_536  # where classes have no names
LABEL_COLUMNS = ("label", "labels", "class", "target", FOLDER_COLUMN)  # where no column is declared to hold classes


def find_columns(features: Mapping[str, Any], config: DataConfig) -> tuple[str, str | None]:
    """Returns the names of the image column and of the label column, None if there are no labels.

    Raises:
        ValueError: there is no image column, or several columns are of images or of labels and the configuration names
            none of them.
    """
    from datasets import ClassLabel, Image

    images = [name for name, kind in features.items() if isinstance(kind, Image)]
    if not images:
        others = f", only {', '.join(features)}" if features else ""
        raise ValueError(f"The data set {config.source} has no image column{others}.")
    image = _choose("image_column", config.image_column, images, images)
    assert image is not None
    if config.label_column == "none":
        return image, None
    usable = [name for name, kind in features.items() if _can_be_label(kind)]
    likely = [name for name in usable if isinstance(features[name], ClassLabel) or name in LABEL_COLUMNS]
    return image, _choose("label_column", config.label_column, usable, likely)


def possible_labels(features: Mapping[str, Any], config: DataConfig) -> list[str]:
    """Returns the columns that could hold classes, none if a configuration wants none."""
    if config.label_column is not None:
        return []
    return [name for name, kind in features.items() if _can_be_label(kind) and name != config.caption_column]


def _choose(field: str, named: str | None, known: Sequence[str], likely: Sequence[str]) -> str | None:
    """Returns the column that is named, or the only likely one, or None if there is none."""
    if named is not None and named not in known:
        raise ValueError(f"`data.{field}` must be {_either(known)}, got {named!r}{did_you_mean(named, known)}.")
    if named is None and len(likely) > 1:
        raise ValueError(f"`data.{field}` must say which column to take: {_either(likely)}.")
    return named or next(iter(likely), None)


def _can_be_label(kind: Any) -> bool:
    from datasets import ClassLabel, Value

    whole = ("int", "uint", "bool", "string", "large_string")
    return isinstance(kind, ClassLabel) or (isinstance(kind, Value) and kind.dtype.startswith(whole))


def _either(names: Sequence[str]) -> str:
    return " or ".join(names) if names else "left out: no column can be that"


def names_of_classes(splits: Iterable[Any], label: str | None, config: DataConfig) -> tuple[str, ...] | None:
    """Returns the names of the classes: the declared ones, or the words of a label column in natural order.

    Raises:
        ValueError: a declared name is no text, or the labels are words of a stream, which is not read before training.
    """
    splits = [split for split in splits if label in (split.features or {})]
    feature = splits[0].features[label] if splits else None
    if feature is None:
        return None
    if names := getattr(feature, "names", None):
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise ValueError(f"The names of the classes in the column {label} must be texts, got {wrong[0]!r}.")
        return tuple(names)
    if not feature.dtype.endswith("string"):
        return None
    if config.streaming:
        raise ValueError(
            f"`data.streaming` must be off: the labels in {label} are words, which would have to be read."
        )
    words = {word for split in splits for word in split.unique(label) if word is not None}
    return tuple(sorted(words, key=natural_key))


def to_labels(
    values: Sequence[Any], class_names: Sequence[str] | None, source: str, column: str, is_batch: bool = False
) -> torch.Tensor:
    """Returns the cells of a label column as numbers, int64 (N,).

    Args:
        is_batch: the values are not the whole column.

    Raises:
        ValueError: a cell is empty, or no number of a class.
    """
    if any(value is None for value in values):
        raise ValueError(f"{source} has images without a label: its column {column} has gaps.")
    if class_names and values and isinstance(values[0], str):
        numbers = {name: number for number, name in enumerate(class_names)}
        values = [numbers[value] for value in values]
    check_labels(
        values, len(class_names) if class_names else MOST_CLASSES, f"The column {column} of {source}", is_batch
    )
    return torch.tensor(values, dtype=torch.long)


def check_labels(values: Sequence[int], classes: int, source: str, is_batch: bool = False) -> None:
    """Raises ValueError if a label is not one of `classes` numbers; -1, by which `datasets` means "none", is not."""
    if len(values) and not 0 <= min(values) <= max(values) < classes:
        row, wrong = next((row, value) for row, value in enumerate(values) if not 0 <= value < classes)
        hint = "; `data.label_column: none` trains without classes" if wrong == -1 else ""
        place = "" if is_batch else f" in row {row}"
        raise ValueError(f"{source} must hold labels of 0 to {classes - 1}, got {wrong}{place}{hint}.")


def check_text_column(features: Mapping[str, Any], column: str) -> None:
    """Raises ValueError if `column` is none of texts."""
    from datasets import Value

    texts = [name for name, kind in features.items() if isinstance(kind, Value) and kind.dtype.endswith("string")]
    if column not in texts:
        found = f"a column of texts ({', '.join(texts)})" if texts else "left out: there is no column of texts"
        raise ValueError(f"`data.captions` must be templates or {found}, got {column!r}{did_you_mean(column, texts)}.")
