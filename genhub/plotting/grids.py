"""Grids of images, pixel by pixel."""

import io
import math

import numpy as np
import torch
from PIL import Image

GREY = 128  # behind the images
SCALE = GAP = 2  # pixels a pixel is enlarged to, and pixels between images, in a plain grid


def grid(images: torch.Tensor, columns: int | None = None, scale: int = SCALE, gap: int = GAP) -> Image.Image:
    """Lays images (N, C, H, W) in [0, 1] out in rows on grey, each pixel enlarged to `scale` x `scale`.

    Args:
        columns: images in a row; None for a square grid.

    Raises:
        ValueError: there is no image, one is not finite, or they have neither 1 nor 3 channels.
    """
    if images.ndim != 4 or not len(images) or images.shape[1] not in (1, 3):
        raise ValueError(f"`images` must be (N, 1 or 3, H, W) with N of at least 1, got {tuple(images.shape)}.")
    if bad := int((~images.isfinite()).flatten(1).any(1).sum()):
        raise ValueError(f"The images must be finite, got {bad} of {len(images)} with NaN or infinity.")
    for name, value, minimum in (("columns", columns, 1), ("scale", scale, 1), ("gap", gap, 0)):
        if value is not None and value < minimum:
            raise ValueError(f"`{name}` must be at least {minimum}, got {value}.")
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    height, width = height * scale, width * scale
    sheet = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), GREY, dtype=torch.uint8)
    for index, image in enumerate(pixels):
        top, left = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return Image.fromarray(sheet[0].numpy() if channels == 1 else sheet.permute(1, 2, 0).numpy())


def cut_grid(sheet: Image.Image, count: int, columns: int = 8) -> torch.Tensor:
    """Returns the images (N, C, H, W) in [0, 1] of a plain grid of `count` images."""
    pixels = torch.tensor(np.asarray(sheet).reshape(sheet.height, sheet.width, -1)[GAP:, GAP:]).permute(2, 0, 1) / 255
    rows = pixels.split(pixels.shape[1] // math.ceil(count / columns), 1)
    tiles = [tile for row in rows for tile in row.split(pixels.shape[2] // columns, 2)]
    return torch.stack([tile[:, :-GAP:SCALE, :-GAP:SCALE] for tile in tiles[:count]])


def pairs(images: torch.Tensor, others: torch.Tensor, columns: int = 8) -> torch.Tensor:
    """Orders two sets of images (N, C, H, W) for a grid of `columns`, each row of `images` above its `others`."""
    rows = zip(images.split(columns), others.split(columns), strict=True)
    return torch.cat([row for pair in rows for row in pair])


def blank(images: torch.Tensor) -> torch.Tensor:
    """Returns one image (1, C, H, W) like `images` in the grey behind them, as a place left empty."""
    return torch.full_like(images[:1], GREY / 255, dtype=torch.float)


def png(image: Image.Image) -> bytes:
    """Returns `image` as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
