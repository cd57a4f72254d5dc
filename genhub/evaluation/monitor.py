"""A cheap metric of quality for training: good enough to see progress and to keep the best weights, not to publish."""

import torch

from genhub.data import Images, Lazy
from genhub.evaluation.features import ClassifierSpace, FeatureSpace, PixelSpace, pinned_spaces
from genhub.evaluation.generation import pixels
from genhub.evaluation.memorisation import QUANTILE, nearest
from genhub.evaluation.metrics import squared_mmd
from genhub.evaluation.protocol import is_fashion_mnist
from genhub.utils.cache import cached, content_hash, holds

MAX_IMAGES = 2000  # held-out images to compare with


class QualityMonitor:
    """Measures the kernel distance (KID, unbiased at any number of images) between generated and held-out images, and
    the share of generated images that are near to training images.

    The space is that of the protocol's classifier for Fashion MNIST, and the held-out images' pixels for other data.
    """

    def __init__(self, train: Images | Lazy, held_out: Images, device: str | torch.device = "cpu"):
        self.space = space_for(train, held_out, device)
        self.real = self.space(held_out.images[:MAX_IMAGES].cpu()).double()
        self.images = len(self.real)
        self.train = train.images.cpu() if isinstance(train, Images) else None
        if self.train is not None:
            self.near_distance = near_distance(held_out.images[:MAX_IMAGES].cpu(), self.train)

    @property
    def name(self) -> str:
        """Name of the metric in logs; smaller is better."""
        return f"val_kid_{self.space.name}"

    def __call__(self, images: torch.Tensor) -> float:
        """Returns 1000 times the kernel distance of generated uint8 `images` (N, C, H, W)."""
        return self.distance(self.space(images))

    def distance(self, features: torch.Tensor) -> float:
        """Returns 1000 times the kernel distance of generated images with these `features`, (N, D)."""
        return 1000 * squared_mmd(self.real, features.double())

    def near(self, images: torch.Tensor) -> dict[str, float]:
        """Returns the share of generated uint8 `images` (N, C, H, W) whose pixels are nearer to a training image than
        the nearest 1 % of the held-out ones, `val_near_pix`; empty for training images that are not in memory."""
        if self.train is None:
            return {}
        distance, _ = nearest(pixels(images), pixels(self.train))
        return {"val_near_pix": (distance < self.near_distance).double().mean().item()}

    def shares(self, features: torch.Tensor) -> dict[str, float]:
        """Returns the share of each class, `val_share/<class>`, among images with these `features`; empty in a space
        without classes."""
        if not isinstance(self.space, ClassifierSpace):
            return {}
        probabilities = self.space.probabilities(features)
        counts = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
        return {f"val_share/{label}": count / len(features) for label, count in enumerate(counts.tolist())}


def near_distance(held_out: torch.Tensor, train: torch.Tensor) -> float:
    """Returns the 1 % quantile of the distances from uint8 `held_out` images to their nearest `train` images."""

    def compute() -> dict[str, torch.Tensor]:
        return {"distance": nearest(pixels(held_out), pixels(train))[0]}

    stored = cached("nearest", content_hash("pix", held_out, train), compute, holds(len(held_out), "distance"))
    return stored["distance"].quantile(QUANTILE).item()


def space_for(train: Images | Lazy, held_out: Images, device: str | torch.device) -> FeatureSpace:
    """Returns the feature space to monitor a training run in."""
    if isinstance(train, Images) and is_fashion_mnist(train.images):
        return next(pinned_spaces(device))
    pixels = held_out.images.shape[1:].numel()
    return PixelSpace(held_out.images.cpu(), min(64, len(held_out), pixels))
