"""Images with names, captions and a title. Drawn by Pillow, so that each pixel of an image is a square of pixels."""

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont

from genhub.plotting.grids import GAP, blank, grid

MARGIN = 12  # pixels around the picture


def image_rows(
    rows: Sequence[torch.Tensor],
    names: Sequence[str],
    columns: int,
    title: str = "",
    scale: int = 3,
    captions: Sequence[Sequence[str]] | None = None,
) -> Image.Image:
    """Lays each of `rows`, images (N, C, H, W) in [0, 1], out in a row with its name on the left; places without an
    image stay grey.

    Args:
        captions: for each row, the texts below its images; a row without captions takes no room for them.

    Raises:
        ValueError: the numbers of rows, names and captions differ, a row is longer than `columns`, or there is no
            image.
    """
    captions = [()] * len(rows) if captions is None else captions
    _check_rows(rows, names, columns, captions)
    ground = blank(next(row for row in rows if len(row)))
    width, height = ground.shape[3] * scale + GAP, ground.shape[2] * scale + GAP  # from one image to the next
    font = load_font(max(10, min(18, height // 2)))
    small = largest_font([text for row in captions for text in row], width - 4, font.size)
    left, below = MARGIN + max(text_width(font, name) for name in names), round(1.6 * small.size)
    size = (left + columns * width + GAP, len(rows) * height + GAP + below * sum(1 for texts in captions if texts))
    body = Image.new("RGB", size, "white")
    pen, top = ImageDraw.Draw(body), 0
    for row, name, texts in zip(rows, names, captions, strict=True):
        images = torch.cat([row, ground.expand(columns - len(row), -1, -1, -1)])
        body.paste(grid(images, columns, scale).convert("RGB"), (left, top))
        pen.text((left - 10, top + GAP + (height - GAP) / 2), name, "black", font, anchor="rm")
        for column, text in enumerate(texts):
            middle = left + GAP + column * width + (width - GAP) / 2
            pen.text((middle, top + height + GAP + below / 2), text, "black", small, anchor="mm")
        top += height + (below if texts else 0)
    return add_title(body, title, font.size)


def image_plane(
    images: torch.Tensor,
    title: str,
    x_label: str,
    y_label: str,
    ticks: Sequence[tuple[float, str]],
    scale: int = 1,
) -> Image.Image:
    """Lays images (N, C, H, W) in [0, 1] out in a square without gaps, with an axis below and one on the left.

    Args:
        ticks: (position, text) on both axes: position 0 is the middle of the first image, 1 that of the last one.

    Raises:
        ValueError: the images do not fill a square.
    """
    side = math.isqrt(len(images))
    if side**2 != len(images) or side < 2:
        raise ValueError(f"`images` must fill a square, got {len(images)} of them.")
    sheet = grid(images, side, scale, gap=0).convert("RGB")
    font = load_font(16)
    line, longest = line_height(font), max(text_width(font, text) for _, text in ticks)
    left = line + longest + 14
    body = Image.new("RGB", (left + sheet.width + longest // 2, sheet.height + 2 * line + 10), "white")
    body.paste(sheet, (left, 0))
    pen = ImageDraw.Draw(body)
    for position, text in ticks:
        x, y = ((0.5 + position * (side - 1)) * length / side for length in sheet.size)
        pen.line((left + x, sheet.height, left + x, sheet.height + 5), "black")
        pen.text((left + x, sheet.height + 8), text, "black", font, anchor="mt")
        pen.line((left - 6, y, left - 1, y), "black")
        pen.text((left - 9, y), text, "black", font, anchor="rm")
    pen.text((left + sheet.width / 2, body.height), x_label, "black", font, anchor="mb")
    label = Image.new("RGB", (text_width(font, y_label) + 2, line), "white")
    ImageDraw.Draw(label).text((0, line), y_label, "black", font, anchor="lb")
    body.paste(label.rotate(90, expand=True), (0, max(0, (sheet.height - label.width) // 2)))
    return add_title(body, title, font.size)


def add_title(body: Image.Image, title: str, size: float = 14) -> Image.Image:
    """Returns `body` on white with a title above it, broken into lines that fit."""
    font = load_font(size)
    lines = [line for part in title.split("\n") for line in wrap_words(part, font, body.width)]
    top = MARGIN + line_height(font) * len(lines) + (10 if lines else 0)
    picture = Image.new(body.mode, (body.width + 2 * MARGIN, top + body.height + MARGIN), "white")
    picture.paste(body, (MARGIN, top))
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        pen.text((MARGIN, MARGIN + number * line_height(font)), line, "black", font)
    return picture


def load_font(size: float) -> ImageFont.FreeTypeFont:
    """Loads the font of all texts."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # as it has a size
    return font


def line_height(font: ImageFont.FreeTypeFont) -> int:
    """Returns the distance of two lines of text, in pixels."""
    return round(1.4 * font.size)


def text_width(font: ImageFont.FreeTypeFont, text: str) -> int:
    """Returns the width of `text` in pixels."""
    return math.ceil(font.getlength(text))


def largest_font(texts: Sequence[str], width: float, max_size: float) -> ImageFont.FreeTypeFont:
    """Returns the largest font, between 7 and 13 points and at most `max_size`, in which all `texts` fit `width`."""
    fonts = [load_font(size) for size in range(int(min(max_size, 13)), 6, -1)]
    for font in fonts:
        if all(font.getlength(text) <= width for text in texts):
            return font
    return fonts[-1]


def wrap_words(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Breaks `text` between words into lines of at most `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _check_rows(
    rows: Sequence[torch.Tensor], names: Sequence[str], columns: int, captions: Sequence[Sequence[str]]
) -> None:
    for argument, values in (("names", names), ("captions", captions)):
        if len(values) != len(rows):
            raise ValueError(f"`{argument}` must be as many as the {len(rows)} rows, got {len(values)}.")
    longest = max(map(len, (*rows, *captions)))
    if longest > columns:
        raise ValueError(f"`columns` must be at least {longest}, the longest row, got {columns}.")
    if not any(map(len, rows)):
        raise ValueError("`rows` must hold at least one image.")
