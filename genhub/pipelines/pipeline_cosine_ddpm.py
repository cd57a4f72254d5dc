"""Images from noise by denoising diffusion (Ho et al. 2020, arXiv 2006.11239, Algorithm 2), with diffusers' parts."""

import inspect

import torch
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor


class CosineDDPMPipeline(DiffusionPipeline):
    """Generates images with a denoising network and any scheduler of diffusers.

    Args:
        unet: called as `unet(sample, timestep, class_labels)`; its config has `in_channels` and `sample_size`.
        scheduler: `CosineDDPMScheduler`, or another one made of its config.
        num_inference_steps: how many steps a call takes where it does not say.
    """

    model_cpu_offload_seq = "unet"
    tasks = ("generate",)
    inputs = ("class_labels",)
    sampling_arguments = ("guidance_scale", "num_inference_steps", "timesteps")

    def __init__(self, unet: ModelMixin, scheduler: SchedulerMixin, num_inference_steps: int = 1000):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(num_inference_steps=num_inference_steps)
        self.image_processor = VaeImageProcessor(vae_scale_factor=1)

    def to_diffusers(self) -> DDPMPipeline | None:
        """Returns a plain pipeline that makes the same images, where diffusers alone has all parts; else None."""
        own = type(self.unet).__module__.startswith("diffusers.")
        if not own or self.unet.config.get("num_class_embeds"):
            return None
        scheduler = self.scheduler  # DDPMPipeline scales nothing and always passes a generator: no other one's images
        if not isinstance(scheduler, DDPMScheduler):
            scheduler = scheduler.to_diffusers() if "beta_max" in scheduler.config else None
        return None if scheduler is None else DDPMPipeline(unet=self.unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        timesteps: list[int] | None = None,
        class_labels: int | list[int] | torch.Tensor | None = None,
        guidance_scale: float = 1.0,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Generates `batch_size` images (one, or one for each entry of `class_labels`, where it is not given).

        Args:
            generator: source of the noise; a list of one generator for each image makes each image a function of its
            own. timesteps: falling noise levels to visit, instead of `num_inference_steps`.
            class_labels: class of each image, or one for all; for a network with `num_class_embeds`.
            guidance_scale: how far to go from the prediction without a class (the last of `num_class_embeds`) to that
                with it, and beyond (Ho & Salimans 2022, Eq. 6 with 1 + w); 1 is no guidance.
            latents: the initial noise, (batch_size, C, H, W), drawn from `generator` where it is not given.
            output_type: "pil", "np" (N, H, W, C) in [0, 1], or "pt" (N, C, H, W) in [0, 1].

        Raises:
            ValueError: labels out of range, or given to an unconditional network; a wrong number of steps, of
                generators or of latents; an unknown output type.
        """
        config = self.unet.config
        classes = self._classes(class_labels, batch_size, guidance_scale)
        if batch_size is None:
            batch_size = 1 if classes is None else len(classes)
        height, width = (config.sample_size,) * 2 if isinstance(config.sample_size, int) else config.sample_size
        shape = (batch_size, config.in_channels, height, width)
        self._check(shape, generator, latents, output_type)
        self._set_timesteps(num_inference_steps, timesteps)

        # x_T
        sample = latents
        if sample is None:
            sample = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype)
        sample = sample.to(self._execution_device, self.unet.dtype) * self.scheduler.init_noise_sigma

        # x_T -> x_0
        takes_generator = {"generator": generator} if self._steps_are_random() else {}
        for t in self.progress_bar(self.scheduler.timesteps):
            prediction = self._predict(self.scheduler.scale_model_input(sample, t), t, classes, guidance_scale)
            sample = self.scheduler.step(prediction, t, sample, **takes_generator).prev_sample

        images = self.image_processor.postprocess(sample.float(), output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _predict(
        self, sample: torch.Tensor, t: torch.Tensor, classes: torch.Tensor | None, scale: float
    ) -> torch.Tensor:
        """Calls the network, with classifier-free guidance where `scale` is not 1 (Ho & Salimans 2022, Eq. 6)."""
        if classes is None:
            return self.unet(sample, t).sample
        if scale == 1:
            return self.unet(sample, t, class_labels=classes).sample
        no_class = torch.full_like(classes, self.unet.config.num_class_embeds - 1)
        both = self.unet(torch.cat([sample, sample]), t, class_labels=torch.cat([classes, no_class])).sample
        with_class, without = both.chunk(2)
        return without + scale * (with_class - without)

    def _classes(self, labels, batch_size: int | None, scale: float) -> torch.Tensor | None:
        """Returns the class of each image, (B,), or None for an unconditional network."""
        known = self.unet.config.get("num_class_embeds")
        if known is None:
            if labels is not None or scale != 1:
                raise ValueError("`class_labels` and `guidance_scale` must be unset: the network is unconditional.")
            return None
        if labels is None:
            raise ValueError(f"`class_labels` must be given, in 0..{known - 1}: the network is conditional.")
        labels = torch.as_tensor(labels, device=self._execution_device).reshape(-1)
        if labels.is_floating_point() or (labels < 0).any() or (labels >= known).any():
            raise ValueError(f"`class_labels` must be integers in 0..{known - 1}, got {labels.tolist()}.")
        if len(labels) == 1 and batch_size is not None:
            labels = labels.expand(batch_size)
        if batch_size is not None and len(labels) != batch_size:
            raise ValueError(f"`class_labels` must hold {batch_size} entries, got {len(labels)}.")
        return labels.long()

    def _check(self, shape: tuple[int, ...], generator, latents, output_type: str):
        """Refuses what cannot work before the network is called."""
        if shape[0] < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {shape[0]}.")
        if isinstance(generator, list) and len(generator) != shape[0]:
            raise ValueError(f"`generator` must be one generator or {shape[0]} of them, got {len(generator)}.")
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(f"`latents` must have the shape {shape}, got {tuple(latents.shape)}.")
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"`output_type` must be pil, np or pt, got {output_type!r}.")

    def _set_timesteps(self, count: int | None, timesteps: list[int] | None):
        total = self.scheduler.config.num_train_timesteps
        if timesteps is not None:
            if count is not None:
                raise ValueError("Pass at most one of `num_inference_steps` and `timesteps`.")
            if "timesteps" not in inspect.signature(self.scheduler.set_timesteps).parameters:
                raise ValueError(f"`timesteps` must be unset: {type(self.scheduler).__name__} chooses its own.")
            self.scheduler.set_timesteps(timesteps=timesteps, device=self._execution_device)
            return
        count = self.config.num_inference_steps if count is None else count
        if not isinstance(count, int) or not 1 <= count <= total:
            raise ValueError(f"`num_inference_steps` must lie between 1 and {total}, got {count}.")
        self.scheduler.set_timesteps(count, device=self._execution_device)

    def _steps_are_random(self) -> bool:
        """Whether the scheduler's `step` draws noise from a generator."""
        return "generator" in inspect.signature(self.scheduler.step).parameters
