"""Restricted Boltzmann machines and deep belief nets (Hinton, Osindero & Teh 2006): images by Gibbs sampling,
reconstructions and codes."""

import inspect
from collections.abc import Callable, Sequence, Sized
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

Generators = torch.Generator | list[torch.Generator] | None


class BoltzmannPipeline(DiffusionPipeline):
    """Generates images by Gibbs sampling, encodes and reconstructs them.

    An image is the mean of p(v|h). Images are PIL images, arrays (N, H, W, C) or tensors (N, C, H, W) in [0, 1];
    `output_type` is "pil", "np" or "pt".

    Args:
        machine: has `encode(sample)`, `decode(latents, noise)` and `gibbs(latents, noise)`. Its config has
            `in_channels`, `sample_size`, `hidden_sizes` and `latent_channels`.
        num_inference_steps: default number of steps of Gibbs sampling.
    """

    model_cpu_offload_seq = "machine"
    tasks = ("generate", "reconstruct", "encode")
    sampling_arguments = ("num_inference_steps",)
    _callback_tensor_inputs = ("latents",)

    def __init__(self, machine: ModelMixin, num_inference_steps: int = 200):
        super().__init__()
        self.register_modules(machine=machine)
        self.register_to_config(num_inference_steps=num_inference_steps)
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
        return self.machine

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        generator: Generators = None,
        num_inference_steps: int | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """Generates images: `num_inference_steps` of Gibbs sampling in the top machine, then one pass down.

        Args:
            generator: random source; a list of one per image makes each image a function of its own generator.
            latents: (N, L), hidden states of the top machine to start from, instead of fair coins; the rounded codes
                of images start at those images.
            callback_on_step_end: called after each step as `callback(pipeline, step, timestep, tensors)`, as in all of
                diffusers; "latents" in the dictionary that it returns replace the hidden states.
            callback_on_step_end_tensor_inputs: `tensors` of these names: "latents".

        Raises:
            ValueError: there are too many or too few generators or latents, `latents` have another shape,
                `num_inference_steps` is negative, or an output type or tensor is unknown.
        """
        batch_size = (1 if latents is None else len(latents)) if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        self._check_generators(generator, batch_size)
        self._check_output_type(output_type)
        length, hidden = self.machine.config["latent_channels"], self.machine.config["hidden_sizes"]
        if latents is not None and tuple(latents.shape) != (batch_size, length):
            raise ValueError(f"`latents` must have the shape {(batch_size, length)}, got {tuple(latents.shape)}.")
        steps = self.config["num_inference_steps"] if num_inference_steps is None else num_inference_steps
        if steps < 0:
            raise ValueError(f"`num_inference_steps` must be at least 0, got {steps}.")
        names = [name for name in callback_on_step_end_tensor_inputs if name != "latents"]
        if names:
            raise ValueError(f"`callback_on_step_end_tensor_inputs` must be among ['latents'], got {names}.")
        coins = self._draw(batch_size, length, generator) < 0.5 if latents is None else latents
        states = coins.to(self._execution_device, self.machine.dtype)
        bar: Any = self.progress_bar
        for step in bar(range(steps)):
            states = self.machine.gibbs(states, self._draw(batch_size, self._visible_size() + length, generator))
            if callback_on_step_end is not None:
                shown = dict.fromkeys(callback_on_step_end_tensor_inputs, states)
                states = callback_on_step_end(self, step, step, shown).pop("latents", states)
        return self.decode(states, self._draw(batch_size, sum(hidden), generator), output_type, return_dict)

    @torch.no_grad()
    def encode(self, image: PipelineImageInput) -> torch.Tensor:
        """Returns the means of the top hidden units, (N, L), of images.

        Raises:
            ValueError: the size or channels differ from the network's, or a pixel is not in [0, 1].
        """
        codes = self.machine.encode(self._sample(image))
        self.maybe_free_model_hooks()
        return codes

    @torch.no_grad()
    def decode(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Maps top hidden units (N, L) to the means of images; layers between are drawn with uniform `noise`
        (N, sum of `hidden_sizes`), or are means without.

        Raises:
            ValueError: the length of the latents differs from the network's, or `output_type` is unknown.
        """
        self._check_codes(latents)
        self._check_output_type(output_type)
        latents = latents.to(self._execution_device, self.machine.dtype)
        images = (self.machine.decode(latents, noise).float() + 1) / 2
        return self._output(images.clamp(0, 1), output_type, return_dict)

    @torch.no_grad()
    def reconstruct(
        self, image: PipelineImageInput, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Reconstructs images from the means of their top hidden units."""
        self._check_output_type(output_type)
        return self.decode(self.encode(image), None, output_type, return_dict)

    def _visible_size(self) -> int:
        """Returns the number of visible units of the top machine."""
        config = self.machine.config
        size = config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return (config["in_channels"] * height * width, *config["hidden_sizes"])[-1]

    def _draw(self, count: int, size: int, generator: Generators) -> torch.Tensor:
        """Returns uniform numbers in [0, 1), (count, size), in float32, so that a seed means the same in every
        dtype."""
        device = self._execution_device
        if isinstance(generator, list):
            rows = [torch.rand(size, generator=each, device=each.device) for each in generator]
            return torch.stack(rows).to(device)
        source = device if generator is None else generator.device
        return torch.rand(count, size, generator=generator, device=source).to(device)

    # Same as genhub.pipelines.pipeline_vae.VAEPipeline._check_generators
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

    # Same as genhub.pipelines.pipeline_vae.VAEPipeline._check_codes
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
