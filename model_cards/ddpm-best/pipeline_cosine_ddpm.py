"""Denoising diffusion (Ho et al. 2020, arXiv 2006.11239, Algorithm 2) with classifier-free guidance."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

Labels = int | list[int] | torch.Tensor | None
Generators = torch.Generator | list[torch.Generator] | None


class CosineDDPMPipeline(DiffusionPipeline):
    """Generates images with a denoising network and any scheduler of diffusers.

    Args:
        unet: called as `unet(sample, timestep, class_labels=...)`. Its config has `in_channels` and `sample_size`, and
            `num_class_embeds` if it is conditional.
        scheduler: `CosineDDPMScheduler`, or another one made from its config.
        num_inference_steps: number of steps if a call does not say.
        num_classes: number of real classes; all of `num_class_embeds` if not given. If the network has one more, that
            one, the last, is the null class, which stands for no class.
        guidance_scale: of calls with `class_labels` that do not say.
    """

    model_cpu_offload_seq = "unet"
    tasks = ("generate",)
    inputs = ("class_labels",)
    sampling_arguments = ("guidance_scale", "num_inference_steps", "timesteps")
    _callback_tensor_inputs = ("latents", "pred_original_sample")

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        num_inference_steps: int = 1000,
        num_classes: int | None = None,
        guidance_scale: float = 1.0,
    ):
        super().__init__()
        embeds = unet.config.get("num_class_embeds")
        if num_classes is not None and embeds not in (num_classes, num_classes + 1):
            raise ValueError(
                f"`num_classes` must be the network's `num_class_embeds`, {embeds}, or one less if the last one is a "
                f"null class, got {num_classes}."
            )
        self.register_modules(unet=unet, scheduler=scheduler)
        self._check_scheduler()
        self.register_to_config(
            num_inference_steps=num_inference_steps,
            num_classes=embeds if num_classes is None else num_classes,
            guidance_scale=guidance_scale,
        )
        if guidance_scale != 1 and embeds and not self.has_null_class:
            raise ValueError(f"`guidance_scale` must be 1: the network has no null class, got {guidance_scale}.")
        self.image_processor = VaeImageProcessor(vae_scale_factor=1)

    def _check_scheduler(self):
        """Refuses a scheduler with other noise levels, or another prediction, than the network says it has."""
        for name in ("num_train_timesteps", "beta_schedule", "prediction_type"):
            trained, given = self.unet.config.get(name), self.scheduler.config.get(name)
            if trained not in (None, given):
                raise ValueError(f"`scheduler.{name}` must be that of the network, {trained}, got {given}.")
        levels, given = (getattr(part, "alphas_cumprod", None) for part in (self.unet, self.scheduler))
        if levels is not None and given is not None and not torch.allclose(levels.cpu(), given.cpu()):
            raise ValueError("`scheduler` must have the noise levels of the network, got others.")

    @property
    def has_null_class(self) -> bool:
        """Whether the network knows a class that stands for no class."""
        num_classes = self.config["num_classes"]
        return num_classes is not None and self.unet.config["num_class_embeds"] == num_classes + 1

    def to_diffusers(self) -> DDPMPipeline | None:
        """Returns a plain pipeline that makes the same images if diffusers alone has all parts, else None."""
        has_own_network = not type(self.unet).__module__.startswith("diffusers.")
        if has_own_network or self.unet.config.get("num_class_embeds"):
            return None
        scheduler = self.scheduler  # DDPMPipeline scales no input and passes a generator to each step
        if not isinstance(scheduler, DDPMScheduler):
            scheduler = scheduler.to_diffusers() if "beta_max" in scheduler.config else None
        return None if scheduler is None else DDPMPipeline(unet=self.unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        generator: Generators = None,
        num_inference_steps: int | None = None,
        timesteps: list[int] | None = None,
        class_labels: Labels = None,
        guidance_scale: float | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """Generates `batch_size` images; if not given, one for each of `class_labels`, or one.

        Args:
            generator: random source; a list of one per image makes each image a function of its own generator.
            timesteps: decreasing noise levels to visit, instead of `num_inference_steps`.
            class_labels: class of each image, or one for all; None is the null class, without guidance.
            guidance_scale: extrapolates the prediction from the null class through the class (Ho & Salimans 2022,
                arXiv 2207.12598, Eq. 6, where this is 1 + w); 1 is no guidance. By default the pipeline's.
            latents: the initial noise, (N, C, H, W), instead of a draw from `generator`.
            output_type: "pil", "np" (N, H, W, C) in [0, 1], or "pt" (N, C, H, W) in [0, 1].
            callback_on_step_end: called after each step as `callback(pipeline, step, timestep, tensors)`, as in all of
                diffusers; "latents" in the dictionary that it returns replace the sample.
            callback_on_step_end_tensor_inputs: `tensors` of these names: "latents", the sample after the step, and
                "pred_original_sample", the x_0 predicted in it, both (N, C, H, W).

        Raises:
            ValueError: labels are out of range or given to an unconditional network, or missing for one without a null
                class; guidance without labels or without a null class; a wrong number of steps, generators or latents;
                or an unknown output type or name of a callback's tensor.
        """
        if batch_size is None:
            batch_size = 1 if class_labels is None else torch.as_tensor(class_labels).numel()
        size = self.unet.config["sample_size"]
        size = (size, size) if isinstance(size, int) else size
        shape = (batch_size, self.unet.config["in_channels"], *size)
        self._check(shape, generator, latents, output_type)
        shown = self._callback_names(callback_on_step_end, callback_on_step_end_tensor_inputs)
        classes = self._classes(class_labels, batch_size)
        guidance_scale = self._guidance(guidance_scale, class_labels)
        self._set_timesteps(num_inference_steps, timesteps)

        # x_T -> x_0
        sample = self._initial_noise(shape, generator, latents)
        is_random = "generator" in inspect.signature(self.scheduler.step).parameters
        random_source = {"generator": generator} if is_random else {}
        for step, t in enumerate(self.progress_bar(self.scheduler.timesteps)):  # pyright: ignore
            x_t = self.scheduler.scale_model_input(sample, t)
            prediction = self._predict(x_t, t, classes, guidance_scale)
            sample = self.scheduler.step(prediction, t, sample, **random_source).prev_sample
            if callback_on_step_end is not None:
                tensors = {"latents": sample} if "latents" in shown else {}
                if "pred_original_sample" in shown:
                    tensors["pred_original_sample"] = self._predict_x_0(prediction, t, x_t)
                sample = callback_on_step_end(self, step, t, tensors).pop("latents", sample)

        return self._output(sample, output_type, return_dict)

    def _initial_noise(
        self, shape: tuple[int, ...], generator: Generators, latents: torch.Tensor | None
    ) -> torch.Tensor:
        """Returns x_T in float32, of the standard deviation that the scheduler starts from."""
        noise = randn_tensor(shape, generator=generator, device=self._execution_device) if latents is None else latents
        return noise.to(self._execution_device, torch.float32) * self.scheduler.init_noise_sigma

    def _predict(
        self, sample: torch.Tensor, t: torch.Tensor, classes: torch.Tensor | None, guidance_scale: float
    ) -> torch.Tensor:
        """Calls the network, twice in one batch if there is guidance (Ho & Salimans 2022, Eq. 6), and returns float32
        whatever its dtype: between steps the sample keeps its digits."""
        sample, t = sample.to(self.unet.dtype), t.to(sample.device, non_blocking=True)
        if classes is None:
            return self.unet(sample, t).sample.float()
        if guidance_scale == 1:
            return self.unet(sample, t, class_labels=classes).sample.float()
        no_class = torch.full_like(classes, self.config["num_classes"])
        both = self.unet(torch.cat([sample, sample]), t, class_labels=torch.cat([classes, no_class])).sample.float()
        conditional, unconditional = both.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    def _predict_x_0(self, prediction: torch.Tensor, t: torch.Tensor, x_t: torch.Tensor) -> torch.Tensor:
        """Returns the x_0 that a prediction means (Salimans & Ho 2022, arXiv 2202.00512, Sec. 4); some schedulers ask
        for a `t` between two timesteps."""
        alpha_bars, before = self.scheduler.alphas_cumprod.double().cpu(), int(t)
        after = min(before + 1, len(alpha_bars) - 1)
        alpha_bar = float(torch.lerp(alpha_bars[before], alpha_bars[after], float(t) - before))
        signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        if self.scheduler.config["prediction_type"] == "epsilon":
            return (x_t - noise * prediction) / signal
        is_velocity = self.scheduler.config["prediction_type"] == "v_prediction"
        return signal * x_t - noise * prediction if is_velocity else prediction

    def _callback_names(self, callback: Callable[..., dict] | None, names: Sequence[str]) -> Sequence[str]:
        """Returns the names of the tensors that a callback gets."""
        if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
            names = callback.tensor_inputs
        if not set(names) <= set(self._callback_tensor_inputs):
            known = ", ".join(self._callback_tensor_inputs)
            raise ValueError(f"`callback_on_step_end_tensor_inputs` must be among {known}, got {list(names)}.")
        if "pred_original_sample" in names and not hasattr(self.scheduler, "alphas_cumprod"):
            scheduler = type(self.scheduler).__name__
            raise ValueError(f"`pred_original_sample` needs a scheduler with `alphas_cumprod`, got {scheduler}.")
        return names

    def _classes(self, labels: Labels, count: int) -> torch.Tensor | None:
        """Returns the class of each of `count` images, (N,); None for an unconditional network."""
        num_classes = self.config["num_classes"]
        if num_classes is None:
            if labels is not None:
                raise ValueError("`class_labels` must be unset: the network is unconditional.")
            return None
        if labels is not None:
            return self._expand_labels(labels, count, num_classes)
        if not self.has_null_class:
            raise ValueError(f"`class_labels` must be given, in 0..{num_classes - 1}: the network has no null class.")
        return torch.full((count,), num_classes, device=self._execution_device)

    def _guidance(self, guidance_scale: float | None, labels: Labels) -> float:
        """Returns the scale of a call, by default the pipeline's if there are labels."""
        if guidance_scale is None:
            return 1.0 if labels is None else self.config["guidance_scale"]
        if guidance_scale != 1 and not self.has_null_class:
            raise ValueError(f"`guidance_scale` must be 1: the network has no null class, got {guidance_scale}.")
        if guidance_scale != 1 and labels is None:
            raise ValueError(f"`guidance_scale` must be 1 without `class_labels`, got {guidance_scale}.")
        return guidance_scale

    def _check(self, shape: tuple[int, ...], generator: Generators, latents: torch.Tensor | None, output_type: str):
        """Checks arguments before the network is called."""
        if shape[0] < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {shape[0]}.")
        self._check_generators(generator, shape[0])
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(f"`latents` must have the shape {shape}, got {tuple(latents.shape)}.")
        self._check_output_type(output_type)

    def _set_timesteps(self, count: int | None, timesteps: list[int] | None):
        """Sets the timesteps, on the CPU: schedulers read them, and a GPU would have to wait in every step."""
        total = self.scheduler.config.num_train_timesteps
        if timesteps is not None:
            if count is not None:
                raise ValueError("Pass at most one of `num_inference_steps` and `timesteps`.")
            if "timesteps" not in inspect.signature(self.scheduler.set_timesteps).parameters:
                raise ValueError(f"`timesteps` must be unset: {type(self.scheduler).__name__} chooses its own.")
            if not timesteps or min(timesteps) < 0 or max(timesteps) >= total:
                raise ValueError(f"`timesteps` must fall strictly within {total - 1}..0, got {list(timesteps)}.")
            self.scheduler.set_timesteps(timesteps=timesteps)
        else:
            count = self.config["num_inference_steps"] if count is None else count
            if not isinstance(count, int) or not 1 <= count <= total:
                raise ValueError(f"`num_inference_steps` must lie between 1 and {total}, got {count}.")
            self.scheduler.set_timesteps(count)
        if hasattr(self.scheduler, "set_begin_index"):  # else it looks for the first timestep, which may stand twice
            self.scheduler.set_begin_index(0)

    # Same as genhub.pipelines.pipeline_vae.VAEPipeline._expand_labels
    def _expand_labels(self, labels: Labels, count: int, num_classes: int) -> torch.Tensor:
        """Returns `labels`, one for each image or one for all, as a tensor (N,)."""
        labels = torch.as_tensor(labels, device=self._execution_device).reshape(-1)
        if labels.is_floating_point() or (labels < 0).any() or (labels >= num_classes).any():
            raise ValueError(f"`class_labels` must be integers in 0..{num_classes - 1}, got {labels.tolist()}.")
        if len(labels) not in (1, count):
            raise ValueError(f"`class_labels` must hold 1 or {count} entries, got {len(labels)}.")
        return labels.expand(count).long()

    # Same as genhub.pipelines.pipeline_vae.VAEPipeline._check_generators
    def _check_generators(self, generator: Generators, count: int):
        if isinstance(generator, list) and len(generator) != count:
            raise ValueError(f"`generator` must be one generator or {count} of them, got {len(generator)}.")

    # Same as genhub.pipelines.pipeline_autoencoder.AutoencoderPipeline._output
    def _output(self, images: torch.Tensor, output_type: str, return_dict: bool) -> ImagePipelineOutput | tuple:
        """Returns images in the form that `output_type` names."""
        self.maybe_free_model_hooks()
        converted: Any = self.image_processor.postprocess(images, output_type=output_type)
        return ImagePipelineOutput(images=converted) if return_dict else (converted,)

    # Same as genhub.pipelines.pipeline_autoencoder.AutoencoderPipeline._check_output_type
    def _check_output_type(self, output_type: str):
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"`output_type` must be pil, np or pt, got {output_type!r}.")
