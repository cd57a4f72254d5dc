"""Decoders that take nothing amiss: what a file means by its format alone, or None where it is not whole."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from genhub.data.config import DataConfig
from genhub.data.decode import BadImage, to_array


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
    """Decodes an image file as genhub converts it, (C, H, W), where Pillow neither raises nor warns."""
    content = path.read_bytes()
    if path.suffix == ".png" and not png_is_whole(content):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            picture = Image.open(io.BytesIO(content))
            picture.verify()
            return to_array(content, DataConfig())[0]
        except (BadImage, *BROKEN):
            return None


BROKEN = (OSError, SyntaxError, ValueError, struct.error, EOFError, IndexError, Warning, Image.DecompressionBombError)
