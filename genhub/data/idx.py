"""The files of MNIST and its successors: idx (LeCun, Cortes & Burges, *The MNIST database*), plain or gzipped."""

import gzip
import zlib
from pathlib import Path

import numpy as np

STEMS = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}


def idx_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Returns the image file and the label file of each split, none if `folder` holds no idx files: it itself, or its
    folder `raw`, as torchvision leaves them.

    Raises:
        ValueError: a file of a split is missing.
    """
    places = [folder, *sorted(folder.glob("raw")), *sorted(folder.glob("*/raw"))] if folder.is_dir() else []
    found = [place for place in places if any(place.glob("*-idx3-ubyte*"))]
    if not found:
        return {}
    if len(found) > 1:
        raise ValueError(f"`data.source` must be one of {', '.join(map(str, found))}, got {folder}.")
    present = {path.name.partition("-idx")[0] for path in found[0].iterdir()}
    stems = {split: names for split, names in STEMS.items() if split == "train" or present & {*names}}
    return {
        split: (_find(found[0], images, 3), _find(found[0], labels, 1)) for split, (images, labels) in stems.items()
    }


def _find(folder: Path, stem: str, dimensions: int) -> Path:
    """Returns an idx file, plain or gzipped."""
    for suffix in ("", ".gz"):
        if (path := folder / f"{stem}-idx{dimensions}-ubyte{suffix}").is_file():
            return path
    raise ValueError(f"The folder {folder} has no {stem}-idx{dimensions}-ubyte (plain or .gz).")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads an idx file of unsigned bytes: two zeros, type 8, number of dimensions, big-endian sizes, data.

    Raises:
        ValueError: the file cannot be read, is of another type, or is longer or shorter than its header states.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic:
        raise ValueError(f"{path} must begin with the bytes {magic.hex(' ')}, got {content[:4].hex(' ')}.")
    if len(content) < 4 + 4 * dimensions:
        raise ValueError(f"{path} ends within its header: it is truncated.")
    sizes = np.frombuffer(content, ">u4", count=dimensions, offset=4).astype(int)
    expected = 4 + 4 * dimensions + int(np.prod(sizes))
    if len(content) != expected:
        raise ValueError(
            f"{path} must be {expected} bytes long by its header, got {len(content)}: it is truncated or damaged."
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(sizes).copy()
