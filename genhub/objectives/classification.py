"""Learning to name the class of an image."""

import torch
import torch.nn.functional as F
from torch import nn

from genhub.objectives.gan_augmentation import moved
from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step


class Classification(Objective):
    """Cross-entropy with smoothed labels (Szegedy et al. 2016, arXiv 1512.00567, Sec. 7), on images that are shifted
    and partly erased (Zhong et al. 2017, arXiv 1708.04896, Algorithm 1, but for a rectangle that is cut to the image
    where it would be larger, and the logarithm of the aspect ratio uniform). Never mirrored: features must see that.

    Args:
        classifier: called as `classifier(sample)`, gives `logits` (B, K).
        max_shift: pixels by which an image is moved at most, up or down and left or right; what enters is black.
        erasing: probability that a random rectangle of an image is filled with noise.
        trains_body: False moves the classifier's `head` alone; what is beneath stays, its running statistics too.
    """

    def __init__(
        self,
        classifier: nn.Module,
        label_smoothing: float = 0.1,
        max_shift: int = 2,
        erasing: float = 0.25,
        trains_body: bool = True,
    ):
        for name, share in (("label_smoothing", label_smoothing), ("erasing", erasing)):
            if not 0 <= share <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1], got {share}.")
        if max_shift < 0:
            raise ValueError(f"`max_shift` must be at least 0, got {max_shift}.")
        self.modules = {"classifier": classifier}
        self.phases = (Phase("classifier" if trains_body else "classifier.head", self.classification_loss),)
        self.num_classes = classifier.config["num_classes"]
        self.label_smoothing, self.max_shift, self.erasing = label_smoothing, max_shift, erasing
        self.trains_body = trains_body

    def check(self, shape):
        """Refuses what `Objective.check` refuses, and more classes than the network has."""
        super().check(shape)
        classes = shape.num_classes or len(shape.class_names or ())
        if classes > self.num_classes:
            raise ValueError(
                f"`components.classifier.num_classes` is {self.num_classes}, the data set has {classes} classes."
            )

    def classification_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the cross-entropy of augmented images, in nats."""
        sample = shifted(batch["sample"], self.max_shift, step)
        sample = erased(sample, self.erasing, step)
        if not self.trains_body:
            self.modules["classifier"].eval()  # frozen, it normalises by what it has seen
        logits = self.modules["classifier"](sample).logits.float()  # (B, K)
        return {"loss": F.cross_entropy(logits, batch["labels"], label_smoothing=self.label_smoothing)}

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns cross-entropy, in nats, and accuracy of held-out images as they are."""
        logits = self.modules["classifier"](batch["sample"]).logits.float()
        hits = logits.argmax(1) == batch["labels"]
        return {"loss": F.cross_entropy(logits, batch["labels"]), "accuracy": hits.float().mean()}


def shifted(sample: torch.Tensor, most: int, step: Step) -> torch.Tensor:
    """Moves each image of `sample` (B, C, H, W) by up to `most` pixels in each direction, onto black (-1)."""
    top, left = step.random.randint(2 * most + 1, 2).T  # (B,) each
    return moved(sample, top, left, (most, most))


def erased(sample: torch.Tensor, probability: float, step: Step) -> torch.Tensor:
    """Fills in some images a rectangle with noise: area 2 to 40 % of the image, aspect ratio 0.3 to 1 / 0.3."""
    height, width = sample.shape[2:]
    chance, area, aspect, top, left = step.random.rand(5).T  # (B,) each
    area = (0.02 + 0.38 * area) * height * width
    aspect = torch.exp((2 * aspect - 1) * torch.tensor(0.3).log())
    high = (area * aspect).sqrt().clamp(max=height)
    wide = (area / aspect).sqrt().clamp(max=width)
    top, left = top * (height - high), left * (width - wide)
    rows = torch.arange(height, device=sample.device) + 0.5  # the middles of pixels
    columns = torch.arange(width, device=sample.device) + 0.5
    in_rows = (rows >= top[:, None]) & (rows < (top + high)[:, None])  # (B, H)
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])  # (B, W)
    hole = in_rows[:, :, None] & in_columns[:, None, :] & (chance < probability)[:, None, None]  # (B, H, W)
    noise = 2 * step.random.rand(*sample.shape[1:]) - 1
    return torch.where(hole[:, None], noise, sample)
