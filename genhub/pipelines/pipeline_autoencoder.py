"""What an autoencoder is used for: to copy, to clean, to encode, and to find images by a short binary code."""

from collections.abc import Sized
from dataclasses import dataclass

import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils import BaseOutput


@dataclass
class SearchOutput(BaseOutput):
    """The images found for each of N, the nearest first; of equally near ones, those indexed first.

    Args:
        indices: (N, K), their places in what was indexed.
        distances: (N, K), the bits in which the hashes differ.
    """

    indices: torch.Tensor
    distances: torch.Tensor


class AutoencoderPipeline(DiffusionPipeline):
    """Encodes images, and makes images of codes.

    Args:
        autoencoder: called as `autoencoder(sample)`, gives `sample` and `latents`, and has `encode` and `decode`; its
            config has `in_channels`, `sample_size` and `latent_channels`.
        clip_sample: images are in [0, 1], and so is what is made; False for data without bounds, such as points.
    """

    model_cpu_offload_seq = "autoencoder"
    tasks = ("reconstruct", "denoise", "encode", "hash")
    inputs = ("image",)
    pipeline_tag = "image-feature-extraction"

    def __init__(self, autoencoder: ModelMixin, clip_sample: bool = True):
        super().__init__()
        self.register_modules(autoencoder=autoencoder)
        self.register_to_config(clip_sample=clip_sample)
        grey = autoencoder.config["in_channels"] == 1
        self.image_processor = VaeImageProcessor(
            do_resize=False,
            do_normalize=False,  # it guesses the range from the least pixel of a batch
            vae_latent_channels=0,  # of images, not latents
            do_convert_grayscale=grey,
            do_convert_rgb=not grey,
        )
        self._indexed: torch.Tensor | None = None

    @property
    def example(self) -> str:
        """Returns code that uses the pipeline `pipe`, for its card."""
        if self.config.clip_sample:
            how = "`image`: a PIL image, or a list of them"
            return f"codes = pipe.encode(image)  # {how}\nimages = pipe.decode(codes).images"
        return 'codes = pipe.encode(points)  # (N, C, H, W)\npoints = pipe.decode(codes, output_type="pt").images'

    def to_diffusers(self) -> None:
        """Returns None: diffusers has no such pipeline."""
        return None

    @torch.no_grad()
    def __call__(
        self, image: PipelineImageInput, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Returns the reconstructions of one image or several: PIL images, arrays (N, H, W, C) or tensors (N, C, H, W)
        in [0, 1].

        Args:
            output_type: "pil", "np" (N, H, W, C) in [0, 1], or "pt" (N, C, H, W) in [0, 1].

        Raises:
            ValueError: images of another size or of other channels than the model's, pixels that are no numbers in
                [0, 1], or an unknown output type.
        """
        self._check_output_type(output_type)
        return self.decode(self.encode(image), output_type, return_dict)

    def reconstruct(
        self, image: PipelineImageInput, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Returns the reconstructions of images, as a call of the pipeline does."""
        return self(image, output_type, return_dict)

    @torch.no_grad()
    def denoise(
        self, image: PipelineImageInput, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Returns clean images of noisy ones, whose pixels may leave [0, 1]: what a model that was trained on
        corrupted images reconstructs."""
        self._check_output_type(output_type)
        codes = self.autoencoder.encode(self._sample(image, is_noisy=True))
        return self.decode(codes, output_type, return_dict)

    @torch.no_grad()
    def encode(self, image: PipelineImageInput) -> torch.Tensor:
        """Returns the codes (N, L) of images."""
        codes = self.autoencoder.encode(self._sample(image))
        self.maybe_free_model_hooks()
        return codes

    @torch.no_grad()
    def decode(
        self, latents: torch.Tensor, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Returns the images of codes (N, L).

        Raises:
            ValueError: codes of another length than the model's, or an unknown output type.
        """
        length = self.autoencoder.config["latent_channels"]
        if not isinstance(latents, torch.Tensor) or latents.ndim != 2 or latents.shape[1] != length:
            got = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
            raise ValueError(f"`latents` must be (N, {length}), got {got}.")
        self._check_output_type(output_type)
        sample = self.autoencoder.decode(latents.to(self._execution_device, self.autoencoder.dtype))
        images = (sample.float() + 1) / 2
        images = images.clamp(0, 1) if self.config.clip_sample else images
        self.maybe_free_model_hooks()
        images = self.image_processor.postprocess(images, output_type=output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def hash(self, image: PipelineImageInput) -> torch.Tensor:
        """Returns the codes of images, rounded to bits and read as one integer, (N,): bit k is unit k.

        Raises:
            ValueError: the code of the model is not made of sigmoids, or too long for an integer.
        """
        return (self._bits(image).long() << torch.arange(self._code_length(), device=self._execution_device)).sum(1)

    def index(self, image: PipelineImageInput) -> None:
        """Keeps the hashes of the images that `search` finds, in place of those of an earlier call."""
        self._indexed = self._bits(image)

    def search(
        self, image: PipelineImageInput, num_images: int = 5, return_dict: bool = True
    ) -> SearchOutput | tuple[torch.Tensor, torch.Tensor]:
        """Finds, for each image, the `num_images` indexed ones whose hashes differ in the fewest bits.

        Raises:
            ValueError: nothing was indexed, or fewer images than are asked for.
        """
        self._code_length()
        if self._indexed is None:
            raise ValueError("`index` must be called with the images to search in before `search`.")
        if not 1 <= num_images <= len(self._indexed):
            raise ValueError(f"`num_images` must lie in 1..{len(self._indexed)}, as many as are indexed.")
        asked, known = self._bits(image), self._indexed
        differing = asked.sum(1)[:, None] + known.sum(1) - 2 * asked @ known.T  # (N, M)
        distances, indices = differing.long().sort(dim=1, stable=True)
        found = indices[:, :num_images], distances[:, :num_images]
        return SearchOutput(*found) if return_dict else found

    def _bits(self, image: PipelineImageInput) -> torch.Tensor:
        """Returns the rounded codes of images, (N, L) of 0 and 1."""
        self._code_length()
        return self.encode(image).float().round()

    def _code_length(self) -> int:
        config = self.autoencoder.config
        if config.get("latent_activation") != "sigmoid":
            raise ValueError(f"A hash needs a model whose `latent_activation` is sigmoid: {type(self.autoencoder)}.")
        if config["latent_channels"] > 62:
            raise ValueError(f"A hash has at most 62 bits, the model has {config['latent_channels']} units.")
        return config["latent_channels"]

    def _check_output_type(self, output_type: str):
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"`output_type` must be pil, np or pt, got {output_type!r}.")
        if output_type == "pil" and not self.config.clip_sample:
            raise ValueError("`output_type` must be np or pt, got 'pil': the model is not one of pictures.")

    def _sample(self, image: PipelineImageInput, is_noisy: bool = False) -> torch.Tensor:
        """Returns images as the model takes them: (N, C, H, W) in [-1, 1], in its dtype and on its device."""
        if isinstance(image, Sized) and not len(image):
            raise ValueError("`image` must hold at least one image, got none.")
        images, config = self.image_processor.preprocess(image), self.autoencoder.config
        size = config["sample_size"]
        wanted = (config["in_channels"], *((size, size) if isinstance(size, int) else size))
        if tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"`image` must be (N, C, H, W) = (N, {', '.join(map(str, wanted))}), as the model's, got "
                f"{tuple(images.shape)}."
            )
        if not (images.is_floating_point() and images.isfinite().all()):
            raise ValueError(f"`image` must be finite floats, got {images.dtype}.")
        if self.config.clip_sample and not is_noisy and not 0 <= images.min() <= images.max() <= 1:
            raise ValueError(f"`image` must be in [0, 1], got {images.min()} to {images.max()}.")
        return (2 * images - 1).to(self._execution_device, self.autoencoder.dtype)
