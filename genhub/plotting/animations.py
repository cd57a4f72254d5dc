"""Animations."""

import io
from collections.abc import Sequence

from PIL import Image


def gif(frames: Sequence[Image.Image], milliseconds: int = 250, last: int = 2500) -> bytes:
    """Returns `frames` as a GIF file that repeats for ever. Grey frames keep their exact pixels.

    Args:
        milliseconds: how long a frame is shown.
        last: how long the last frame is shown, in milliseconds.

    Raises:
        ValueError: there is no frame, or they differ in size.
    """
    sizes = {frame.size for frame in frames}
    if len(sizes) != 1:
        raise ValueError(f"`frames` must be at least one, all of one size, got sizes {sorted(sizes)}.")
    first, *others = (frame if frame.mode == "L" else frame.convert("RGB") for frame in frames)
    durations = [milliseconds] * len(others) + [last]
    buffer = io.BytesIO()
    first.save(
        buffer, "GIF", save_all=True, append_images=others, duration=durations, loop=0, disposal=1, optimize=False
    )
    return buffer.getvalue()
