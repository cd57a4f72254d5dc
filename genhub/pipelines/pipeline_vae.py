"""Images from a variational autoencoder (Kingma & Welling 2013, arXiv 1312.6114): from the prior, from one another,
and from places on a plane of latents."""

import math
from collections.abc import Sized

import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

Labels = int | list[int] | torch.Tensor | None
Generators = torch.Generator | list[torch.Generator] | None


class VAEPipeline(DiffusionPipeline):
    """Generates, encodes and reconstructs images.

    Args:
        vae: has `encode(sample, class_labels)` -> mean and logvar, and `decode(latents, class_labels)`; its config has
            `in_channels`, `sample_size`, `latent_channels`, `likelihood` and `num_class_embeds`.

    A picture is the mean of p(x|z); nothing is drawn from that. All methods take `class_labels`, one for each image or
    one for all, where the model is conditional; they return images as `output_type` says: "pil", "np" (N, H, W, C) in
    [0, 1], or "pt" (N, C, H, W) in [0, 1].
    """

    model_cpu_offload_seq = "vae"
    tasks = ("generate", "reconstruct", "encode", "interpolate", "traverse", "manifold")
    inputs = ("class_labels",)

    def __init__(self, vae: ModelMixin):
        super().__init__()
        self.register_modules(vae=vae)
        grey = vae.config["in_channels"] == 1
        self.image_processor = VaeImageProcessor(
            do_resize=False,
            do_normalize=False,  # it guesses the range from the least pixel of a batch
            vae_latent_channels=0,  # of images, not latents
            do_convert_grayscale=grey,
            do_convert_rgb=not grey,
        )

    def to_diffusers(self) -> None:
        """Returns None: diffusers has no such pipeline."""
        return None

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        generator: Generators = None,
        class_labels: Labels = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Generates images of z ~ N(0, I): `batch_size`, or one for each of `latents` or `class_labels`.

        Args:
            generator: source of z; a list of one generator for each image makes each image a function of its own.
            latents: z itself, (N, L), drawn from `generator` where it is not given.

        Raises:
            ValueError: labels out of range, or given to an unconditional network; latents of another length; a wrong
                number of generators or of latents; an unknown output type.
        """
        if batch_size is None:
            labels = 1 if class_labels is None else torch.as_tensor(class_labels).numel()
            batch_size = labels if latents is None else len(latents)
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        self._check_generators(generator, batch_size)
        shape = (batch_size, self.vae.config["latent_channels"])
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(f"`latents` must have the shape {shape}, got {tuple(latents.shape)}.")
        self._classes(class_labels, batch_size)  # before any work
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.vae.dtype)
        return self.decode(latents, class_labels, output_type, return_dict)

    @torch.no_grad()
    def encode(self, image: PipelineImageInput, class_labels: Labels = None) -> torch.Tensor:
        """Returns the means of q(z|x), (N, L), of PIL images, arrays (N, H, W, C) or tensors (N, C, H, W) in [0, 1].

        Raises:
            ValueError: images of another size or of other channels than the model's, or not in [0, 1].
        """
        sample = self._sample(image)
        mean, _ = self.vae.encode(sample, self._classes(class_labels, len(sample)))
        self.maybe_free_model_hooks()
        return mean

    @torch.no_grad()
    def decode(
        self, latents: torch.Tensor, class_labels: Labels = None, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Returns the images of `latents` (N, L).

        Raises:
            ValueError: latents of another length than the model's, or an unknown output type.
        """
        length = self.vae.config["latent_channels"]
        if not isinstance(latents, torch.Tensor) or latents.ndim != 2 or latents.shape[1] != length:
            got = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
            raise ValueError(f"`latents` must be (N, {length}), got {got}.")
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"`output_type` must be pil, np or pt, got {output_type!r}.")
        latents = latents.to(self._execution_device, self.vae.dtype)
        decoded = self.vae.decode(latents, self._classes(class_labels, len(latents))).float()
        is_bernoulli = self.vae.config["likelihood"] == "bernoulli"
        images = torch.sigmoid(decoded) if is_bernoulli else ((decoded + 1) / 2).clamp(0, 1)
        self.maybe_free_model_hooks()
        images = self.image_processor.postprocess(images, output_type=output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    @torch.no_grad()
    def reconstruct(
        self,
        image: PipelineImageInput,
        class_labels: Labels = None,
        generator: Generators = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Returns reconstructions from the mean of q(z|x), or from one draw of it where a `generator` is given."""
        sample = self._sample(image)
        self._check_generators(generator, len(sample))
        latents, logvar = self.vae.encode(sample, self._classes(class_labels, len(sample)))
        if generator is not None:
            noise = randn_tensor(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)
            latents = latents + (logvar / 2).exp() * noise
        return self.decode(latents, class_labels, output_type, return_dict)

    def interpolate(
        self,
        first: PipelineImageInput,
        second: PipelineImageInput,
        num_images: int = 7,
        class_labels: Labels = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Returns `num_images` images at equal steps on the line between the codes of two images, both ends included.

        Raises:
            ValueError: fewer than two images are asked for, or the ends are not one image each.
        """
        ends = [self.encode(image, class_labels) for image in (first, second)]
        if any(len(codes) != 1 for codes in ends):
            raise ValueError(f"`first` and `second` must be one image each, got {len(ends[0])} and {len(ends[1])}.")
        weights = self._steps(0, 1, num_images, ends[0])[:, None]  # (N, 1)
        return self.decode(torch.lerp(*ends, weights), class_labels, output_type, return_dict)

    def traverse(
        self,
        axis: int,
        low: float = -0.8,
        high: float = 0.8,
        num_images: int = 7,
        latents: torch.Tensor | None = None,
        class_labels: Labels = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Returns `num_images` images of one code that differs in one number, from `low` to `high`.

        Args:
            axis: which number, from 0.
            latents: the code, (1, L); zeros where it is not given.

        Raises:
            ValueError: there is no such axis, fewer than two images are asked for, or the code has another length.
        """
        length = self.vae.config["latent_channels"]
        if not 0 <= axis < length:
            raise ValueError(f"`axis` must lie in 0..{length - 1}, got {axis}.")
        if latents is not None and tuple(latents.shape) != (1, length):
            raise ValueError(f"`latents` must have the shape (1, {length}), got {tuple(latents.shape)}.")
        base = torch.zeros(1, length) if latents is None else latents
        codes = base.repeat(max(num_images, 1), 1)
        codes[:, axis] = self._steps(low, high, num_images, codes)
        return self.decode(codes, class_labels, output_type, return_dict)

    def manifold(
        self,
        num_images: int = 400,
        low: float = 0.05,
        high: float = 0.95,
        axes: tuple[int, int] = (0, 1),
        class_labels: Labels = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Returns the images of a square grid in a plane of latents, row by row: the first of `axes` grows to the
        right, the second downwards, both at the quantiles `low` to `high` of the standard normal distribution, and all
        other latents are 0 (Kingma & Welling 2013, App. A).

        Raises:
            ValueError: the number of images is not a square, the quantiles do not lie in (0, 1), or an axis does not
                exist.
        """
        side = math.isqrt(max(num_images, 0))
        if side < 2 or side**2 != num_images:
            raise ValueError(f"`num_images` must make a square grid, such as 4 or 400, got {num_images}.")
        if not 0 < low < high < 1:
            raise ValueError(f"`low` and `high` must be quantiles, 0 < low < high < 1, got {low} and {high}.")
        length = self.vae.config["latent_channels"]
        if len(axes) != 2 or axes[0] == axes[1] or not all(0 <= axis < length for axis in axes):
            raise ValueError(f"`axes` must be two of 0..{length - 1}, got {axes}.")
        values = torch.special.ndtri(torch.linspace(low, high, side))  # (S,)
        codes = torch.zeros(side, side, length)
        codes[:, :, axes[0]], codes[:, :, axes[1]] = values, values[:, None]
        return self.decode(codes.flatten(0, 1), class_labels, output_type, return_dict)

    def _check_generators(self, generator: Generators, count: int):
        if isinstance(generator, list) and len(generator) != count:
            raise ValueError(f"`generator` must be one generator or {count} of them, got {len(generator)}.")

    def _steps(self, low: float, high: float, count: int, like: torch.Tensor) -> torch.Tensor:
        if count < 2:
            raise ValueError(f"`num_images` must be at least 2, got {count}.")
        return torch.linspace(low, high, count).to(like)

    def _sample(self, image: PipelineImageInput) -> torch.Tensor:
        """Returns images as the model takes them: (N, C, H, W) in [-1, 1], in its dtype and on its device."""
        if isinstance(image, Sized) and not len(image):
            raise ValueError("`image` must hold at least one image, got none.")
        images, config = self.image_processor.preprocess(image), self.vae.config
        size = config["sample_size"]
        wanted = (config["in_channels"], *((size, size) if isinstance(size, int) else size))
        if tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"`image` must be (N, C, H, W) = (N, {', '.join(map(str, wanted))}), as the model's, got "
                f"{tuple(images.shape)}."
            )
        if not (images.is_floating_point() and images.isfinite().all() and 0 <= images.min() <= images.max() <= 1):
            raise ValueError(
                f"`image` must be floats in [0, 1], got {images.dtype} from {images.min()} to {images.max()}."
            )
        return (2 * images - 1).to(self._execution_device, self.vae.dtype)

    def _classes(self, labels: Labels, count: int) -> torch.Tensor | None:
        """Returns the class of each of `count` images, (N,), or None for an unconditional network."""
        known = self.vae.config.get("num_class_embeds")
        if known is None:
            if labels is not None:
                raise ValueError("`class_labels` must be unset: the network is unconditional.")
            return None
        if labels is None:
            raise ValueError(f"`class_labels` must be given, in 0..{known - 1}: the network is conditional.")
        labels = torch.as_tensor(labels, device=self._execution_device).reshape(-1)
        if labels.is_floating_point() or (labels < 0).any() or (labels >= known).any():
            raise ValueError(f"`class_labels` must be integers in 0..{known - 1}, got {labels.tolist()}.")
        if len(labels) not in (1, count):
            raise ValueError(f"`class_labels` must hold 1 or {count} entries, got {len(labels)}.")
        return labels.expand(count).long()
