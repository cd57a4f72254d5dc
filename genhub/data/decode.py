"""Image files to one uint8 tensor: Pillow in threads, and a cache, so that a data set is decoded once."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from genhub.data.config import DataConfig
from genhub.data.strict import lenient, strict_pillow, validated
from genhub.utils.cache import cached, content_hash
from genhub.utils.progress import progress_bar

MODES = {1: "L", 3: "RGB"}
BACKGROUNDS = {"black": (0, 0, 0, 255), "white": (255, 255, 255, 255)}
SMALL = 2**16  # bytes of a file, on average
CHUNK = 500  # images that a thread decodes at a time
BAR_DELAY = 3  # seconds
PROGRAMS = {"EPS", "WMF"}  # formats that are programs, run by others
SHOWN = 5  # bad images in an error
File = bytes | memoryview  # an encoded image; an empty one is missing


class BadImage(Exception):
    """Why an image cannot be used; `hint` is what a `DataConfig` can do about it."""

    def __init__(
        self, reason: str, hint: str = "; `data.on_bad_image: skip` leaves such images out", is_skippable: bool = True
    ):
        super().__init__(reason)
        self.reason, self.hint, self.is_skippable = reason, hint, is_skippable


@dataclass(frozen=True)
class Decoded:
    """Decoded images.

    Args:
        images: uint8 (N, C, H, W).
        kept: which of the files they are, bool.
        transparent: number of the images with transparent pixels.
    """

    images: torch.Tensor
    kept: torch.Tensor
    transparent: int

    def notes(self, config: DataConfig) -> tuple[str, ...]:
        """Returns sentences about what differs from the files."""
        left_out = int((~self.kept).sum())
        skipped = f"{left_out:,} of {len(self.kept):,} images of {config.source} are left out: they cannot be read."
        shown = f"{self.transparent:,} images have transparent pixels, which are {config.background}."
        return (skipped,) * (left_out > 0) + (shown,) * (self.transparent > 0)


def decode(
    files: Sequence[File],
    config: DataConfig | None,
    describe: Callable[[int], str],
    shape: tuple[int, int, int] | None = None,
) -> Decoded:
    """Decodes `files`; large ones on `torch.get_num_threads()` threads.

    Args:
        config: whose `size`, `channels`, `background` and `on_bad_image` it follows, and an error names; None for the
            files as they are.
        describe: names the image at an index for an error.
        shape: the (C, H, W) of every image; None takes it from the first.

    Raises:
        ValueError: images cannot be read, have more than 8 bits a channel, or differ in shape; it names them all.
    """
    has_hints, config = config is not None, config or DataConfig()
    bad: dict[int, BadImage] = {}
    transparent = np.zeros(len(files), bool)
    for index in range(0 if shape else len(files)):
        with strict_pillow():
            array = _try(files, index, config, None, bad, transparent)
        if array is not None:
            shape = array.shape
            break
    if shape is None:
        raise ValueError(_explain(bad, len(files), describe, has_hints))
    images = np.empty((len(files), *shape), np.uint8)

    def decode_chunk(start: int):
        for index in range(start, min(start + CHUNK, len(files))):
            if (array := _try(files, index, config, shape, bad, transparent)) is not None:
                images[index] = array

    are_small = sum(map(len, files[:CHUNK])) < SMALL * min(len(files), CHUNK)  # Python's lock makes threads slower
    bar = progress_bar(total=len(files), desc="decoding", unit="image", delay=BAR_DELAY, leave=False)
    with strict_pillow(), bar, ThreadPoolExecutor(1 if are_small else torch.get_num_threads()) as pool:
        for _ in pool.map(decode_chunk, range(0, len(files), CHUNK)):
            bar.update(CHUNK)
    kept = np.ones(len(files), bool)
    kept[[*bad]] = False
    if bad and (config.on_bad_image == "error" or not all(found.is_skippable for found in bad.values())):
        raise ValueError(_explain(bad, len(files), describe, has_hints))
    used = images if kept.all() else images[kept]
    return Decoded(torch.from_numpy(used), torch.from_numpy(kept), int(transparent.sum()))


def decode_cached(files: Sequence[File], config: DataConfig, describe: Callable[[int], str]) -> Decoded:
    """Decodes `files`, or reads from the cache what the same bytes gave for the same configuration.

    Raises:
        ValueError: as `decode`.
    """
    lengths = torch.tensor([len(file) for file in files])
    options = (config.background, config.on_bad_image)
    options = () if options == ("black", "error") else options
    if any(file[25:26] == b"\x03" or file[:3] == b"GIF" for file in files):  # palettes of greys were colour once
        options += ("grey palettes",)
    key = content_hash(repr((config.size, config.channels, len(files), *options)), lengths, files)

    def compute() -> dict[str, torch.Tensor]:
        found = decode(files, config, describe)
        return {"images": found.images, "kept": found.kept, "transparent": torch.tensor(found.transparent)}

    def kept_of(found: dict[str, torch.Tensor]) -> torch.Tensor:
        return found.get("kept", torch.ones(len(files), dtype=torch.bool))  # an older cache has the images alone

    def fits(found: dict[str, torch.Tensor]) -> bool:
        images, kept = found.get("images", torch.empty(0)), kept_of(found)
        is_whole = images.dtype == torch.uint8 and images.ndim == 4 and images.shape[1] in MODES
        is_asked = config.size is None or images.shape[2:] == (config.size, config.size)
        is_mask = kept.dtype == torch.bool and kept.shape == (len(files),)
        return is_whole and is_asked and is_mask and len(images) == int(kept.sum())

    found = cached("images", key, compute, fits)
    kept = kept_of(found)
    return Decoded(found["images"], kept, int(found.get("transparent", 0)))


def _try(
    files: Sequence[File],
    index: int,
    config: DataConfig,
    shape: tuple[int, int, int] | None,
    bad: dict[int, BadImage],
    transparent: np.ndarray,
) -> np.ndarray | None:
    """Decodes one image, or notes that it is bad."""
    try:
        array, transparent[index] = to_array(files[index], config, shape)
    except BadImage as error:
        bad[index] = error
    except Exception as error:  # converting what Pillow could open
        bad[index] = BadImage(f"is not a readable image ({error})")
    else:
        return array
    return None


def _explain(bad: dict[int, BadImage], total: int, describe: Callable[[int], str], has_hints: bool) -> str:
    """Returns the sentence that names bad images: those that cannot be skipped, if there are any."""
    shown = {index: found for index, found in sorted(bad.items()) if not found.is_skippable} or dict(
        sorted(bad.items())
    )
    parts = [f"{describe(index)} {found.reason}" for index, found in [*shown.items()][:SHOWN]]
    more = len(shown) - len(parts)
    parts += [f"and {more:,} more of {total:,} images"] if more else []
    return "; ".join(parts) + (next(iter(shown.values())).hint if has_hints else "") + "."


def opened(file: File) -> Image.Image:
    """Decodes one image as Pillow does, turned as its camera was held; raises BadImage where it cannot be read."""
    if not file:
        raise BadImage("is empty")
    try:
        content, kind = validated(file)
        with lenient(kind == "JPEG"):  # whose metadata are read on opening
            image = Image.open(io.BytesIO(content), formats=[kind] if kind else _formats(len(Image.ID)))
        image.load()
        if image.format != "PNG" or "exif" in image.info or "Raw profile type exif" in image.info:
            with lenient():
                ImageOps.exif_transpose(image, in_place=True)  # as `datasets` does
        return image
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ... for a broken file
        cause = "of no format that pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise BadImage(f"is not a readable image ({cause})") from error


def to_array(file: File, config: DataConfig, shape: tuple[int, int, int] | None = None) -> tuple[np.ndarray, bool]:
    """Decodes one image to uint8 (C, H, W), transparent pixels on the background, and says whether there are any.

    Raises:
        BadImage: it cannot be used.
    """
    image = opened(file)
    colours = len(image.getpalette("RGB") or ()) // 3
    if image.mode in ("P", "PA") and np.asarray(image.getchannel(0)).max() >= colours:
        raise BadImage("has pixels of colours that its palette lacks")
    is_16_bit_png = image.format == "PNG" and file[24] == 16  # in IHDR; Pillow would cut colours to 8 bits
    if is_16_bit_png or image.mode in ("I", "F") or image.mode.startswith("I;"):
        way_out = "scale them to 8 bits first, 16 by `(numpy.asarray(image) // 256).astype('uint8')`"
        raise BadImage(f"has pixels of more than 8 bits (mode {image.mode})", f"; {way_out}")
    channels = config.channels or (1 if _is_grey(image) else 3)
    if shape is not None and config.channels is None and image.mode in ("P", "PA"):
        channels = max(channels, shape[0])  # greys among colours
    is_transparent = image.has_transparency_data
    if is_transparent:
        image = image.convert("RGBA")
        is_transparent = np.asarray(image.getchannel("A")).min() < 255
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUNDS[config.background]), image)
    array = fit(image, config.size, channels)
    if shape is not None and array.shape != shape:
        (c, h, w), (c_0, h_0, w_0) = array.shape, shape
        reason = f"is {w}x{h} with {c} channel(s), the first one {w_0}x{h_0} with {c_0}"
        raise BadImage(reason, "; `data.size` and `data.channels` bring all to one shape", is_skippable=False)
    return array, bool(is_transparent)


@cache
def _formats(known: int) -> tuple[str, ...]:
    """Returns the formats of Pillow that may be opened, `known` before its plug-ins are loaded."""
    Image.init()
    return tuple(name for name in Image.ID if name not in PROGRAMS)


def _is_grey(image: Image.Image) -> bool:
    """Returns whether an image has no colour by its mode, or by the colours of its palette that it uses."""
    if image.mode not in ("P", "PA"):
        return image.mode in ("1", "L", "LA", "La")
    palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
    used = np.unique(np.asarray(image.getchannel(0)))
    return bool((palette[used] == palette[used, :1]).all())


def fit(image: Image.Image, size: int | None, channels: int) -> np.ndarray:
    """Converts `image` to 1 or 3 channels, crops its centre to a square and resizes it, to uint8 (C, H, W)."""
    if image.mode != MODES[channels]:
        image = image.convert(MODES[channels])
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    array = np.asarray(image)  # (H, W) or (H, W, C)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
