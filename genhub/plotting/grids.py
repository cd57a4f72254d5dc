"""Pictures of images, pixel by pixel."""

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

GREY = 128  # the ground that images lie on
SCALE = GAP = 2  # pixels to a pixel, and between images, of a plain grid


def grid(images: torch.Tensor, columns: int | None = None, scale: int = SCALE, gap: int = GAP) -> Image.Image:
    """Lays images (N, C, H, W) in [0, 1] out in rows on a mid-grey ground, each pixel `scale` pixels wide.

    Raises:
        ValueError: there is no image, or they have neither 1 nor 3 channels.
    """
    if images.ndim != 4 or not len(images) or images.shape[1] not in (1, 3):
        raise ValueError(f"`images` must be (N, 1 or 3, H, W) with N of at least 1, got {tuple(images.shape)}.")
    for name, value, least in (("columns", columns, 1), ("scale", scale, 1), ("gap", gap, 0)):
        if value is not None and value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    height, width = height * scale, width * scale
    sheet = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), GREY, dtype=torch.uint8)
    for place, image in enumerate(pixels):
        top, left = gap + place // columns * (height + gap), gap + place % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return Image.fromarray(sheet[0].numpy() if channels == 1 else sheet.permute(1, 2, 0).numpy())


def first_row(sheet: Image.Image, count: int, columns: int = 8) -> torch.Tensor:
    """Returns the images (N, C, H, W) in [0, 1] of the first row of a grid of `count` images."""
    pixels = np.asarray(sheet).reshape(sheet.height, sheet.width, -1)[GAP:, GAP:]
    down, across = len(pixels) // math.ceil(count / columns), pixels.shape[1] // columns
    row = torch.tensor(pixels[: down - GAP : SCALE].copy()).permute(2, 0, 1) / 255
    tiles = row.split(across, 2)[: min(count, columns)]
    return torch.stack([tile[:, :, : across - GAP : SCALE] for tile in tiles])


def pairs(images: torch.Tensor, others: torch.Tensor, columns: int = 8) -> torch.Tensor:
    """Orders two sets of images (N, C, H, W) for a grid of `columns`: rows of the one above rows of the other."""
    rows = zip(images.split(columns), others.split(columns), strict=True)
    return torch.cat([row for pair in rows for row in pair])


def png(image: Image.Image) -> bytes:
    """Returns `image` as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def named_rows(
    rows: Sequence[torch.Tensor],
    names: Sequence[str],
    columns: int,
    title: str = "",
    scale: int = 3,
    captions: Sequence[Sequence[str]] | None = None,
) -> Image.Image:
    """Lays each of `rows`, images (N, C, H, W) in [0, 1], out in a row with its name at the left; places without an
    image stay grey.

    Args:
        captions: for each row, what is written beneath its images; a row without captions takes no room for them.

    Raises:
        ValueError: there are not as many names or captions as rows, a row has more than `columns` images, or there is
            no image.
    """
    if len(rows) != len(names):
        raise ValueError(f"`names` must be as many as the {len(rows)} rows, got {len(names)}.")
    if captions is not None and len(captions) != len(rows):
        raise ValueError(f"`captions` must be as many as the {len(rows)} rows, got {len(captions)}.")
    if max(map(len, (*rows, *(captions or ())))) > columns:
        longest = max(map(len, (*rows, *(captions or ()))))
        raise ValueError(f"`columns` must be at least {longest}, the longest row, got {columns}.")
    shape = next((row.shape[1:] for row in rows if len(row)), None)
    if shape is None:
        raise ValueError("`rows` must hold at least one image.")
    across, down = shape[2] * scale + 2, shape[1] * scale + 2  # from an image to the next one
    font = ImageFont.load_default(max(10, min(18, down // 2)))
    left = 12 + math.ceil(max(font.getlength(name) for name in names))
    captions = captions or [()] * len(rows)
    small = _fitting([text for row in captions for text in row], across - 4, font.size)
    room = [round(1.6 * small.size) if row else 0 for row in captions]  # beneath each row
    body = Image.new("RGB", (left + columns * across + 2, len(rows) * down + 2 + sum(room)), "white")
    pen, top = ImageDraw.Draw(body), 0
    for row, name, texts, beneath in zip(rows, names, captions, room, strict=True):
        places = torch.full((columns, *shape), GREY / 255)
        if len(row):
            places[: len(row)] = row
        body.paste(grid(places, columns, scale).convert("RGB"), (left, top))
        pen.text((left - 10, top + 2 + (down - 2) / 2), name, "black", font, anchor="rm")
        for place, text in enumerate(texts):
            middle = left + 2 + place * across + (across - 2) / 2
            pen.text((middle, top + down + 2 + beneath / 2), text, "black", small, anchor="mm")
        top += down + beneath
    return titled(body, title, font.size)


def titled(body: Image.Image, title: str, size: float = 14) -> Image.Image:
    """Returns a picture on white ground, with its title above, broken into lines that fit."""
    font = ImageFont.load_default(size)
    lines = [line for part in title.split("\n") for line in _wrapped(part, font, body.width)]
    top = 12 + round(1.4 * font.size) * len(lines) + 10 * bool(lines)
    picture = Image.new(body.mode, (body.width + 24, top + body.height + 12), "white")
    picture.paste(body, (12, top))
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        pen.text((12, 12 + number * round(1.4 * font.size)), line, "black", font)
    return picture


def plane(
    images: torch.Tensor,
    title: str,
    x_label: str,
    y_label: str,
    ticks: Sequence[tuple[float, str]],
    scale: int = 1,
) -> Image.Image:
    """Lays images (N, C, H, W) in [0, 1] out in a square without gaps, with an axis beneath it and one at its left.

    Args:
        ticks: (place, text) along both axes: place 0 is the middle of the first image, 1 that of the last one.

    Raises:
        ValueError: the images do not fill a square.
    """
    side = math.isqrt(len(images))
    if side**2 != len(images) or side < 2:
        raise ValueError(f"`images` must fill a square, got {len(images)} of them.")
    sheet = grid(images, side, scale, gap=0).convert("RGB")
    font = ImageFont.load_default(16)
    line = round(1.4 * font.size)
    longest = math.ceil(max(font.getlength(text) for _, text in ticks))
    left, under = line + longest + 14, 2 * line + 10
    body = Image.new("RGB", (left + sheet.width + longest // 2, sheet.height + under), "white")
    body.paste(sheet, (left, 0))
    pen = ImageDraw.Draw(body)
    for place, text in ticks:
        x, y = ((0.5 + place * (side - 1)) * length / side for length in sheet.size)
        pen.line((left + x, sheet.height, left + x, sheet.height + 5), "black")
        pen.text((left + x, sheet.height + 8), text, "black", font, anchor="mt")
        pen.line((left - 6, y, left - 1, y), "black")
        pen.text((left - 9, y), text, "black", font, anchor="rm")
    pen.text((left + sheet.width / 2, body.height), x_label, "black", font, anchor="mb")
    name = Image.new("RGB", (math.ceil(font.getlength(y_label)) + 2, line), "white")
    ImageDraw.Draw(name).text((0, line), y_label, "black", font, anchor="lb")
    body.paste(name.rotate(90, expand=True), (0, max(0, (sheet.height - name.width) // 2)))
    return titled(body, title, font.size)


def _fitting(texts: Sequence[str], width: float, most: float) -> ImageFont.FreeTypeFont:
    """Returns the largest font, of at most `most`, in which each of `texts` is at most `width` pixels wide."""
    fonts = [ImageFont.load_default(size) for size in range(int(min(most, 13)), 6, -1)]
    fits = (font for font in fonts if all(font.getlength(text) <= width for text in texts))
    return next(fits, fonts[-1])


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Returns `text` in lines of at most `width` pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        lines[-1:] = [longer] if not lines or font.getlength(longer) <= width else [lines[-1], word]
    return lines
