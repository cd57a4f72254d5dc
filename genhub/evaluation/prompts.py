"""What a model that takes prompts is asked for, and whether its images show what they say."""

from collections.abc import Sequence

import torch

from genhub.data import Captions, Images
from genhub.evaluation.metrics import mean_of
from genhub.evaluation.result import Metric


def captions_to_ask(train: Images, test: Images) -> list[tuple[str, int | None]] | None:
    """Returns captions of the test images, their own or by the rule of the training images, with their classes; None,
    so that prompts are empty, if there are neither captions nor classes with names to write them of."""
    if test.captions is not None:
        labels = [None] * len(test) if test.labels is None else test.labels.tolist()
        return [*zip(test.captions.tolist(), labels, strict=True)]
    if train.class_names is None or train.labels is None or test.labels is None:
        return None
    captions = Captions.fit(train).write(test)
    return [*zip(captions, test.labels.tolist(), strict=True)]


def attribute_fidelity(
    train: Images, prompts: Sequence[str], images: torch.Tensor, labels: torch.Tensor
) -> list[Metric]:
    """Returns the share of the attributes that prompts tell which uint8 images (N, C, H, W) of these classes have, by
    the rule of the training images that wrote the prompts; nothing if they tell none, or were not written."""
    if train.captions is not None:
        return []
    found = Captions.fit(train).agreement(prompts, images, labels)
    if not len(found):
        return []
    value, spread = mean_of(found)
    return [Metric("attribute fidelity", "", value, spread, "standard error over attributes", len(found))]
