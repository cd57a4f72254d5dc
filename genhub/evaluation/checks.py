"""Batches of images for an autoencoder, and checks of what it returns."""

from collections.abc import Iterator

import torch

from genhub.data import points_to_model_range, to_model_range


def image_batches(
    images: torch.Tensor, labels: torch.Tensor | None, batch_size: int, is_picture: bool = True
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yields `images` in [-1, 1], (B, C, H, W), with their labels, (B,), if given."""
    if is_picture:
        check_images(images)
    check_at_least("batch_size", batch_size, 1)
    batches = map(to_model_range if is_picture else points_to_model_range, images.split(batch_size))
    return zip(batches, strict=True) if labels is None else zip(batches, labels.split(batch_size), strict=True)


def check_images(images: torch.Tensor) -> None:
    """Raises ValueError if `images` are not at least two uint8 images."""
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) < 2 or not images.numel():
        got = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"`images` must be uint8 (N, C, H, W) with N of at least 2, got {got}.")


def check_at_least(name: str, value: float, minimum: float) -> None:
    """Raises ValueError if the argument `name` is below `minimum`, or NaN."""
    if not value >= minimum:
        raise ValueError(f"`{name}` must be at least {minimum}, got {value}.")


def check_values(name: str, values: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Raises ValueError if the result of the argument `name` has another shape, or is not finite."""
    if values.shape != shape:
        raise ValueError(f"`{name}` must give {tuple(shape)}, got {tuple(values.shape)}.")
    if bad := int((~values.isfinite()).sum()):
        raise ValueError(f"`{name}` must be finite, got nan or inf in {bad} of {values.numel()} places.")
