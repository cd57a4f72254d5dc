"""A picture that contradicts itself is refused by its name, and nothing takes more memory than it shows."""

import contextlib
import io
import struct
import subprocess
import warnings
import zlib

import numpy as np
import pytest
import torch
from pictures import chunk, encode, noise, write_png
from PIL import Image

from genhub.data.config import DataConfig
from genhub.data.decode import decode
from genhub.data.strict import MOST_PIXELS, InvalidImage, validated

GREY, RGB = noise(9, 11, 1, seed=1), noise(9, 11, 3, seed=3)
SMOOTH = np.add.outer(np.arange(24), np.arange(30)).astype(np.uint8)[..., None].repeat(3, 2) * 4


def pixels(file: bytes) -> np.ndarray:
    return decode([file], DataConfig(), "Image {}".format).images[0].numpy()


def refuses(file: bytes, reason: str = "is not a readable image"):
    with pytest.raises(ValueError, match=f"^Image 0 .*{reason}"):
        pixels(file)


def png(width: int, height: int, raw: bytes, bits: int = 8, colour: int = 0, tail: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(raw) + tail), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_size(file: bytes, width: int, height: int) -> bytes:
    """The same PNG, whose header gives another size, with its checksum."""
    return file[:8] + chunk(b"IHDR", struct.pack(">II", width, height) + file[24:29]) + file[33:]


@pytest.mark.parametrize("shape", [(9, 11, 1), (9, 11, 3), (300, 200, 3)])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_that_lies_about_its_size_is_refused_and_an_honest_one_is_not(shape, interlaced):
    image = noise(*shape)
    file = write_png(image, interlaced=interlaced, parts=2)
    height, width = shape[:2]

    assert np.array_equal(pixels(file), image.transpose(2, 0, 1))
    for size in ((width, height - 1), (width, height + 1), (width + 1, height), (width - 1, height), (height, width)):
        refuses(with_size(file, *size), "pixels of its header")


@pytest.mark.parametrize(
    ("mode", "options"), [("1", {}), ("L", {}), ("P", {"bits": 2}), ("P", {}), ("LA", {}), ("RGB", {}), ("RGBA", {})]
)
@pytest.mark.parametrize("width", [1, 7, 8, 9])
def test_every_kind_of_png_is_what_pillow_shows(mode, options, width):
    file = io.BytesIO()
    image = Image.fromarray(noise(5, width, 3)).convert("L" if mode == "LA" else "RGB").convert(mode)
    image.save(file, "PNG", **options)

    content, kind = validated(file.getvalue())

    assert kind == "PNG"
    shown, expected = Image.open(io.BytesIO(content)), Image.open(file)
    assert (shown.mode, shown.tobytes()) == (expected.mode, expected.tobytes())


def test_every_changed_bit_of_a_png_is_found():
    file = write_png(GREY, (4,), extra=chunk(b"tEXt", b"Author\0me"))

    for place in range(len(file)):
        for bit in (1, 128):
            changed = file[:place] + bytes([file[place] ^ bit]) + file[place + 1 :]
            with pytest.raises(InvalidImage) if place >= 8 else contextlib.nullcontext():
                assert validated(changed)[1] is None
    for stop in range(8, len(file)):
        with pytest.raises(InvalidImage):
            validated(file[:stop])


def test_what_follows_the_end_of_a_picture_is_left_alone():
    for file in (write_png(RGB), encode(SMOOTH, "JPEG"), encode(SMOOTH, "GIF"), encode(SMOOTH, "WEBP")):
        assert np.array_equal(pixels(file + b"a film"), pixels(file))


BITS = {
    "GIF, narrower screen": ("GIF", 6, 29),
    "GIF, lower screen": ("GIF", 8, 23),
    "JPEG, no marker": ("JPEG", 20, 0),
    "JPEG, length of its frame": ("JPEG", lambda file: file.index(b"\xff\xc0") + 3, 9),
    "JPEG, components": ("JPEG", lambda file: file.index(b"\xff\xc0") + 9, 2),
    "JPEG, no height": ("JPEG", lambda file: file.index(b"\xff\xc0") + 6, 0),
    "JPEG, its end": ("JPEG", lambda file: len(file) - 1, 0),
    "WebP, longer": ("WEBP", 4, 255),
    "WebP, length of its picture": ("WEBP", 16, 1),
    "WebP, no picture": ("WEBP", 23, 0),
}


@pytest.mark.parametrize(("kind", "place", "value"), BITS.values(), ids=BITS)
def test_a_header_that_contradicts_its_file_is_refused(kind, place, value):
    file = bytearray(encode(SMOOTH, kind))
    file[place if isinstance(place, int) else place(file)] = value

    refuses(bytes(file))


@pytest.mark.parametrize("channels", [None, 3])
def test_a_pixel_of_a_colour_that_the_palette_lacks_is_refused(channels):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, 8, 3, 0, 0, 0))
    missing = "colours that its palette lacks"
    for colours, last, message in (
        (2, 1, None),
        (2, 2, missing),
        (150, 149, None),
        (150, 150, missing),
        (150, 200, missing),
        (256, 255, None),
    ):
        raw, palette = bytes((0, 0, 1, last)), chunk(b"PLTE", bytes(range(6)) + bytes(3 * colours - 6))
        parts = header, palette, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")
        file = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
        refused = pytest.raises(ValueError, match=message) if message else contextlib.nullcontext()
        with refused, warnings.catch_warnings(action="error"):
            decode([file], DataConfig(channels=channels), str)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WEBP", "PNG", "BMP", "TIFF"])
def test_a_picture_that_is_cut_is_refused(kind):
    file = encode(SMOOTH, kind)

    for share in (0.3, 0.6, 0.9):
        refuses(file[: int(share * len(file))])


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"subsampling": 0}, {"quality": 30, "restart_marker_rows": 1}]
)
def test_every_kind_of_jpeg_is_what_pillow_shows(options):
    file = encode(SMOOTH, "JPEG", **options)

    assert np.array_equal(pixels(file), np.asarray(Image.open(io.BytesIO(file))).transpose(2, 0, 1))


def test_moving_pictures_show_their_first():
    colours = np.stack([SMOOTH[..., 0], 255 - SMOOTH[..., 0], SMOOTH[..., 0] // 2], 2)
    first, second = Image.fromarray(colours), Image.fromarray(255 - colours)
    for kind in ("GIF", "WEBP", "PNG"):
        file = io.BytesIO()
        first.save(file, kind, save_all=True, append_images=[second], **({} if kind == "GIF" else {"lossless": True}))

        expected = np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1)
        assert np.array_equal(pixels(file.getvalue()), expected)


def test_a_gif_whose_first_picture_is_smaller_than_its_canvas_shows_both():
    file = bytearray(encode(SMOOTH, "GIF"))
    struct.pack_into("<HH", file, 6, 40, 33)

    shown = pixels(bytes(file))

    expected = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).transpose(2, 0, 1)[: len(shown)]
    assert shown.shape[1:] == (33, 40)
    assert np.array_equal(shown, expected)


def test_more_pixels_than_pillow_takes_are_refused_before_they_are_decoded():
    bomb = png(50_000, 50_000, b"")
    gif = b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0)
    gif += b"\x2c" + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x01\x00\x00\x3b"

    assert 2 * Image.MAX_IMAGE_PIXELS == MOST_PIXELS
    refuses(bomb, "its header gives 50000x50000 pixels, and the limit is 178,956,970")
    refuses(gif, "exceeds limit of 178956970 pixels")
    refuses(png(0, 3, b""), "its header gives 0x3 pixels of the colour type 0")
    refuses(png(3, 3, bytes(10**7)), "more than the 3x3 pixels")


def test_a_photograph_of_108_megapixels_is_taken(monkeypatch):
    width, height = 12_000, 9_000
    jpeg = bytearray(encode(SMOOTH, "JPEG"))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, height, width)

    assert validated(png(width, height, bytes(height * (1 + width // 8)), bits=1))[1] == "PNG"
    assert validated(bytes(jpeg))[1] == "JPEG"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SMOOTH.size // 3 - 1)  # of more Pillow warns
    with warnings.catch_warnings(action="error"):
        for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
            assert pixels(encode(SMOOTH, kind)).shape[1:] == SMOOTH.shape[:2]


def with_exif(kind: str, entries: bytes) -> bytes:
    """A picture with the directory of EXIF that these bytes are."""
    return encode(SMOOTH, kind, exif=b"Exif\0\0II*\0\x08\0\0\0" + entries)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_warning_about_metadata_leaves_the_picture_as_it_is(kind):
    beyond = struct.pack("<HHHIII", 1, 0x010F, 2, 100, 10_000, 0)  # the maker, at an offset that lies outside

    for entries in (b"", b"\xff\0", beyond):
        with warnings.catch_warnings(action="error"):
            assert np.array_equal(pixels(with_exif(kind, entries)), pixels(encode(SMOOTH, kind)))


def test_a_warning_of_pillow_is_an_error_that_names_the_file_and_others_are_none():
    tiff = bytearray(encode(SMOOTH, "TIFF"))
    struct.pack_into("<H", tiff, struct.unpack_from("<I", tiff, 4)[0], 999)  # entries of its directory

    refuses(bytes(tiff), "(Truncated|[Cc]orrupt)")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pixels(encode(SMOOTH))
        warnings.warn("of someone else", stacklevel=1)
    assert len(seen) == 1


def test_no_format_is_opened_that_another_program_would_run(monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", lambda *args, **kwargs: pytest.fail("Ghostscript was called"))

    refuses(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n", "no format that pillow knows"
    )


def test_threads_refuse_as_one_does():
    files = [write_png(noise(120, 120, 3, seed=seed)) for seed in range(6)]
    files[4] = with_size(files[4], 120, 121)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(ValueError, match=r"^Image 4 "):
            decode(files, DataConfig(), "Image {}".format)
    finally:
        torch.set_num_threads(before)
