"""Image files to one uint8 tensor: Pillow in threads, and a cache, so that a data set is decoded once."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from genhub.data.config import DataConfig
from genhub.utils.cache import cached, content_hash

MODES = {1: "L", 3: "RGB"}
SMALL = 2**16  # bytes of a file, on average
CHUNK = 500  # images that a thread decodes at a time
File = bytes | memoryview  # an encoded image; an empty one is missing


class DecodeError(ValueError):
    """An image that cannot be decoded or differs in shape; `index` is its position in the list, and `hint` what a
    `DataConfig` can do about it."""

    def __init__(self, index: int, reason: str, hint: str = ""):
        super().__init__(reason)
        self.index, self.reason, self.hint = index, reason, hint


def decode(
    files: Sequence[File],
    size: int | None = None,
    channels: int | None = None,
    shape: tuple[int, int, int] | None = None,
) -> torch.Tensor:
    """Decodes `files` to uint8 (N, C, H, W); large ones on `torch.get_num_threads()` threads.

    Args:
        size: centre-crop to a square and resize to this many pixels; None requires images of one size.
        channels: 1 or 3 to convert; None keeps grey grey and colour colour.
        shape: the (C, H, W) of every image; None takes it from the first.

    Raises:
        DecodeError: an image cannot be read, has more than 8 bits a channel, or differs in shape. It is the first.
    """
    first = to_array(files[0], 0, size, channels, shape)
    images = np.empty((len(files), *first.shape), np.uint8)

    def decode_chunk(start: int):
        for index in range(start, min(start + CHUNK, len(files))):
            images[index] = to_array(files[index], index, size, channels, first.shape)

    are_small = sum(map(len, files[:CHUNK])) < SMALL * min(len(files), CHUNK)  # Python's lock makes threads slower
    with ThreadPoolExecutor(1 if are_small else torch.get_num_threads()) as pool:
        for _ in pool.map(decode_chunk, range(0, len(files), CHUNK)):  # raises the first error, and cancels the rest
            pass
    return torch.from_numpy(images)


def decode_cached(files: Sequence[File], config: DataConfig, describe: Callable[[int], str]) -> torch.Tensor:
    """Decodes `files`, or reads from the cache what the same bytes gave for the same size and channels.

    Args:
        describe: names the image at an index for an error.

    Raises:
        ValueError: an image cannot be decoded or differs from the first in shape.
    """
    lengths = torch.tensor([len(file) for file in files])
    key = content_hash(repr((config.size, config.channels, len(files))), lengths, files)

    def compute() -> dict[str, torch.Tensor]:
        try:
            return {"images": decode(files, config.size, config.channels)}
        except DecodeError as error:
            raise ValueError(f"{describe(error.index)} {error.reason}{error.hint}.") from error

    return cached("images", key, compute)["images"]


def to_array(
    file: File, index: int, size: int | None, channels: int | None, shape: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Decodes one image to uint8 (C, H, W), transparent pixels on black.

    Raises:
        DecodeError: as `decode`, with `index`.
    """
    if not file:
        raise DecodeError(index, "is empty")
    try:
        image = Image.open(io.BytesIO(file))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # as `datasets` does
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ... for a broken file
        cause = "of no format that pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise DecodeError(index, f"is not a readable image ({cause})") from error
    is_16_bit_png = image.format == "PNG" and file[24] == 16  # in IHDR; Pillow would cut colours to 8 bits
    if is_16_bit_png or image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise DecodeError(index, f"has pixels of more than 8 bits (mode {image.mode})")
    channels = channels or (1 if image.mode in ("1", "L", "LA") else 3)
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    array = fit(image, size, channels)
    if shape is not None and array.shape != shape:
        (c, h, w), (c_0, h_0, w_0) = array.shape, shape
        raise DecodeError(
            index,
            f"is {w}x{h} with {c} channel(s), the first one {w_0}x{h_0} with {c_0}",
            "; `data.size` and `data.channels` bring all to one shape",
        )
    return array


def fit(image: Image.Image, size: int | None, channels: int) -> np.ndarray:
    """Converts `image` to 1 or 3 channels, crops its centre to a square and resizes it, to uint8 (C, H, W)."""
    if image.mode != MODES[channels]:
        image = image.convert(MODES[channels])
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    array = np.asarray(image)  # (H, W) or (H, W, C)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
