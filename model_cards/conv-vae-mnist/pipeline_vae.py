"""Variational autoencoders (Kingma & Welling 2013, arXiv 1312.6114): images from the prior, reconstructions,
interpolations, and walks through the latents."""

import difflib
import inspect
import math
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

Labels = int | str | Sequence[int | str] | torch.Tensor | None
Generators = torch.Generator | list[torch.Generator] | None


class VAEPipeline(DiffusionPipeline):
    """Generates, encodes and reconstructs images.

    An image is the mean of p(x|z). Methods take `class_labels`, one for each image or one for all, if the model is
    conditional, and return images as `output_type` says: "pil", "np" (N, H, W, C) in [0, 1], or "pt" (N, C, H, W) in
    [0, 1].

    Args:
        vae: has `encode(sample, class_labels)`, which returns mean and logvar, and `decode(latents, class_labels)`.
            Its config has `in_channels`, `sample_size`, `latent_channels`, `likelihood` and `num_class_embeds`.
        id2label: the name of each class, as in `DiTPipeline`; labels may be names then.
    """

    model_cpu_offload_seq = "vae"
    tasks = ("generate", "reconstruct", "encode", "interpolate", "traverse", "manifold")
    inputs = ("class_labels",)

    def __init__(self, vae: ModelMixin, id2label: Mapping[Any, str] | None = None):
        super().__init__()
        self.register_modules(vae=vae)
        self._register_names(id2label, vae.config.get("num_class_embeds") or 0)
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
        return self.vae

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
        """Generates images from z ~ N(0, I): `batch_size`, or one for each of `latents` or `class_labels`.

        Args:
            generator: random source of z; a list of one per image makes each image a function of its own generator.
            latents: z itself, (N, L), instead of a draw from `generator`.

        Raises:
            ValueError: labels are missing, out of range or given to an unconditional network; latents have another
                shape; there are too many or too few generators or latents; or `output_type` is unknown.
        """
        if batch_size is None:
            labels = 1 if class_labels is None else torch.as_tensor(self._numbers(class_labels)).numel()
            batch_size = labels if latents is None else len(latents)
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        self._check_generators(generator, batch_size)
        shape = (batch_size, self.vae.config["latent_channels"])
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(f"`latents` must have the shape {shape}, got {tuple(latents.shape)}.")
        self._classes(class_labels, batch_size)  # before any work
        if latents is None:
            latents = self._draw(shape, generator)
        return self.decode(latents, class_labels, output_type, return_dict)

    @torch.no_grad()
    def encode(self, image: PipelineImageInput, class_labels: Labels = None) -> torch.Tensor:
        """Returns the means of q(z|x), (N, L), of PIL images, arrays (N, H, W, C) or tensors (N, C, H, W) in [0, 1].

        Raises:
            ValueError: the size or channels differ from the network's, or a pixel is not in [0, 1].
        """
        sample = self._sample(image)
        mean, _ = self.vae.encode(sample, self._classes(class_labels, len(sample)))
        self.maybe_free_model_hooks()
        return mean

    @torch.no_grad()
    def decode(
        self, latents: torch.Tensor, class_labels: Labels = None, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Decodes `latents` (N, L) to images.

        Raises:
            ValueError: the length of the latents differs from the network's, or `output_type` is unknown.
        """
        self._check_codes(latents)
        self._check_output_type(output_type)
        latents = latents.to(self._execution_device, self.vae.dtype)
        decoded = self.vae.decode(latents, self._classes(class_labels, len(latents))).float()
        is_bernoulli = self.vae.config["likelihood"] == "bernoulli"
        images = torch.sigmoid(decoded) if is_bernoulli else ((decoded + 1) / 2).clamp(0, 1)
        return self._output(images, output_type, return_dict)

    @torch.no_grad()
    def reconstruct(
        self,
        image: PipelineImageInput,
        class_labels: Labels = None,
        generator: Generators = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Reconstructs images from the mean of q(z|x) or, given a `generator`, from one draw of z."""
        sample = self._sample(image)
        self._check_generators(generator, len(sample))
        latents, logvar = self.vae.encode(sample, self._classes(class_labels, len(sample)))
        if generator is not None:
            latents = latents + (logvar / 2).exp() * self._draw(latents.shape, generator)
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
        """Decodes `num_images` codes at equal steps on the line between the codes of two images, both included.

        Raises:
            ValueError: `num_images` is less than 2, or `first` or `second` is not one image.
        """
        start, end = self.encode(first, class_labels), self.encode(second, class_labels)
        if len(start) != 1 or len(end) != 1:
            raise ValueError(f"`first` and `second` must be one image each, got {len(start)} and {len(end)}.")
        weights = self._steps(0, 1, num_images, start)[:, None]  # (N, 1)
        return self.decode(torch.lerp(start, end, weights), class_labels, output_type, return_dict)

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
        """Decodes one code `num_images` times, with its entry `axis` moved from `low` to `high`.

        Args:
            latents: the code, (1, L); zeros if not given.

        Raises:
            ValueError: there is no such axis, `num_images` is less than 2, or the code has another length.
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
        """Decodes a square grid in a plane of latents, row by row (Kingma & Welling 2013, App. A).

        The first of `axes` grows to the right, the second downwards, both at the quantiles `low` to `high` of the
        standard normal distribution; all other latents are 0.

        Raises:
            ValueError: `num_images` is not a square, the quantiles do not lie in (0, 1), or there is no such axis.
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

    def _draw(self, shape: tuple[int, ...], generator: Generators) -> torch.Tensor:
        """Draws in float32, so that a seed means the same in every dtype."""
        drawn = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        return drawn.to(self.vae.dtype)

    def _steps(self, low: float, high: float, count: int, like: torch.Tensor) -> torch.Tensor:
        """Returns `count` numbers at equal steps from `low` to `high`."""
        if count < 2:
            raise ValueError(f"`num_images` must be at least 2, got {count}.")
        return torch.linspace(low, high, count).to(like)

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """Returns the classes of these names.

        Raises:
            ValueError: a name is unknown.
        """
        known = {name: int(number) for number, name in (self.config["id2label"] or {}).items()}
        names = [label] if isinstance(label, str) else list(label)
        if not known:
            raise ValueError(f"`class_labels` must be numbers: the classes have no names, got {names}.")
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"; did you mean {', '.join(near)}?" if near else f", which are {', '.join(known)}."
                raise ValueError(f"`class_labels` must be names of `id2label`, got {name!r}{hint}")
        return [known[name] for name in names]

    def _register_names(self, id2label: Mapping[Any, str] | None, num_classes: int):
        """Stores the names of the classes."""
        if id2label is not None and {int(number) for number in id2label} != set(range(num_classes)):
            raise ValueError(f"`id2label` must name the classes 0..{num_classes - 1}, got {dict(id2label)}.")
        names = None if id2label is None else {str(number): name for number, name in id2label.items()}
        self.register_to_config(id2label=names)

    def _numbers(self, labels: Labels) -> int | list[int] | torch.Tensor | None:
        """Returns labels with numbers for names."""
        if isinstance(labels, str):
            return self.get_label_ids(labels)
        if isinstance(labels, Sequence):
            return [self.get_label_ids(label)[0] if isinstance(label, str) else label for label in labels]
        return labels

    def _classes(self, labels: Labels, count: int) -> torch.Tensor | None:
        """Returns the class of each of `count` images, (N,); None for an unconditional network."""
        num_classes = self.network.config.get("num_class_embeds")
        if num_classes is None:
            if labels is not None:
                raise ValueError("`class_labels` must be unset: the network is unconditional.")
            return None
        if labels is None:
            raise ValueError(f"`class_labels` must be given, in 0..{num_classes - 1}: the network is conditional.")
        return self._expand_labels(self._numbers(labels), count, num_classes)

    def _expand_labels(self, labels: Labels, count: int, num_classes: int) -> torch.Tensor:
        """Returns `labels`, one for each image or one for all, as a tensor (N,)."""
        labels = torch.as_tensor(labels, device=self._execution_device).reshape(-1)
        if labels.is_floating_point() or (labels < 0).any() or (labels >= num_classes).any():
            raise ValueError(f"`class_labels` must be integers in 0..{num_classes - 1}, got {labels.tolist()}.")
        if len(labels) not in (1, count):
            raise ValueError(f"`class_labels` must hold 1 or {count} entries, got {len(labels)}.")
        return labels.expand(count).long()

    def _check_generators(self, generator: Generators, count: int):
        if isinstance(generator, list) and len(generator) != count:
            raise ValueError(f"`generator` must be one generator or {count} of them, got {len(generator)}.")

    # Same as genhub.pipelines.pipeline_autoencoder.AutoencoderPipeline._output
    def _output(self, images: torch.Tensor, output_type: str, return_dict: bool) -> ImagePipelineOutput | tuple:
        """Returns images in the form that `output_type` names; raises ValueError if they are not finite."""
        self.maybe_free_model_hooks()
        if bad := int((~images.isfinite()).flatten(1).any(1).sum()):
            raise ValueError(f"The images must be finite, got {bad} of {len(images)} with NaN or infinity.")
        converted: Any = self.image_processor.postprocess(images, output_type=output_type)
        return ImagePipelineOutput(images=converted) if return_dict else (converted,)

    # Same as genhub.pipelines.pipeline_autoencoder.AutoencoderPipeline._check_output_type
    def _check_output_type(self, output_type: str):
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"`output_type` must be pil, np or pt, got {output_type!r}.")

    def _check_codes(self, latents: torch.Tensor):
        length = self.network.config["latent_channels"]
        if not isinstance(latents, torch.Tensor) or latents.ndim != 2 or latents.shape[1] != length:
            got = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
            raise ValueError(f"`latents` must be (N, {length}), got {got}.")

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
