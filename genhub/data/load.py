"""Any `datasets` image data set -> uint8 images -> batches in [-1, 1].

Order is a function of (seed, epoch), and batches follow one another through an endless stream of shuffled epochs, so a
place in the data is one position, or two integers: epoch and offset. Nothing is dropped; a batch may span two epochs.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genhub.data.config import DataConfig
from genhub.data.decode import decode_cached, fit
from genhub.data.encoded import Encoded, paths
from genhub.data.idx import idx_files, read_idx
from genhub.data.images import Images
from genhub.data.lazy import Lazy
from genhub.data.points import points
from genhub.data.sources import find_columns, one_clear_error, open_dataset

SAMPLE = Path(__file__).parent.parent / "sample"


def load(config: DataConfig, split: str = "train") -> Images | Lazy:
    """Returns `split`: "train" (all but the last `val_size` of the training file, or what `labelled` draws of it),
    "val" (those) or "test".

    Raises:
        ValueError: the source does not exist, cannot be read or reached, is empty, or its images do not fit together.
    """
    if split not in ("train", "val", "test"):
        raise ValueError(f"`split` must be train, val or test, got {split!r}.")
    file_split = "test" if split == "test" else "train"
    if config.source == "points":
        everything = Images(points(file_split))
        return everything if split == "test" else _cut(everything, split, config)
    folder = source_folder(config)
    if (idx := idx_files(folder, file_split)) is not None:
        everything = _load_idx(*idx, config)
    else:
        everything = _load_dataset(folder, file_split, config)
    if split == "test":
        return everything
    return _cut(everything, split, config)


def source_folder(config: DataConfig) -> Path:
    """Returns the folder that `config.source` names; one that does not exist may be a Hub id."""
    return SAMPLE if config.source == "sample" else Path(config.source).expanduser()


def _cut(everything: Images | Lazy, split: str, config: DataConfig) -> Images | Lazy:
    """Returns the part of the training file that `split` names."""
    total, val_size = len(everything), config.val_size
    draws = split == "train" and config.labelled is not None
    if split == "val" and not val_size:
        raise ValueError("`data.val_size` must be above 0 for the split val, got 0.")
    if val_size >= total:
        raise ValueError(f"`data.val_size` must be below the {total} images of the split train, got {val_size}.")
    keep = slice(total - val_size, total) if split == "val" else slice(0, total - val_size)
    if isinstance(everything, Images):
        return everything[keep].draw_labelled(config.labelled, config.label_draw) if draws else everything[keep]
    if draws:
        raise ValueError("`data.labelled` must be left out of data that are decoded while training.")
    rows, count = everything.rows, keep.stop - keep.start
    if not everything.config.streaming:
        part = rows.select(range(keep.start, keep.stop))
    else:
        part = rows.skip(keep.start) if split == "val" else rows.take(count)
    if split == "val":  # small, and looked at again and again
        return everything.to_images(list(part))
    return Lazy(part, count, everything.columns, everything.config, everything.class_names)


def _load_dataset(folder: Path, split: str, config: DataConfig) -> Images | Lazy:
    """Reads a split by `datasets`, into memory if it fits."""
    import datasets  # slow to import, and not needed for idx files

    dataset = open_dataset(folder, split, config)
    image, label = find_columns(dataset.features, config.source)
    class_names = tuple(getattr(dataset.features[label], "names", None) or ()) or None if label else None
    if config.streaming:
        dataset = dataset.decode(False)  # a cast would not undo the decoding that image files of the Hub come with
        info = (dataset.info.splits or {}).get(split)
        length = info.num_examples if info else None
        if length is None and folder.exists():
            with one_clear_error(folder, config):
                length = sum(len(rows[image]) for rows in dataset.iter(1000))
        if length is None:
            raise ValueError(f"`data.streaming` must be off: {config.source} does not say how many images it has.")
    else:
        dataset = dataset.cast_column(image, datasets.Image(decode=False))
        length = len(dataset)
    if not length:
        raise ValueError(f"The data set {config.source} has no image in its split {split}.")
    probe = Lazy(dataset, length, (image, label), config, class_names)
    if config.streaming:
        return probe
    bytes_in_memory = len(dataset) * probe.shape.channels * probe.shape.height * probe.shape.width
    if bytes_in_memory > config.memory_limit_gb * 2**30:
        return probe

    table = dataset.with_format("arrow")[:]
    if label is not None and table[label].null_count:
        raise ValueError(f"{config.source} has images without a label: its column {label} has gaps.")
    labels = None if label is None else torch.from_numpy(table[label].to_numpy().astype(np.int64))

    def place(index: int) -> str:
        return f"Image {index} ({paths(table[image])[index] or 'without a name'}) of {config.source}"

    return Images(decode_cached(Encoded.of_column(table[image]), config, place), labels, class_names)


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
    fitted = [fit(Image.fromarray(image), config.size, config.channels or 1) for image in images]
    return Images(torch.from_numpy(np.stack(fitted)), labels)
