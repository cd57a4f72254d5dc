"""What a file says of itself, checked before Pillow decodes it.

PNG has checksums and says how many bytes its pixels are: all of it is checked (W3C PNG, 3rd ed., sections 5, 7 and
10), and Pillow gets the inflated pixels, so that no picture is inflated twice. JPEG, GIF and WebP have no checksum: a
changed bit in their compressed pixels is another picture, which nothing can tell from the right one. Their segments,
blocks and chunks are followed, and sizes that contradict each other are refused (ITU-T T.81, Annex B; GIF89a;
RFC 9649). What follows the end of a picture, as phones append it, is left alone.
"""

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the colour types of PNG
# The passes of a PNG, plain and interlaced: x and y of the first pixel, steps in x and y
ADAM7 = {
    0: ((0, 0, 1, 1),),
    1: ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
}
CHUNK, SUM, HEADER = struct.Struct(">I4s"), struct.Struct(">I"), struct.Struct(">I4sIIBBBBB")
MOST_PIXELS = 178_956_970  # twice `Image.MAX_IMAGE_PIXELS`, of which Pillow refuses more
MARKER, FRAME = struct.Struct(">BBH"), struct.Struct(">BHHB")
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a frame of JPEG
NO_SEGMENTS = {0x00, 0x01, *range(0xD0, 0xDA)}


class InvalidImage(Exception):
    """Why a file contradicts itself."""


class _Reading(threading.local):
    is_lenient = False


_READING = _Reading()


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Makes warnings of Pillow errors, for all threads: what it warns of, it guesses or leaves out. It may warn of
    large pictures, and of anything within `lenient`."""
    show = warnings.showwarning

    def refuse(message, category, filename, *args):
        if Path(filename).parent != Path(Image.__file__).parent:
            show(message, category, filename, *args)
        elif not _READING.is_lenient:
            raise message

    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"PIL\.")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        warnings.showwarning = refuse
        yield


@contextmanager
def lenient(is_lenient: bool = True) -> Iterator[None]:
    """Lets Pillow warn in this thread: of metadata, which leave the pixels as they are."""
    _READING.is_lenient = is_lenient
    try:
        yield
    finally:
        _READING.is_lenient = False


def validated(file: bytes | memoryview) -> tuple[bytes, str | None]:
    """Returns the file that Pillow may decode, the same picture, and its format, None for one that is not known here.

    Raises:
        InvalidImage: the file contradicts itself.
    """
    file = bytes(file)
    try:
        if file.startswith(b"\x89PNG\r\n\x1a\n"):
            return _validated_png(file), "PNG"
        for name, begins, check in FORMATS:
            if file.startswith(begins):
                check(file)
                return file, name
    except (struct.error, IndexError) as error:
        raise InvalidImage("it is truncated") from error
    return file, None


def _validated_png(file: bytes) -> bytes:
    start, parts, first, last = 8, [], 0, 0
    while True:
        length, kind = CHUNK.unpack_from(file, start)
        stop = start + 8 + length
        if zlib.crc32(file[start + 4 : stop]) != SUM.unpack_from(file, stop)[0]:
            raise InvalidImage(f"the checksum of its part {kind!r} is wrong")
        if kind == b"IDAT":
            if parts and start != last:
                raise InvalidImage("its pixels lie in several places")
            first, last = first or start, stop + 4
            parts.append(file[start + 8 : stop])
        elif kind == b"IEND":
            break
        start = stop + 4
    stored = zlib.compress(_inflate(file, parts), 0)
    return b"".join((file[:first], CHUNK.pack(len(stored), b"IDAT"), stored, bytes(4), file[last:]))  # 4: no sum


def _inflate(file: bytes, parts: list[bytes]) -> bytes:
    """Returns the filtered pixels of a PNG, as many as its header promises."""
    length, kind, width, height, bits, colour, _, _, is_interlaced = HEADER.unpack_from(file, 8)
    if kind != b"IHDR" or length != 13 or colour not in CHANNELS or is_interlaced > 1 or not width * height:
        raise InvalidImage(f"its header gives {width}x{height} pixels of the colour type {colour}")
    _check_area(width, height)
    passes = [(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in ADAM7[is_interlaced]]
    bits *= CHANNELS[colour]
    size = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in passes if columns > 0 < rows)
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(parts[0] if len(parts) == 1 else b"".join(parts), size + 1)
    except zlib.error as error:
        raise InvalidImage(f"its pixels are damaged ({error})") from error
    if len(raw) != size or not stream.eof:
        more = "more than" if len(raw) > size else "not"
        raise InvalidImage(f"it holds {more} the {width}x{height} pixels of its header")
    return raw


def _check_area(width: int, height: int):
    if width * height > MOST_PIXELS:
        raise InvalidImage(f"its header gives {width}x{height} pixels, and the limit is {MOST_PIXELS:,}")


def _check_jpeg(file: bytes):
    start, frames = 2, []
    while True:
        marker, kind, length = MARKER.unpack_from(file, start)
        if marker != 0xFF:
            raise InvalidImage(f"there is no marker at byte {start}")
        if kind == 0xFF:  # fill
            start += 1
            continue
        start += 2 + length
        if kind in FRAMES:
            _, height, width, count = FRAME.unpack_from(file, start - length + 2)
            _check_area(width, height)
            frames.append(height * width if length == 8 + 3 * count else 0)
        elif kind == 0xDA:
            break
        elif kind in NO_SEGMENTS:
            raise InvalidImage("it has no scan")
    if len(frames) != 1 or not frames[0]:
        raise InvalidImage("it has no frame or several, or one that contradicts itself")
    if file.rfind(b"\xff\xd9") < start:
        raise InvalidImage("it is truncated")


def _check_gif(file: bytes):
    width, height, flags = struct.unpack_from("<HHB", file, 6)
    start = 13 + (3 << (flags & 7) + 1) * (flags >> 7)
    while file[start] == 0x21:  # extensions
        start = _after_blocks(file, start + 2)
    kind, left, top, own_width, own_height, own_flags = struct.unpack_from("<BHHHHB", file, start)
    if kind != 0x2C:
        raise InvalidImage("it holds no picture")
    if left + own_width > width or top + own_height > height:
        raise InvalidImage("its first picture does not lie in it")
    start += 10 + (3 << (own_flags & 7) + 1) * (own_flags >> 7)
    if not 2 <= file[start] <= 8:
        raise InvalidImage(f"its codes have {file[start]} bits")
    start = _after_blocks(file, start + 1)
    if file[start] not in (0x21, 0x2C, 0x3B):
        raise InvalidImage(f"there is no block at byte {start}")


def _after_blocks(file: bytes, start: int) -> int:
    """Returns where a chain of sub-blocks of a GIF ends."""
    while length := file[start]:
        start += 1 + length
    return start + 1


def _check_webp(file: bytes):
    if file[8:12] != b"WEBP":
        raise InvalidImage("it is no picture")
    stop, start, sizes = 8 + struct.unpack_from("<I", file, 4)[0], 12, {}
    if stop > len(file):
        raise InvalidImage("it is truncated")
    while start < stop:
        kind, length = struct.unpack_from("<4sI", file, start)
        body = start + 8
        if kind == b"VP8X":
            sizes[kind] = tuple(1 + int.from_bytes(file[body + at : body + at + 3], "little") for at in (4, 7))
        elif kind == b"VP8L":
            bits = int.from_bytes(file[body + 1 : body + 5], "little")
            sizes[b"frame"] = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        elif kind == b"VP8 ":
            if file[body + 3 : body + 6] != b"\x9d\x01\x2a" or file[body] & 1:
                raise InvalidImage("its picture does not begin as one")
            sizes[b"frame"] = tuple(size & 0x3FFF for size in struct.unpack_from("<HH", file, body + 6))
        start = body + length + (length & 1)
    if start != stop:
        raise InvalidImage("its parts are not as long as it says")
    if {b"VP8X", b"frame"} <= sizes.keys() and sizes[b"VP8X"] != sizes[b"frame"]:
        raise InvalidImage(f"its canvas and its picture differ in size: {sizes[b'VP8X']} and {sizes[b'frame']}")


FORMATS = (
    ("JPEG", b"\xff\xd8", _check_jpeg),
    ("GIF", b"GIF8", _check_gif),
    ("WEBP", b"RIFF", _check_webp),
)
