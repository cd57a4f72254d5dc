"""Protocol `fmnist-eval-1`: what must be equal for two numbers to be comparable."""

import torch

from genhub.data import Images
from genhub.utils.cache import content_hash

PROTOCOL = "fmnist-eval-1"
COUNT = 10_000  # generated images, against the official 10,000 test images
BATCH_SIZE = 250  # images of one call of the pipeline, which has a generator of its own
SEED = 10_000  # of sampling, plus the seed of training
NEIGHBOURS = 5  # k of precision, recall, density and coverage
SUBSETS, SUBSET_SIZE = 100, 1000  # of the kernel distance
DIRECTIONS = 1000  # of the sliced Wasserstein distance
SIZES = (1000, 2000, 4000, 6000, 8000, 10_000)  # numbers of images to extrapolate to infinity from
# content hashes of Fashion MNIST: its first 500 training images, and images and labels of the splits
FASHION_MNIST = "a778db1915a475e18add4a7cec4f5095"
OFFICIAL = {"train": "27430240bc54ee850153a7db8398eea7", "test": "68c0de5c782208833beccc2150c2242c"}
PADDING = 2  # pixels on each side by which a model pads 28 x 28 to 32 x 32


def is_fashion_mnist(images: torch.Tensor) -> bool:
    """Returns whether the first of these uint8 training images are those of Fashion MNIST."""
    return content_hash(images[:500]) == FASHION_MNIST


def is_official(train: Images, test: Images) -> bool:
    """Returns whether these are the protocol's splits: the first 55,000 training images and the 10,000 test images."""
    splits = {"train": train, "test": test}
    return all(
        images.labels is not None and content_hash(images.images, images.labels) == OFFICIAL[name]
        for name, images in splits.items()
    )


def is_followed(samples: dict) -> bool:
    """Returns whether the record of `samples` is what the protocol demands; of images that are already there, it is
    their number."""
    demanded = {"images": COUNT, "batch_size": BATCH_SIZE, "dtype": "float32"}
    return all(samples.get(name, value) == value for name, value in demanded.items())


def to_bytes(images: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Rounds generated images (N, C, H, W) in [0, 1] to uint8, as in a saved file, and crops padding.

    Raises:
        ValueError: a value is not finite, or the images are not of `shape` (C, H, W). Nothing is filtered or resized.
    """
    if not torch.isfinite(images).all():
        bad = int((~torch.isfinite(images)).flatten(1).any(1).sum())
        raise ValueError(f"The images must be finite, got {bad} of {len(images)} with NaN or infinity.")
    return (crop(images, shape).clamp(0, 1) * 255).round().to(torch.uint8).contiguous()  # safetensors demands it


def crop(images: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Crops padding of generated images (N, C, H, W).

    Raises:
        ValueError: the images are not of `shape` (C, H, W).
    """
    padded = (shape[0], shape[1] + 2 * PADDING, shape[2] + 2 * PADDING)
    if tuple(images.shape[1:]) == padded:
        images = images[:, :, PADDING:-PADDING, PADDING:-PADDING]
    if tuple(images.shape[1:]) != shape:
        raise ValueError(
            f"The generated images must be like the real ones, (C, H, W) = {shape}, got {tuple(images.shape[1:])}."
        )
    return images.contiguous()
