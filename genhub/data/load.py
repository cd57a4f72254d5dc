"""Loads a data set as a recipe describes it: into memory, or decoded while training.

The order of training is a function of (seed, epoch), and batches follow one another through an endless stream of
shuffled epochs, so one position says where training stands. Nothing is dropped; a batch may span two epochs.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from genhub.data.config import DataConfig
from genhub.data.decode import decode_cached, fit
from genhub.data.idx import idx_files, read_idx
from genhub.data.images import Images
from genhub.data.lazy import Lazy
from genhub.data.points import Points, points
from genhub.data.sources import (
    check_text_column,
    count_images,
    disable_decoding,
    find_columns,
    open_dataset,
    read_column,
    source_folder,
)
from genhub.utils.randomness import keyed_generator


def load(config: DataConfig, split: str = "train") -> Images | Lazy:
    """Loads a split: "train" (the training file without its last `val_size` images, or the `labelled` ones among
    them), "val" (those last images) or "test". A file that goes from class to class is shuffled first, unless
    it is a stream.

    Raises:
        ValueError: the source does not exist, cannot be read or reached, is empty, or its images differ in shape.
    """
    if split not in ("train", "val", "test"):
        raise ValueError(f"`split` must be train, val or test, got {split!r}.")
    file_split = "test" if split == "test" else "train"
    folder = source_folder(config)
    paths = None if config.source == "points" else idx_files(folder, file_split)
    if config.source != "points" and paths is None:
        data = _load_dataset(folder, file_split, config)
    elif config.caption_column is not None:
        raise ValueError(
            f"`data.captions` must be templates: {config.source} has no columns, got {config.captions!r}."
        )
    else:
        data = Points(points(file_split)) if paths is None else _load_idx(*paths, config)
    data = data if split == "test" else _train_or_val(data, split, config)
    return _pad(data, config.padding) if config.padding else data


def _train_or_val(data: Images | Lazy, split: str, config: DataConfig) -> Images | Lazy:
    """Takes the training or the validation part of the training file."""
    total, val_size = len(data), config.val_size
    if split == "val" and not val_size:
        raise ValueError("`data.val_size` must be above 0 for the split val, got 0.")
    if val_size >= total:
        raise ValueError(f"`data.val_size` must be below the {total} images of the split train, got {val_size}.")
    if split == "val":
        part = data[total - val_size :]
        return part.load() if isinstance(part, Lazy) else part  # small, and used again and again
    part = data[: total - val_size]
    if config.labelled is None:
        return part
    if isinstance(part, Lazy):
        raise ValueError("`data.labelled` must be left out of data that are decoded while training.")
    return part.draw_labelled(config.labelled, config.label_draw)


def _pad(data: Images | Lazy, padding: int) -> Images:
    """Puts black pixels around each image."""
    if not isinstance(data, Images) or isinstance(data, Points):
        raise ValueError("`data.padding` must be left out of points, and of data that are decoded while training.")
    return replace(data, images=F.pad(data.images, (padding, padding, padding, padding)))


def _load_dataset(folder: Path, split: str, config: DataConfig) -> Images | Lazy:
    """Opens a split by `datasets`, and reads it into memory if it fits."""
    dataset = open_dataset(folder, split, config)
    features = dataset.features or {}  # a stream of files that hold no images may not know its features
    image, label = find_columns(features, config.source)
    if config.caption_column is not None:
        check_text_column(features, config.caption_column)
    class_names = None if label is None else getattr(features[label], "names", None)
    class_names = tuple(class_names) if class_names else None
    dataset = disable_decoding(dataset, image)
    if split == "train" and config.val_size and label and not config.streaming:
        dataset = _mix_classes(dataset, label)
    length = count_images(dataset, image, folder, config)
    if not length:
        raise ValueError(f"The data set {config.source} has no image in its split {split}.")

    lazy = Lazy(dataset, length, (image, label), config, class_names)
    memory = length * lazy.shape.channels * lazy.shape.height * lazy.shape.width  # bytes
    if config.streaming or memory > config.memory_limit_gb * 2**30:
        return lazy
    table = dataset.with_format("arrow")[:]
    if label is not None and table[label].null_count:
        raise ValueError(f"{config.source} has images without a label: its column {label} has gaps.")
    labels = None if label is None else torch.from_numpy(table[label].to_numpy().astype(np.int64))

    def describe(index: int) -> str:
        cell = table[image][index].as_py() or {}
        return f"Image {index} ({cell.get('path') or 'without a name'}) of {config.source}"

    images = Images(decode_cached(read_column(table[image]), config, describe), labels, class_names)
    if config.caption_column is None:
        return images
    texts = [text or "" for text in table[config.caption_column].to_pylist()]
    return replace(images, captions=np.array(texts, dtype=object))


def _mix_classes(dataset: Any, label: str) -> Any:
    """Shuffles a data set that goes from class to class, as folders of classes do: its end would be of one class."""
    labels = dataset.with_format("numpy")[label][:]
    changes = np.count_nonzero(np.diff(labels))
    if not 0 < changes < len(labels) / 10:
        return dataset
    return dataset.select(torch.randperm(len(labels), generator=keyed_generator("order of images")).numpy())


def _load_idx(image_file: Path, label_file: Path, config: DataConfig) -> Images:
    """Reads images and labels in the format of MNIST (LeCun)."""
    images = read_idx(image_file, 3)  # (N, H, W)
    labels = torch.from_numpy(read_idx(label_file, 1)).long()
    if len(images) != len(labels):
        raise ValueError(f"{image_file} holds {len(images)} images, {label_file} {len(labels)} labels.")
    if not len(images):
        raise ValueError(f"{image_file} holds no image.")
    if config.channels != 3 and (config.size is None or images.shape[1:] == (config.size, config.size)):
        return Images(torch.from_numpy(images)[:, None], labels)
    converted = [fit(Image.fromarray(image), config.size, config.channels or 1) for image in images]
    return Images(torch.from_numpy(np.stack(converted)), labels)
