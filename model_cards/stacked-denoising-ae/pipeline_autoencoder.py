"""Autoencoders: reconstruct, denoise and encode images, and find images by a short binary code."""

import inspect
import math
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, ModelMixin
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils import BaseOutput


@dataclass
class SearchOutput(BaseOutput):
    """The K nearest images to each of N queries, nearest first; at equal distance, those indexed first.

    Args:
        indices: (N, K), of the images in the call of `index`.
        distances: (N, K), Hamming distances of the hashes, in bits.
    """

    indices: torch.Tensor
    distances: torch.Tensor


class AutoencoderPipeline(DiffusionPipeline):
    """Reconstructs and encodes images, and decodes codes.

    Images are PIL images, arrays (N, H, W, C) or tensors (N, C, H, W) in [0, 1]; `output_type` is "pil", "np" or "pt".

    Args:
        autoencoder: `autoencoder(sample)` returns `sample` and `latents`; has `encode` and `decode`. Its config has
            `in_channels`, `sample_size` and `latent_channels`.
        clip_sample: whether images are bounded by [0, 1]; False for other data, such as points.
    """

    model_cpu_offload_seq = "autoencoder"
    tasks = ("reconstruct", "denoise", "encode", "hash")
    inputs = ("image",)
    pipeline_tag = "image-feature-extraction"

    def __init__(self, autoencoder: ModelMixin, clip_sample: bool = True):
        super().__init__()
        self.register_modules(autoencoder=autoencoder)
        self.register_to_config(clip_sample=clip_sample)
        self.image_processor = self._make_image_processor()
        if autoencoder.config.get("latent_activation") != "sigmoid":
            self.tasks = tuple(task for task in self.tasks if task != "hash")
        self._indexed: torch.Tensor | None = None

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
        return self.autoencoder

    @property
    def output(self) -> str:
        """The kind of data: "images" or "points"."""
        return "images" if self.config["clip_sample"] else "points"

    @property
    def example(self) -> str:
        """Code for the model card, in which `pipe` is the pipeline."""
        if self.config["clip_sample"]:
            comment = "`image`: a PIL image, or a list of them"
            return f"codes = pipe.encode(image)  # {comment}\nimages = pipe.decode(codes).images"
        return 'codes = pipe.encode(points)  # (N, C, H, W)\npoints = pipe.decode(codes, output_type="pt").images'

    @torch.no_grad()
    def __call__(
        self, image: PipelineImageInput, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Reconstructs images.

        Raises:
            ValueError: the size or channels differ from the network's, a pixel is not in [0, 1], or `output_type` is
                unknown.
        """
        self._check_output(output_type)
        return self.decode(self.encode(image), output_type, return_dict)

    def reconstruct(
        self, image: PipelineImageInput, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Reconstructs images, as a call of the pipeline does."""
        return self(image, output_type, return_dict)

    @torch.no_grad()
    def denoise(
        self, image: PipelineImageInput, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Reconstructs noisy images, whose pixels may leave [0, 1], with a model trained on corrupted images."""
        self._check_output(output_type)
        codes = self._encode(self._sample(image, is_bounded=False))
        return self.decode(codes, output_type, return_dict)

    @torch.no_grad()
    def encode(self, image: PipelineImageInput) -> torch.Tensor:
        """Returns the codes of images, (N, L)."""
        codes = self._encode(self._sample(image, is_bounded=self.config["clip_sample"]))
        self.maybe_free_model_hooks()
        return codes

    @torch.no_grad()
    def decode(
        self, latents: torch.Tensor, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Decodes codes (N, L) to images.

        Raises:
            ValueError: the length of the codes differs from the network's, or `output_type` is unknown.
        """
        self._check_codes(latents)
        self._check_output(output_type)
        latents = latents.to(self._execution_device, self.autoencoder.dtype)
        sample = self.autoencoder.decode(latents.view(-1, *self._latent_shape()))
        sample = sample if isinstance(sample, torch.Tensor) else sample.sample
        images = (sample.float() + 1) / 2
        images = images.clamp(0, 1) if self.config["clip_sample"] else images
        return self._output(images, output_type, return_dict)

    def _encode(self, sample: torch.Tensor) -> torch.Tensor:
        """Returns the codes of images (N, C, H, W) in [-1, 1]: of an `AutoencoderKL` the mode of the posterior."""
        codes = self.autoencoder.encode(sample)
        return codes if isinstance(codes, torch.Tensor) else codes.latent_dist.mode().flatten(1)

    def _latent_shape(self) -> tuple[int, ...]:
        """Returns the shape of the latents of one image: those of an `AutoencoderKL` are an image."""
        config = self.network.config
        if not isinstance(self.network, AutoencoderKL):
            return (config["latent_channels"],)
        size, factor = config["sample_size"], 2 ** (len(config["block_out_channels"]) - 1)
        height, width = (size, size) if isinstance(size, int) else size
        return (config["latent_channels"], height // factor, width // factor)

    def hash(self, image: PipelineImageInput) -> torch.Tensor:
        """Returns the semantic hashes of images (Salakhutdinov & Hinton 2009), integers (N,) whose bit k is unit k of
        the code, rounded.

        Raises:
            ValueError: the code is not made of sigmoids, or too long for an integer.
        """
        return (self._bits(image).long() << torch.arange(self._code_length(), device=self._execution_device)).sum(1)

    def index(self, image: PipelineImageInput) -> None:
        """Stores the hashes of the images to be searched, in place of those stored before."""
        self._indexed = self._bits(image)

    def search(
        self, image: PipelineImageInput, num_images: int = 5, return_dict: bool = True
    ) -> SearchOutput | tuple[torch.Tensor, torch.Tensor]:
        """Finds the `num_images` indexed images with the smallest Hamming distance to each image.

        Raises:
            ValueError: no images were indexed, or fewer than `num_images`.
        """
        self._code_length()
        if self._indexed is None:
            raise ValueError("`index` must be called with the images to search in before `search`.")
        if not 1 <= num_images <= len(self._indexed):
            raise ValueError(f"`num_images` must lie in 1..{len(self._indexed)}, got {num_images}.")
        queries = self._bits(image)
        distances = queries.sum(1)[:, None] + self._indexed.sum(1) - 2 * queries @ self._indexed.T  # (N, M)
        distances, indices = (part[:, :num_images] for part in distances.long().sort(dim=1, stable=True))
        return SearchOutput(indices, distances) if return_dict else (indices, distances)

    def _bits(self, image: PipelineImageInput) -> torch.Tensor:
        """Returns the rounded codes of images, (N, L) of 0 and 1."""
        self._code_length()
        return self.encode(image).float().round()

    def _code_length(self) -> int:
        """Returns the number of bits of a hash."""
        if self.autoencoder.config.get("latent_activation") != "sigmoid":
            raise ValueError(f"A hash needs a model whose `latent_activation` is sigmoid: {type(self.autoencoder)}.")
        if (length := self.autoencoder.config["latent_channels"]) > 62:
            raise ValueError(f"A hash has at most 62 bits, the model has {length} units.")
        return length

    def _output(self, images: torch.Tensor, output_type: str, return_dict: bool) -> ImagePipelineOutput | tuple:
        """Returns images in the form that `output_type` names; raises ValueError if they are not finite."""
        self.maybe_free_model_hooks()
        if bad := int((~images.isfinite()).flatten(1).any(1).sum()):
            raise ValueError(f"The images must be finite, got {bad} of {len(images)} with NaN or infinity.")
        converted: Any = self.image_processor.postprocess(images, output_type=output_type)
        return ImagePipelineOutput(images=converted) if return_dict else (converted,)

    def _check_output(self, output_type: str):
        self._check_output_type(output_type)
        if output_type == "pil" and not self.config["clip_sample"]:
            raise ValueError("`output_type` must be np or pt, got 'pil': the model's data are not pictures.")

    def _check_output_type(self, output_type: str):
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"`output_type` must be pil, np or pt, got {output_type!r}.")

    def _check_codes(self, latents: torch.Tensor):
        length = math.prod(self._latent_shape())
        if not isinstance(latents, torch.Tensor) or latents.ndim != 2 or latents.shape[1] != length:
            got = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
            raise ValueError(f"`latents` must be (N, {length}), got {got}.")

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
