"""Encoded images to one uint8 array, in parallel.

A data set of small images spends its time in the overhead of a decoder, not in decoding. PNG files of one shape, which
is what the Hub's small sets hold, take a fast way: libdeflate one by one, then the filters of PNG (W3C PNG, Sec. 9)
undone for all images at once. Everything else goes through pillow.
"""

import io
import itertools
import mmap
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from deflate import DeflateError, zlib_decompress
from PIL import Image, ImageOps, UnidentifiedImageError

from genhub.data.config import DataConfig
from genhub.data.encoded import Encoded
from genhub.utils.cache import cached, content_hash

MODES = {1: "L", 3: "RGB"}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3}  # colour type -> channels, of 8-bit images
_BLOCK = 512  # images that are turned at once: they fit a cache


class DecodeError(ValueError):
    """An image that cannot be read, or does not fit the others; `index` is its place in the list."""

    def __init__(self, index: int, reason: str):
        super().__init__(reason)
        self.index, self.reason = index, reason


def decode(
    encoded: Encoded,
    size: int | None = None,
    channels: int | None = None,
    like: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """Decodes `encoded` images to uint8 (N, C, H, W), on all cores.

    Args:
        size: centre-crop to a square and resize to this many pixels; None keeps the images, all of one size.
        channels: 1 or 3 to convert; None keeps grey grey and colour colour.
        like: the shape (C, H, W) that all must have; None takes it from the first.

    Raises:
        DecodeError: an image cannot be read, or differs from the first in size or channels.
    """
    first = to_array(encoded[0], 0, size, channels, like)
    shape = (len(encoded), *first.shape)
    pixels = np.frombuffer(mmap.mmap(-1, max(1, int(np.prod(shape)))), np.uint8)[: int(np.prod(shape))].reshape(shape)
    quick = _is_quick_png(encoded[0]) and size is None and channels in (None, first.shape[0])

    def work(part: range):
        if not (quick and _decode_png(encoded, part, pixels[part.start : part.stop])):
            for i in part:
                pixels[i] = to_array(encoded[i], i, size, channels, like=first.shape)

    cuts = np.linspace(0, len(encoded), _workers(len(encoded)) + 1).astype(int).tolist()
    parts = [range(start, stop) for start, stop in itertools.pairwise(cuts)]
    if len(parts) == 1 or not sys.platform.startswith("linux"):
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(work, parts))
    else:
        _fork(work, parts)
    return pixels


def decode_cached(encoded: Encoded, config: DataConfig, place: Callable[[int], str]) -> torch.Tensor:
    """Decodes `encoded`, or reads what an earlier run decoded from the same bytes to the same shape.

    Args:
        place: says where a file came from, if it fails.
    """
    asked = (config.size, config.channels, len(encoded))
    files = encoded.content[encoded.bounds[0] : encoded.bounds[-1]]
    key = content_hash(repr(asked), torch.from_numpy(np.diff(encoded.bounds)), files)

    def compute() -> dict[str, torch.Tensor]:
        try:
            return {"images": torch.from_numpy(decode(encoded, config.size, config.channels))}
        except DecodeError as error:
            raise ValueError(f"{place(error.index)} {error.reason}.") from error

    return cached("images", key, compute)["images"]


def to_array(
    encoded: bytes, index: int, size: int | None, channels: int | None, like: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Decodes one image to uint8 (C, H, W); `index` is for the message where it fails."""
    if not encoded:
        raise DecodeError(index, "is empty")
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # as `datasets` does
    except Exception as error:  # pillow raises OSError, SyntaxError, ValueError, struct.error, ... for a broken file
        cause = "of no format that pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise DecodeError(index, f"is not a readable image ({cause})") from error
    wide_png = encoded[:8] == _PNG_SIGNATURE and encoded[24] == 16  # pillow would cut its colours to 8 bits
    if wide_png or image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise DecodeError(index, f"has pixels of more than 8 bits (mode {image.mode})")
    wanted = channels or (1 if image.mode in ("1", "L", "LA") else 3)
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:  # what is transparent shows black
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    array = fit(image, size, wanted)
    if like is not None and array.shape != like:
        (c, h, w), (c0, h0, w0) = array.shape, like
        raise DecodeError(
            index,
            f"is {w}x{h} with {c} channel(s), the first one {w0}x{h0} with {c0}; "
            "`data.size` and `data.channels` bring all to one shape",
        )
    return array


def fit(image: Image.Image, size: int | None, channels: int) -> np.ndarray:
    """Returns `image` in the wanted channels, centre-cropped and resized where `size` says so, uint8 (C, H, W)."""
    image = image.convert(MODES[channels])
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    array = np.asarray(image)  # (H, W) or (H, W, C)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _workers(count: int) -> int:
    if multiprocessing.current_process().daemon:  # a worker of a DataLoader, which may not have children
        return 1
    return max(
        1, min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(), count // 500)
    )


def _fork(work, parts: list[range]):
    """Runs `work` on each part in a forked process: threads do not help where the interpreter takes the time."""
    context = multiprocessing.get_context("fork")
    failures = context.SimpleQueue()

    def run(part):
        try:
            work(part)
        except DecodeError as error:
            failures.put((error.index, error.reason))

    processes = [context.Process(target=run, args=(part,), daemon=True) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if not failures.empty():
        raise DecodeError(*failures.get())
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"A decoding process ended with exit code {[p.exitcode for p in processes]}.")


def _is_quick_png(encoded: bytes) -> bool:
    """8 bits, grey or RGB, not interlaced, and with no chunk between header and pixels."""
    return (
        encoded[:8] == _PNG_SIGNATURE
        and encoded[24:25] == b"\x08"
        and encoded[25] in _PNG_CHANNELS
        and encoded[28:29] == b"\x00"
        and encoded[37:41] == b"IDAT"
    )


def _decode_png(files: Encoded, part: range, pixels: np.ndarray) -> bool:
    """Fills `pixels` (N, C, H, W) with `part` of the `files` and returns True, or returns False where one of them is
    not of the one simple kind: the header of the first file, one IDAT, end."""
    n, c, h, w = pixels.shape
    starts, ends = files.bounds[part.start : part.stop], files.bounds[part.start + 1 : part.stop + 1]
    if (ends - starts).min() < 57:  # signature, IHDR, an empty IDAT, IEND
        return False
    content, head = np.frombuffer(files.content, np.uint8), files[0][:41]
    claimed = sum(content[starts + 33 + place].astype(np.int64) << (24 - 8 * place) for place in range(4))
    alike = all((content[starts + place] == head[place]).all() for place in (*range(33), *range(37, 41)))
    if not alike or (claimed != ends - starts - 57).any():
        return False

    lines = np.empty((h * (1 + w * c), n), np.uint8)  # images innermost, so that each step below is for all of them
    places = list(zip((starts + 41).tolist(), (ends - 16).tolist(), strict=True))
    blocks = [slice(at, at + _BLOCK) for at in range(0, n, _BLOCK)]
    for block in blocks:
        try:
            raw = [zlib_decompress(files.content[start:end], len(lines)) for start, end in places[block]]
        except DeflateError:
            return False
        if set(map(len, raw)) != {len(lines)}:
            return False
        lines[:, block] = np.frombuffer(b"".join(raw), np.uint8).reshape(-1, len(lines)).T
    lines = lines.reshape(h, 1 + w * c, n)
    if lines[:, 0].max() > 4:
        return False

    above = np.zeros((w, c, n), np.uint8)
    for line in lines:
        kind_of, line = line[0], line[1:].reshape(w, c, n)
        line += above * (kind_of == 2)  # Up
        for kind in (1, 3, 4):
            chosen = np.flatnonzero(kind_of == kind)
            if len(chosen):
                line[:, :, chosen] = _unfilter(kind, line.take(chosen, -1), above.take(chosen, -1))
        above = line
    for block in blocks:
        pixels[block] = lines[:, 1:, block].reshape(h, w, c, -1).transpose(3, 2, 0, 1)
    return True


def _unfilter(kind: int, line: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Undoes PNG's filter 1, 3 or 4 on one row (W, C, n) of n images, given the row above (W3C PNG, Sec. 9.2)."""
    if kind == 1:  # Sub
        return np.cumsum(line, axis=0, dtype=np.uint8)
    above = above.astype(np.int16)
    left = corner = np.zeros(line.shape[1:], np.int16)
    for x in range(len(line)):
        up = above[x]
        if kind == 3:  # Average
            guess = (left + up) >> 1
        else:  # Paeth: the one of left, up, corner nearest to left + up - corner; the same, without branches
            low, high, bound = np.minimum(left, up), np.maximum(left, up), 3 * corner - left - up
            guess = corner + (low - corner) * (high <= bound) + (high - corner) * (bound <= low)
            corner = up
        line[x] += guess.astype(np.uint8)
        left = line[x].astype(np.int16)
    return line
