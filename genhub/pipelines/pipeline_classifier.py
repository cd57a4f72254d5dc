"""Classification of images."""

import inspect
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.utils import BaseOutput


@dataclass
class ImageClassificationOutput(BaseOutput):
    """The classes of N images.

    Args:
        labels: the most probable class of each image, (N,).
        probabilities: the probability of each class, (N, K).
        names: of the most probable classes, None if the classes have no names.
    """

    labels: torch.Tensor
    probabilities: torch.Tensor
    names: list[str] | None = None


class ImageClassificationPipeline(DiffusionPipeline):
    """Classifies images.

    Args:
        classifier: `classifier(sample)` returns `logits`. Its config has `in_channels` and, unless it takes any size,
            `sample_size`.
        id2label: the name of each class, as in `DiTPipeline`.
    """

    model_cpu_offload_seq = "classifier"
    tasks = ("classify",)
    inputs = ("image",)
    output = "labels"
    pipeline_tag = "image-classification"

    def __init__(self, classifier: ModelMixin, id2label: Mapping[Any, str] | None = None):
        super().__init__()
        self.register_modules(classifier=classifier)
        self._register_names(id2label, classifier.config["num_classes"])
        self.image_processor = self._make_image_processor()

    # Same as genhub.pipelines.pipeline_autoencoder.AutoencoderPipeline.extract_init_dict
    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> tuple[dict, dict, dict]:
        """Reads a config but for `auto_map`, which tells `AutoModel` where the code is."""
        return super().extract_init_dict({k: v for k, v in config_dict.items() if k != "auto_map"}, **kwargs)

    # Same as genhub.pipelines.pipeline_cosine_ddpm.CosineDDPMPipeline.from_pipe
    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Any:
        """Makes a pipeline of the components and the config of another one, but for those that are given."""
        names = {*inspect.signature(cls).parameters}  # diffusers leaves out networks of another class than annotated
        parts = {name: part for name, part in pipeline.components.items() if name in names}
        return super().from_pipe(pipeline, **{"dtype": pipeline.dtype} | parts | kwargs)

    @property
    def network(self) -> ModelMixin:
        """The network that images are passed to."""
        return self.classifier

    @property
    def example(self) -> str:
        """Code for the model card, in which `pipe` is the pipeline."""
        return "labels = pipe(image).labels  # `image`: a PIL image, or a list of them"

    @torch.no_grad()
    def __call__(
        self, image: PipelineImageInput, return_dict: bool = True
    ) -> ImageClassificationOutput | tuple[torch.Tensor, torch.Tensor]:
        """Classifies PIL images, arrays (N, H, W, C) or tensors (N, C, H, W) in [0, 1].

        Raises:
            ValueError: the channels or the size differ from the network's, or a pixel is not in [0, 1].
        """
        sample = self._sample(image)  # (N, C, H, W)
        probabilities = self.classifier(sample).logits.float().softmax(1)
        self.maybe_free_model_hooks()
        labels = probabilities.argmax(1)
        known = self.config["id2label"]
        names = None if known is None else [known[str(label)] for label in labels.tolist()]
        return ImageClassificationOutput(labels, probabilities, names) if return_dict else (labels, probabilities)

    # Same as genhub.pipelines.pipeline_vae.VAEPipeline._register_names
    def _register_names(self, id2label: Mapping[Any, str] | None, num_classes: int):
        """Stores the names of the classes."""
        if id2label is not None and {int(number) for number in id2label} != set(range(num_classes)):
            raise ValueError(f"`id2label` must name the classes 0..{num_classes - 1}, got {dict(id2label)}.")
        names = None if id2label is None else {str(number): name for number, name in id2label.items()}
        self.register_to_config(id2label=names)

    # Same as genhub.pipelines.pipeline_autoencoder.AutoencoderPipeline._make_image_processor
    def _make_image_processor(self) -> VaeImageProcessor:
        """Returns a processor that turns images grey or RGB, as the network's are, and resizes nothing."""
        config = self.network.config
        is_grey = (config.get("in_channels") or config["out_channels"]) == 1
        return VaeImageProcessor(
            do_resize=False,
            do_normalize=False,  # it guesses the range from the smallest pixel of a batch
            vae_latent_channels=0,  # of images, not latents
            do_convert_grayscale=is_grey,
            do_convert_rgb=not is_grey,
        )

    # Same as genhub.pipelines.pipeline_autoencoder.AutoencoderPipeline._sample
    def _sample(self, image: PipelineImageInput, is_bounded: bool = True) -> torch.Tensor:
        """Returns images as tensors (N, C, H, W), moved from [0, 1] to [-1, 1], in the network's dtype and device.

        Args:
            is_bounded: refuse pixels outside [0, 1].
        """
        if isinstance(image, Sized) and not len(image):
            raise ValueError("`image` must hold at least one image, got none.")
        images, config = self.image_processor.preprocess(image), self.network.config
        size = config.get("sample_size") or tuple(images.shape[2:])  # a network without it takes any size
        height, width = (size, size) if isinstance(size, int) else size
        shape = (config.get("in_channels") or config["out_channels"], height, width)
        if tuple(images.shape[1:]) != shape:
            expected = ", ".join(map(str, shape))
            raise ValueError(f"`image` must be (N, C, H, W) = (N, {expected}), got {tuple(images.shape)}.")
        if not (images.is_floating_point() and images.isfinite().all()):
            raise ValueError(f"`image` must be finite floats, got {images.dtype}.")
        if is_bounded and not 0 <= images.min() <= images.max() <= 1:
            raise ValueError(f"`image` must lie in [0, 1], got {images.min()} to {images.max()}.")
        return (2 * images - 1).to(self._execution_device, self.network.dtype)
