"""A cheap metric of quality for training: good enough to see progress and to keep the best weights, not to publish."""

import torch

from genhub.data import Images, Lazy
from genhub.evaluation.features import ClassifierSpace, FeatureSpace, PixelSpace, pinned_spaces
from genhub.evaluation.metrics import squared_mmd
from genhub.evaluation.protocol import is_fashion_mnist

MAX_IMAGES = 2000  # held-out images to compare with


class QualityMonitor:
    """Measures the kernel distance (KID, unbiased at any number of images) between generated and held-out images.

    The space is that of the protocol's classifier for Fashion MNIST, and the held-out images' pixels for other data.
    """

    def __init__(self, train: Images | Lazy, held_out: Images, device: str | torch.device = "cpu"):
        self.space = space_for(train, held_out, device)
        self.real = self.space(held_out.images[:MAX_IMAGES].cpu()).double()
        self.images = len(self.real)

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

    def shares(self, features: torch.Tensor) -> dict[str, float]:
        """Returns the share of each class, `val_share/<class>`, among images with these `features`; empty in a space
        without classes."""
        if not isinstance(self.space, ClassifierSpace):
            return {}
        probabilities = self.space.probabilities(features)
        counts = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
        return {f"val_share/{label}": count / len(features) for label, count in enumerate(counts.tolist())}


def space_for(train: Images | Lazy, held_out: Images, device: str | torch.device) -> FeatureSpace:
    """Returns the feature space to monitor a training run in."""
    if isinstance(train, Images) and is_fashion_mnist(train.images):
        return next(pinned_spaces(device))
    pixels = held_out.images[0].numel()
    return PixelSpace(held_out.images.cpu(), min(64, len(held_out), pixels))
