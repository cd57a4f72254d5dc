"""Images that someone else made: a folder of image files, or a NumPy archive."""

import math
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
import torch

from genhub.data.columns import MOST_CLASSES, check_labels
from genhub.data.config import DataConfig
from genhub.data.decode import decode
from genhub.data.idx import SizeError, check_size
from genhub.data.image_folder import by_class, images_of, natural_key, top_of, walk
from genhub.data.images import Images
from genhub.data.paths import LARGEST_IMAGE
from genhub.utils.reading import read_bytes


def load_image_files(path: Path) -> Images:
    """Loads the images of a folder in the order of their file names, or those of an `.npz` archive.

    Subfolders are classes. An archive holds uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W), C of 1 or 3, as its
    first array, and may hold their classes as `labels`, (N,).

    Raises:
        ValueError: there are no images, or they are not readable, not of 8 bits, or of several sizes; or only some
            have a class.
    """
    if path.is_dir():
        return _load_folder(path)
    if path.suffix != ".npz":
        raise ValueError(f"The file of images must be an .npz archive, got {path}.")
    return _load_archive(path)


def _load_folder(folder: Path) -> Images:
    files = images_of(walk(folder))
    if not files:
        raise ValueError(f"The folder {folder} must hold images or a saved pipeline with its model_index.json.")
    files.sort(key=lambda path: (path.name, path))  # whatever their class: numbered files stay in their order
    classes = by_class(top_of(folder, files), files)
    names = tuple(sorted({*classes}, key=natural_key))
    labels = torch.tensor([names.index(name) for name in classes]) if classes else None
    decoded = decode([read_bytes(path, LARGEST_IMAGE) for path in files], None, lambda index: str(files[index]))
    return Images(decoded.images, labels, names or None)


def _load_archive(path: Path) -> Images:
    arrays = read_archive(path, DataConfig.memory_limit_gb)
    return arrays.get("train") or next(iter(arrays.values()))


def read_archive(path: Path, limit: float) -> dict[str, Images]:
    """Reads the splits of an archive: of an array of images and one of `labels`, all are for training; arrays named
    `x_train` and `y_train`, as in Keras, or `train_images` and `train_labels`, as in MedMNIST, are of splits.

    Args:
        limit: GB that its arrays may hold.

    Raises:
        ValueError: the archive is not readable or holds more, or its arrays are not uint8 images and their classes.
    """
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path} is no file.")
    try:
        with ZipFile(path) as archive:
            check_size(path, sum(entry.file_size for entry in archive.infolist()), limit)
            arrays = {entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in archive.infolist()}
    except SizeError:
        raise
    except Exception as error:  # of zipfile, zlib and NumPy
        raise ValueError(f"{path} is not a readable archive of arrays ({error}).") from error
    found = {}
    for split in ("train", "val", "test"):
        for images, labels in ((f"x_{split}", f"y_{split}"), (f"{split}_images", f"{split}_labels")):
            if images in arrays:
                found[split] = _to_images(path, arrays[images], arrays.get(labels), labels)
    if found and "train" not in found:
        raise ValueError(f"The archive {path} has no split 'train', only {', '.join(found)}.")
    if found:
        return found
    images = [array for name, array in arrays.items() if name != "labels"]
    if not images:
        raise ValueError(f"The archive {path} must hold an array of images.")
    if len(images) > 1:
        raise ValueError(
            f"The archive {path} must hold one array of images, and their classes as `labels`, got "
            f"{', '.join(arrays)}."
        )
    return {"train": _to_images(path, images[0], arrays.get("labels"), "labels")}


def _read_array(archive: ZipFile, entry: ZipInfo) -> np.ndarray:
    """Reads an array whose header promises as many bytes as the archive."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = read[version](file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or file.tell() + size != entry.file_size:
            raise ValueError(f"{entry.filename} holds objects" if dtype.hasobject else f"{entry.filename} is damaged")
        return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if is_fortran else "C")


def _to_images(path: Path, images: np.ndarray, labels: np.ndarray | None, name: str) -> Images:
    """Makes images of arrays of an archive."""
    found = _channels_first(path, images)
    if labels is None:
        return Images(found)
    if labels.reshape(-1).shape != (len(found),) or labels.dtype.kind not in "iu":
        raise ValueError(f"`{name}` of {path} must be {len(found)} whole numbers, got {labels.dtype} {labels.shape}.")
    check_labels(labels.reshape(-1).tolist(), MOST_CLASSES, f"`{name}` of {path}")
    return Images(found, torch.from_numpy(labels.reshape(-1).astype(np.int64)))


def _channels_first(path: Path, array: np.ndarray) -> torch.Tensor:
    """Returns an array of images as (N, C, H, W)."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] not in (1, 3) or not array.size:
        raise ValueError(
            f"The images of {path} must be uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1 or 3, got "
            f"{array.dtype} {array.shape}."
        )
    return torch.from_numpy(np.array(array, order="C"))


def with_classes_of(images: Images, class_names: Sequence[str] | None, num_classes: int) -> Images:
    """Returns `images` with labels that number the classes as another data set does: by name, or as they are if names
    are numbers.

    Raises:
        ValueError: a class is none of that data set.
    """
    if images.labels is None:
        return images
    known = {name: index for index, name in enumerate(class_names or ())}
    known |= {str(index): index for index in range(num_classes)}
    names = images.class_names or [str(index) for index in range(int(images.labels.max()) + 1)]
    used = [names[index] if index >= 0 else str(index) for index in images.labels.unique().tolist()]
    if unknown := [name for name in used if name not in known]:
        raise ValueError(
            f"The classes of the images must be {', '.join(class_names or ())} or 0 to {num_classes - 1}, got "
            f"{unknown[0]!r}."
        )
    numbers = torch.tensor([known.get(name, -1) for name in names])
    return Images(images.images, numbers[images.labels], tuple(class_names) if class_names else None)
