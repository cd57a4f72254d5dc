"""Classification of images."""

import torch
import torch.nn.functional as F
from torch import nn

from genhub.objectives.gan_augmentation import crop_padded
from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step


class Classification(Objective):
    """Cross-entropy with smoothed labels (Szegedy et al. 2016, arXiv 1512.00567, Sec. 7) on images that are shifted
    and partly erased (Zhong et al. 2017, arXiv 1708.04896, Algorithm 1; ours: rectangles that exceed the image are
    cropped, and the logarithm of the aspect ratio is uniform). Images are never mirrored, since features must tell
    mirror images apart.

    Args:
        classifier: called as `classifier(sample)`, returns `logits` (B, K); its config has `num_classes`.
        max_shift: maximal shift in pixels in each direction, onto black.
        erasing: probability of filling a random rectangle of an image with noise.
        trains_body: whether all of the classifier is trained, or its `head` alone on a frozen body in evaluation mode.
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
        self.label_smoothing, self.max_shift, self.erasing = label_smoothing, max_shift, erasing
        self.trains_body = trains_body

    def classification_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the cross-entropy of augmented images, in nats."""
        sample = shift(batch["sample"], self.max_shift, step)
        sample = erase(sample, self.erasing, step)
        if not self.trains_body:
            self.modules["classifier"].eval()  # batch normalisation uses and keeps its running statistics
        logits = self.modules["classifier"](sample).logits.float()  # (B, K)
        return {"loss": F.cross_entropy(logits, batch["labels"], label_smoothing=self.label_smoothing)}

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns the cross-entropy, in nats, and the accuracy on images without augmentation."""
        logits = self.modules["classifier"](batch["sample"]).logits.float()
        hits = logits.argmax(1) == batch["labels"]
        return {"loss": F.cross_entropy(logits, batch["labels"]), "accuracy": hits.float().mean()}


def shift(sample: torch.Tensor, max_shift: int, step: Step) -> torch.Tensor:
    """Moves each image of `sample` (B, C, H, W) by up to `max_shift` pixels in each direction, onto black (-1)."""
    top, left = step.random.randint(2 * max_shift + 1, 2).T  # (B,) each
    return crop_padded(sample, top, left, (max_shift, max_shift))


def erase(sample: torch.Tensor, probability: float, step: Step) -> torch.Tensor:
    """Fills a rectangle of some images (B, C, H, W) with noise: 2 to 40 % of the area, aspect ratio 0.3 to 1 / 0.3."""
    height, width = sample.shape[2:]
    chance, area, aspect, top, left = step.random.rand(5).T  # (B,) each
    area = (0.02 + 0.38 * area) * height * width
    aspect = torch.exp((2 * aspect - 1) * torch.tensor(0.3).log())
    rectangle_height = (area * aspect).sqrt().clamp(max=height)
    rectangle_width = (area / aspect).sqrt().clamp(max=width)
    top, left = top * (height - rectangle_height), left * (width - rectangle_width)
    rows = torch.arange(height, device=sample.device) + 0.5  # centres of pixels
    columns = torch.arange(width, device=sample.device) + 0.5
    in_rows = (rows >= top[:, None]) & (rows < (top + rectangle_height)[:, None])  # (B, H)
    in_columns = (columns >= left[:, None]) & (columns < (left + rectangle_width)[:, None])  # (B, W)
    hole = in_rows[:, :, None] & in_columns[:, None, :] & (chance < probability)[:, None, None]  # (B, H, W)
    noise = 2 * step.random.rand(*sample.shape[1:]) - 1
    return torch.where(hole[:, None], noise, sample)
