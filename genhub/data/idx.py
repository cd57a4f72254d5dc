"""The files of MNIST and its successors: idx (LeCun, Cortes & Burges, *The MNIST database*), plain or gzipped."""

import gzip
import zlib
from pathlib import Path

import numpy as np

STEMS = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}


def idx_files(folder: Path, split: str) -> tuple[Path, Path] | None:
    """Returns the image file and the label file of a split, or None if `folder` holds no idx files.

    Raises:
        ValueError: one of the split's files is missing.
    """
    if not folder.is_dir() or not any(folder.glob("*-idx3-ubyte*")):
        return None
    paths = []
    for stem, kind in zip(STEMS[split], ("idx3-ubyte", "idx1-ubyte"), strict=True):
        matches = [path for suffix in ("", ".gz") if (path := folder / f"{stem}-{kind}{suffix}").is_file()]
        if not matches:
            raise ValueError(f"The folder {folder} has no {stem}-{kind} (plain or .gz).")
        paths.append(matches[0])
    return paths[0], paths[1]


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
