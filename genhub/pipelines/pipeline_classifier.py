"""Classes of images, by a classifier."""

from dataclasses import dataclass

import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.utils import BaseOutput


@dataclass
class ImageClassificationOutput(BaseOutput):
    """The classes of N images.

    Args:
        labels: the most probable class of each, (N,).
        probabilities: of each class, (N, K).
    """

    labels: torch.Tensor
    probabilities: torch.Tensor


class ImageClassificationPipeline(DiffusionPipeline):
    """Names the class of images.

    Args:
        classifier: called as `classifier(sample)`, gives `logits`; its config has `in_channels`.
    """

    model_cpu_offload_seq = "classifier"
    tasks = ("classify",)
    inputs = ("image",)
    output = "labels"
    pipeline_tag = "image-classification"

    def __init__(self, classifier: ModelMixin):
        super().__init__()
        self.register_modules(classifier=classifier)
        grey = classifier.config["in_channels"] == 1
        self.image_processor = VaeImageProcessor(
            do_resize=False,
            do_normalize=False,  # it guesses the range from the least pixel of a batch
            vae_latent_channels=0,  # of images, not latents
            do_convert_grayscale=grey,
            do_convert_rgb=not grey,
        )

    def to_diffusers(self) -> None:
        """Returns None: diffusers has no classifier."""
        return None

    @torch.no_grad()
    def __call__(
        self, image: PipelineImageInput, return_dict: bool = True
    ) -> ImageClassificationOutput | tuple[torch.Tensor, torch.Tensor]:
        """Returns the classes of one image or several: PIL images, arrays (N, H, W, C) in [0, 1], or tensors
        (N, C, H, W) in [0, 1].

        Raises:
            ValueError: other channels than the network's, or pixels that are no numbers in [0, 1].
        """
        images = self.image_processor.preprocess(image)  # (N, C, H, W) in [0, 1]
        channels = self.classifier.config["in_channels"]
        if images.shape[1] != channels:
            raise ValueError(f"`image` must have {channels} channel(s), got {images.shape[1]}.")
        if not (images.is_floating_point() and 0 <= images.min() <= images.max() <= 1):
            raise ValueError(
                f"`image` must be floats in [0, 1], got {images.dtype} from {images.min()} to {images.max()}."
            )
        sample = (2 * images - 1).to(self._execution_device, self.classifier.dtype)
        probabilities = self.classifier(sample).logits.float().softmax(1)
        self.maybe_free_model_hooks()
        labels = probabilities.argmax(1)
        return ImageClassificationOutput(labels, probabilities) if return_dict else (labels, probabilities)
