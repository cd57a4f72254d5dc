"""Loads a data set as a recipe describes it: into memory, or decoded while training.

The order of training is a function of (seed, epoch), and batches follow one another through an endless stream of
shuffled epochs, so one position says where training stands. Nothing is dropped; a batch may span two epochs.
"""

from collections.abc import Callable, Container, Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from genhub.data.augmentation import Augmentation
from genhub.data.columns import check_text_column, find_columns, names_of_classes, possible_labels, to_labels
from genhub.data.config import DataConfig
from genhub.data.decode import decode_cached, fit
from genhub.data.idx import idx_files, read_idx
from genhub.data.image_files import read_archive
from genhub.data.images import Images
from genhub.data.lazy import Lazy
from genhub.data.points import Points, points
from genhub.data.sources import count_images, disable_decoding, open_splits, read_column, source_folder
from genhub.data.splits import held_out, is_benchmark, rows_of, stratified_order

SPLITS = ("train", "val", "test")
COLUMN_FIELDS = ("image_column", "label_column")  # of a configuration


@dataclass(frozen=True)
class Source:
    """The files of a data set.

    Args:
        splits: of which there are files.
        read: reads the file of a split.
        is_mixed: the last images of the training file are the ones to hold out, whatever they are.
    """

    splits: Container[str]
    read: Callable[[str], Images | Lazy]
    is_mixed: bool = False


def load(config: DataConfig, split: str = "train") -> Images | Lazy:
    """Loads a split: "train" (without what is held out, or the `labelled` images among it), "val" or "test".

    Images for which there is no file are held out of the training file: of each class its share, drawn by a fixed
    seed; of Fashion MNIST, MNIST, `sample`, idx files and a stream, the last ones.

    Raises:
        ValueError: the source does not exist, cannot be read or reached, is empty, or its images differ in shape.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be train, val or test, got {split!r}.")
    source = _open(config)
    if split == "test" and "test" in source.splits:
        data = source.read("test")
    elif split == "val" and "val" in source.splits and config.val_size is None:
        data = source.read("val")
    else:
        data = _held_out(split, source, config)
    if split == "val" and isinstance(data, Lazy):
        data = data.load()  # small, and used again and again
    if split == "train" and config.labelled is not None:
        if isinstance(data, Lazy):
            raise ValueError("`data.labelled` must be left out of data that are decoded while training.")
        data = data.draw_labelled(config.labelled, config.label_draw)
    if config.padding:
        data = _pad(data, config.padding)
    return _with_augmentation(data, config) if split == "train" else data


def load_whole(config: DataConfig, split: str) -> Images | Lazy:
    """Loads a split as `load` does, a stream into memory: the same images as in training."""
    data = load(config, split)
    return data.load() if isinstance(data, Lazy) and config.streaming else data


def _held_out(split: str, source: Source, config: DataConfig) -> Images | Lazy:
    """Takes a split of the training file."""
    data = source.read("train")
    val, test = held_out(config, len(data), "val" in source.splits, "test" in source.splits)
    if split == "val" and not val:
        raise ValueError("`data.val_size` must be above 0 for the split val, got 0.")
    if split == "test" and not test:
        raise ValueError(
            f"The data set {config.source} has no split 'test', and `data.test_size`, {config.test_size}, holds out "
            f"none of its {len(data)} images."
        )
    if split == "train" and test:
        data = copy(data)
        data.notes = (*data.notes, f"{test:,} images are held out for the test.")
    if source.is_mixed:
        return data[rows_of(split, val, test, torch.arange(len(data)))]
    labels = data.all_labels() if isinstance(data, Lazy) else data.labels
    has_order = is_benchmark(data.class_names, labels)
    order = torch.arange(len(data)) if has_order else stratified_order(labels, len(data))
    return data[rows_of(split, val, test, order)]


def _with_augmentation(data: Images | Lazy, config: DataConfig) -> Images | Lazy:
    """Adds the random changes of training images."""
    if not (config.random_flip or config.random_crop):
        return data
    if isinstance(data, Points):
        raise ValueError("`data.random_flip` and `data.random_crop` must be left out of points.")
    fill = {"black": -1.0, "white": 1.0}[config.background]
    data = copy(data)
    data.augmentation = Augmentation(config.random_flip, config.random_crop, fill)
    return data


def _pad(data: Images | Lazy, padding: int) -> Images:
    """Puts black pixels around each image."""
    if not isinstance(data, Images) or isinstance(data, Points):
        raise ValueError("`data.padding` must be left out of points, and of data that are decoded while training.")
    return replace(data, images=F.pad(data.images, (padding, padding, padding, padding)))


def _open(config: DataConfig) -> Source:
    """Opens the data set that a configuration names."""
    from datasets import IterableDataset

    folder = source_folder(config)
    has_columns = False
    if config.source == "points":
        source = Source(("train", "test"), lambda split: Points(points(split)), is_mixed=True)
    elif files := idx_files(folder):
        source = Source(files, lambda split: _load_idx(*files[split], config), is_mixed=True)
    elif folder.suffix == ".npz" and folder.is_file():
        arrays = read_archive(folder, config.memory_limit_gb)
        source = Source(arrays, lambda split: _fit(arrays[split], config))
    else:
        has_columns = True
        splits = open_splits(config)
        is_stream = isinstance(splits["train"], IterableDataset)
        if config.streaming and not is_stream:  # a folder of images, whose order is known
            config = replace(config, streaming=False, memory_limit_gb=0)
        is_mixed = is_stream or config.source == "sample"
        source = Source(splits, lambda split: _load_dataset(splits, split, config), is_mixed)
    for field, given in (("captions", config.caption_column), *((n, getattr(config, n)) for n in COLUMN_FIELDS)):
        if given is not None and not has_columns:
            known = "templates" if field == "captions" else "left out"
            raise ValueError(f"`data.{field}` must be {known}: {config.source} has no columns, got {given!r}.")
    return source


def _load_dataset(splits: Mapping[str, Any], split: str, config: DataConfig) -> Images | Lazy:
    """Reads a split of `datasets` into memory, if it fits."""
    dataset = splits[split]
    features = dataset.features or {}  # a stream of files that hold no images may not know its features
    image, label = find_columns(features, config)
    if config.caption_column is not None:
        check_text_column(features, config.caption_column)
    class_names = names_of_classes(splits.values(), label, config)
    dataset = disable_decoding(dataset, image)
    length = count_images(dataset, image, source_folder(config), config)
    if not length:
        raise ValueError(f"The data set {config.source} has no image in its split {split}.")

    lazy = Lazy(dataset, length, (image, label), config, class_names)
    memory = length * lazy.shape.channels * lazy.shape.height * lazy.shape.width  # bytes
    if config.streaming or memory > config.memory_limit_gb * 2**30:
        if config.on_bad_image == "skip":
            raise ValueError("`data.on_bad_image` must be error for data that are decoded while training.")
        return lazy
    table = dataset.with_format("arrow")[:]

    def describe(index: int) -> str:
        cell = table[image][index].as_py() or {}
        return f"Image {index} ({cell.get('path') or 'without a name'}) of {config.source}"

    labels = None if label is None else to_labels(table[label].to_pylist(), class_names, config.source, label)
    decoded = decode_cached(read_column(table[image], config), config, describe)
    captions = None
    if config.caption_column is not None:
        captions = np.array([text or "" for text in table[config.caption_column].to_pylist()], dtype=object)
    notes = decoded.notes(config)
    if label is None and (possible := possible_labels(features, config)):
        notes += (f"No column is taken for classes; `data.label_column` can name one of {', '.join(possible)}.",)
    images = Images(decoded.images, None, class_names, notes=notes)
    return replace(
        images,
        labels=None if labels is None else labels[decoded.kept],
        captions=None if captions is None else captions[decoded.kept.numpy()],
    )


def _load_idx(image_file: Path, label_file: Path, config: DataConfig) -> Images:
    """Reads images and labels in the format of MNIST (LeCun)."""
    images = read_idx(image_file, 3, config.memory_limit_gb)  # (N, H, W)
    labels = torch.from_numpy(read_idx(label_file, 1, config.memory_limit_gb)).long()
    if len(images) != len(labels):
        raise ValueError(f"{image_file} holds {len(images)} images, {label_file} {len(labels)} labels.")
    if not len(images):
        raise ValueError(f"{image_file} holds no image.")
    return _fit(Images(torch.from_numpy(images)[:, None], labels), config)


def _fit(images: Images, config: DataConfig) -> Images:
    """Brings images that were no files to the size and the channels that are asked for."""
    channels, height, width = images.images.shape[1:]
    if config.channels in (None, channels) and config.size in (None, height) and config.size in (None, width):
        return images
    arrays = images.images.permute(0, 2, 3, 1).squeeze(-1).numpy()  # (N, H, W) or (N, H, W, C)
    converted = [fit(Image.fromarray(array), config.size, config.channels or channels) for array in arrays]
    return replace(images, images=torch.from_numpy(np.stack(converted)))
