"""The files of MNIST and its successors: idx (LeCun, Cortes & Burges, *The MNIST database*), plain or gzipped."""

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PIECE = 2**20  # bytes read at a time
STEMS = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}


class SizeError(ValueError):
    """A file that promises more than may be held in memory."""


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


def read_idx(path: Path, dimensions: int, limit: float) -> np.ndarray:
    """Reads an idx file of unsigned bytes: two zeros, type 8, number of dimensions, big-endian sizes, data.

    Args:
        limit: GB that it may hold.

    Raises:
        ValueError: the file cannot be read, is of another type, holds more than `limit`, or is longer or shorter than
            its header states, beyond which nothing is read.
    """
    start = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.read(start)
            sizes = _sizes(path, header, dimensions)
            expected = math.prod(sizes)
            check_size(path, expected, limit)
            content = b"".join(_pieces(file, expected + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    if len(content) != expected:
        got = "more" if len(content) > expected else start + len(content)
        raise ValueError(
            f"{path} must be {start + expected} bytes long by its header, got {got}: it is truncated or damaged."
        )
    return np.frombuffer(content, np.uint8).reshape(sizes).copy()


def _sizes(path: Path, header: bytes, dimensions: int) -> list[int]:
    """Returns the sizes in a header."""
    magic = bytes((0, 0, 8, dimensions))
    if header[:4] != magic:
        raise ValueError(f"{path} must begin with the bytes {magic.hex(' ')}, got {header[:4].hex(' ')}.")
    if len(header) < 4 + 4 * dimensions:
        raise ValueError(f"{path} ends within its header: it is truncated.")
    return np.frombuffer(header, ">u4", offset=4).tolist()


def _pieces(file: io.BufferedIOBase, size: int) -> Iterator[bytes]:
    """Reads at most `size` bytes; a header that promises more than there is takes no memory."""
    while size and (piece := file.read(min(size, PIECE))):
        yield piece
        size -= len(piece)


def check_size(path: Path, size: int, limit: float) -> None:
    """Raises SizeError if a file promises more bytes than `limit` GB."""
    if size > limit * 2**30:
        raise SizeError(
            f"{path} holds {size / 2**30:,.1f} GB by its header, more than `data.memory_limit_gb`, {limit}."
        )
