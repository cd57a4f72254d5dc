"""Pictures of images."""

import io
import math

import torch
from PIL import Image


def grid(images: torch.Tensor, columns: int | None = None, scale: int = 2, gap: int = 2) -> Image.Image:
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
    sheet = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 128, dtype=torch.uint8)
    for place, image in enumerate(pixels):
        top, left = gap + place // columns * (height + gap), gap + place % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return Image.fromarray(sheet[0].numpy() if channels == 1 else sheet.permute(1, 2, 0).numpy())


def png(image: Image.Image) -> bytes:
    """Returns `image` as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
