"""Decoders that take nothing amiss: what a file means by its format alone, or None where it is not whole."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def gzipped(content: bytes) -> bytes | None:
    """Decompresses the members of a gz file, and checks the CRC and the length of each (RFC 1952)."""
    result = b""
    while content:
        member = zlib.decompressobj(31)
        try:
            result += member.decompress(content)
        except zlib.error:
            return None
        if not member.eof:
            return None
        content = member.unused_data.lstrip(b"\0")
    return result


def idx(path: Path, dimensions: int) -> np.ndarray | None:
    """Reads the file at `path`, or the gzipped one beside it."""
    gz = path.with_name(f"{path.name}.gz")
    content = path.read_bytes() if path.is_file() else gzipped(gz.read_bytes()) if gz.is_file() else None
    if content is None or len(content) < 4 + 4 * dimensions or content[:4] != bytes((0, 0, 8, dimensions)):
        return None
    sizes = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    body = content[4 + 4 * dimensions :]
    return np.frombuffer(body, np.uint8).reshape(sizes) if len(body) == np.prod([1, *sizes], dtype=object) else None


def png_is_whole(content: bytes) -> bool:
    """Whether every chunk of a PNG has its CRC, the last one is IEND, and the pixels are as many as IHDR says."""
    position, chunks = 8, []
    while position < len(content):
        head = content[position : position + 8]
        if len(head) < 8:
            return False
        length, name = struct.unpack(">I4s", head)
        body = content[position + 8 : position + 8 + length]
        crc = content[position + 8 + length : position + 12 + length]
        if len(crc) < 4 or zlib.crc32(name + body) != struct.unpack(">I", crc)[0]:
            return False
        chunks.append((name, body))
        position += 12 + length
    if content[:8] != b"\x89PNG\r\n\x1a\n" or not chunks or chunks[0][0] != b"IHDR" or chunks[-1][0] != b"IEND":
        return False
    width, height, bits, colour, *_, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    try:
        pixels = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    except zlib.error:
        return False
    row = (width * bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 0) + 7) // 8
    return bool(interlaced) or len(pixels) == height * (1 + row)


def image(path: Path) -> np.ndarray | None:
    """Decodes an image file, (C, H, W), where Pillow neither raises nor warns: greys have one channel, what is
    transparent shows black."""
    content = path.read_bytes()
    if path.suffix == ".png" and not png_is_whole(content):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            Image.open(io.BytesIO(content)).verify()
            return pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
        except BROKEN:
            return None


def pixels(picture: Image.Image) -> np.ndarray | None:
    """Converts a picture to uint8 (C, H, W), None where a colour is missing in its palette or has more than 8 bits."""
    is_grey = picture.mode in ("1", "L", "LA")
    if picture.mode in ("P", "PA"):
        palette = np.array(picture.getpalette("RGB")).reshape(-1, 3)
        used = palette[np.unique(np.asarray(picture.getchannel(0)))]
        is_grey = bool((used == used[:, :1]).all())
    elif picture.mode not in ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr"):
        return None
    colours = picture.convert("RGB")
    if picture.has_transparency_data:
        shown = np.asarray(picture.convert("RGBA"), float)
        colours = np.rint(shown[..., :3] * shown[..., 3:] / 255).astype(np.uint8)
    return np.asarray(colours).transpose(2, 0, 1)[: 1 if is_grey else 3]


BROKEN = (OSError, SyntaxError, ValueError, struct.error, EOFError, IndexError, Warning, Image.DecompressionBombError)
