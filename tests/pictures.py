"""Image files and data sets for tests: PNG written byte by byte, parquet, folders."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

# The passes of an interlaced PNG: x and y of the first pixel, steps in x and y
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Random bytes, half of the images in black and white alone, where every sum and difference wraps around."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    pixels[::2] = np.where(pixels[::2] > 127, 255, 0)
    return pixels


def encode(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    """Encodes (H, W) or (H, W, C) by pillow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_png(
    pixels: np.ndarray,
    filters: Sequence[int] = (0,),
    parts: int = 1,
    interlaced: bool = False,
    extra: bytes = b"",
    bits: int = 8,
) -> bytes:
    """Encodes (H, W, C): `filters` on the rows in turn, `parts` IDAT chunks, `extra` chunks before them."""
    height, width, channels = pixels.shape
    passes = [pixels[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [pixels]
    raw = b"".join(filter_rows(part, filters, bits) for part in passes if part.size)
    body = zlib.compress(raw)
    cuts = np.linspace(0, len(body), parts + 1).astype(int)
    header = struct.pack(">IIBBBBB", width, height, bits, {1: 0, 3: 2}[channels], 0, 0, interlaced)
    idat = b"".join(chunk(b"IDAT", body[a:b]) for a, b in zip(cuts, cuts[1:], strict=False))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + idat + chunk(b"IEND", b"")


def filter_rows(pixels: np.ndarray, filters: Sequence[int], bits: int) -> bytes:
    """PNG's filters, forwards (W3C PNG, Table 9.1): None, Sub, Up, Average, Paeth."""
    step = pixels.shape[2] * bits // 8
    rows = pixels.astype(">u2" if bits == 16 else np.uint8).reshape(len(pixels), -1).view(np.uint8)
    padded = np.pad(rows.astype(int), ((1, 0), (step, 0)))
    here, left, up, corner = padded[1:, step:], padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step]
    far = np.abs(np.stack([left, up, corner]) - (left + up - corner))
    paeth = np.choose(far.argmin(0), [left, up, corner])
    guesses = [0 * here, left, up, (left + up) // 2, paeth]
    out = b""
    for y in range(len(rows)):
        kind = filters[y % len(filters)]
        out += bytes([kind]) + ((here - guesses[kind % 5])[y] % 256).astype(np.uint8).tobytes()
    return out


def write_parquet(folder: Path, encoded: list, shards: int = 1, split: str = "train", **columns) -> Path:
    """Writes a data set of encoded images (None leaves a gap) and `columns`, each (values, feature)."""
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature

    folder.mkdir(parents=True, exist_ok=True)
    cells = [None if one is None else {"bytes": one, "path": f"Picture {i}.PNG"} for i, one in enumerate(encoded)]
    features = Features({"image": ImageFeature()} | {name: feature for name, (_, feature) in columns.items()})
    rows = {"image": cells} | {name: values for name, (values, _) in columns.items()}
    dataset = Dataset.from_dict(rows, features=features)
    for i in range(shards):
        part = dataset.shard(shards, i, contiguous=True)
        part.to_parquet(folder / f"{split}-{i:05d}-of-{shards:05d}.parquet")
    return folder


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
