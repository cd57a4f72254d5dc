"""Denoising diffusion (Ho et al. 2020, arXiv 2006.11239, Algorithm 2), guided, and as an editor of images.

An image is edited by starting from its noisy form (Meng et al. 2021, SDEdit, arXiv 2108.01073), or by keeping what is
known about it in every predicted x_0 (Wang et al. 2022, DDNM, arXiv 2212.00490, Eq. 13). Both work with any scheduler.
"""

import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMPipeline, DDPMScheduler, DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

Labels = int | str | Sequence[int] | Sequence[str] | torch.Tensor | None
Generators = torch.Generator | list[torch.Generator] | None
Operator = Callable[[torch.Tensor], torch.Tensor]
PIXEL_ARGUMENTS = ("jump_length", "jump_n_sample", "operator")  # of calls that keep what is known of an image
MAX_TOGETHER = 32  # images that are called together with those of the null class; more would leave the cache
MAX_RATIO = 100  # of the first two sigmas of a second-order solver, which extrapolates a slope
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue in a grey image (ITU-R BT.601), as in PIL


class KnownPixels:
    """Pixels of an image that is looked for.

    Args:
        images: (N, C, H, W) in [-1, 1].
        is_known: (N, 1, H, W).
    """

    def __init__(self, images: torch.Tensor, is_known: torch.Tensor):
        self.images, self.is_known = images, is_known

    def __call__(self, x_0: torch.Tensor) -> torch.Tensor:
        """Returns x_0 with these pixels in the place of its own."""
        return torch.where(self.is_known, self.images, x_0)

    def within_range(self, x_0: torch.Tensor) -> torch.Tensor:
        """Returns x_0 with these pixels, in [-1, 1]."""
        return self(x_0.clamp(-1, 1))


class Measurement:
    """What a linear operator A makes of an image that is looked for (Wang et al. 2022, DDNM, Sec. 3.3).

    Args:
        y: the measured values, (N, c, h, w) in [-1, 1].
        measure: x -> A x, averages of pixels.
        spread: y -> a constant for all pixels of an average, so that A spread(y) = y.
    """

    def __init__(self, y: torch.Tensor, measure: Operator, spread: Operator):
        self.y, self.measure, self.spread = y, measure, spread

    @classmethod
    def of_means(cls, y: torch.Tensor, factor: int) -> "Measurement":
        """Measures means over squares of `factor` x `factor` pixels."""
        return cls(y, partial(F.avg_pool2d, kernel_size=factor), partial(F.interpolate, scale_factor=float(factor)))

    @classmethod
    def of_luminance(cls, y: torch.Tensor) -> "Measurement":
        """Measures the luminance of colours."""
        weights = torch.tensor(LUMINANCE, device=y.device)[:, None, None]
        return cls(y, lambda x: (weights * x).sum(1, keepdim=True), lambda y: y)

    def __call__(self, x_0: torch.Tensor) -> torch.Tensor:
        """Returns x_0 with the measured values in the place of its own (Eq. 13)."""
        return x_0 + self.spread(self.y - self.measure(x_0))

    def within_range(self, x_0: torch.Tensor) -> torch.Tensor:
        """Returns x_0 with the measured values, in [-1, 1]: shifted and clipped, where bisection finds the shift of
        the pixels of each average."""
        x_0 = self(x_0).clamp(-1, 1)
        high = torch.full_like(self.measure(x_0), 2.0)
        low = -high
        for _ in range(32):
            shift = (low + high) / 2
            is_low = self.measure((x_0 + self.spread(shift)).clamp(-1, 1)) < self.y
            low, high = torch.where(is_low, shift, low), torch.where(is_low, high, shift)
        return (x_0 + self.spread(high)).clamp(-1, 1)


Known = KnownPixels | Measurement


class CosineDDPMPipeline(DiffusionPipeline):
    """Generates and edits images with a denoising network and any scheduler of diffusers.

    Images to edit are PIL images, arrays (N, H, W, C) or tensors (N, C, H, W) in [0, 1].

    Args:
        unet: called as `unet(sample, timestep, class_labels=...)`. Its config has `in_channels` and `sample_size`, and
            `num_class_embeds` if it is conditional.
        scheduler: `CosineDDPMScheduler`, or another one made from its config.
        num_inference_steps: number of steps if a call does not say.
        num_classes: number of real classes; all of `num_class_embeds` if not given. If the network has one more, that
            one, the last, is the null class, which stands for no class.
        guidance_scale: of calls that do not say, if they have `class_labels` or there is a `guide`.
        guidance_interval: of calls that do not say; everywhere if not given.
        id2label: the name of each class, as in `DiTPipeline`.
        guide: a worse network for the same data, such as `unet` early in its training. Guidance then leads away from
            its predictions, not from those of the null class (Karras et al. 2024, arXiv 2406.02507, Eq. 3).
        vae: `AutoencoderKL` in whose latents the network works (Rombach et al. 2022, arXiv 2112.10752), if not in
            pixels.
    """

    model_cpu_offload_seq = "guide->unet->vae"
    _optional_components = ["guide", "vae"]  # noqa: RUF012
    tasks = ("generate", "outpaint")
    inputs = ("class_labels", "image", "mask_image")
    sampling_arguments = (
        *("guidance_interval", "guidance_scale", "height", "jump_length", "jump_n_sample", "num_inference_steps"),
        *("operator", "strength", "timesteps", "width"),
    )
    _callback_tensor_inputs = ("latents", "pred_original_sample")

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        num_inference_steps: int = 1000,
        num_classes: int | None = None,
        guidance_scale: float = 1.0,
        guidance_interval: Sequence[float] | None = None,
        id2label: Mapping[Any, str] | None = None,
        guide: ModelMixin | None = None,
        vae: AutoencoderKL | None = None,
    ):
        super().__init__()
        embeds = unet.config.get("num_class_embeds")
        if num_classes is not None and embeds not in (num_classes, num_classes + 1):
            raise ValueError(
                f"`num_classes` must be the network's `num_class_embeds`, {embeds}, or one less if the last one is a "
                f"null class, got {num_classes}."
            )
        self.register_modules(unet=unet, scheduler=scheduler, guide=guide, vae=vae)
        self._trained_levels = getattr(scheduler, "alphas_cumprod", None)  # of a network that does not say
        num_classes = embeds if num_classes is None else num_classes
        guidance_interval = (0.0, 1.0) if guidance_interval is None else guidance_interval
        self.register_to_config(
            num_inference_steps=num_inference_steps,
            num_classes=num_classes,
            guidance_scale=guidance_scale,
            guidance_interval=list(guidance_interval),
        )
        if guidance_scale != 1 and embeds and not (self.has_null_class or guide):
            raise ValueError(f"`guidance_scale` must be 1: the network has no null class, got {guidance_scale}.")
        self._check_interval(guidance_interval)
        self._register_names(id2label, num_classes or 0)
        self._check_parts()
        if vae is not None:  # what is known of an image says nothing exact about its latents
            self.tasks, self.inputs = ("generate", "reconstruct"), ("class_labels", "image")
            self.sampling_arguments = tuple(name for name in self.sampling_arguments if name not in PIXEL_ARGUMENTS)
        self.image_processor = VaeImageProcessor(vae_scale_factor=1)

    # Same as genhub.pipelines.pipeline_autoencoder.AutoencoderPipeline.extract_init_dict
    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> tuple[dict, dict, dict]:
        """Reads a config but for `auto_map`, which tells `AutoModel` where the code is."""
        return super().extract_init_dict({k: v for k, v in config_dict.items() if k != "auto_map"}, **kwargs)

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Any:
        """Makes a pipeline of the components and the config of another one, but for those that are given."""
        names = {*inspect.signature(cls).parameters}  # diffusers leaves out networks of another class than annotated
        parts = {name: part for name, part in pipeline.components.items() if name in names}
        return super().from_pipe(pipeline, **{"dtype": pipeline.dtype} | parts | kwargs)

    def enable_group_offload(self, *args: Any, offload_to_disk_path: str | None = None, **kwargs: Any):
        """Offloads the networks in groups of layers, as in all of diffusers.

        Raises:
            ValueError: both `unet` and `guide` would be offloaded to files, which have the same names.
        """
        if self.guide is not None and offload_to_disk_path is not None:
            raise ValueError("`offload_to_disk_path` must be unset: files of `guide` and `unet` have the same names.")
        super().enable_group_offload(*args, offload_to_disk_path=offload_to_disk_path, **kwargs)

    def _check_parts(self):
        """Refuses a scheduler of other noise levels, a guide with other inputs, or an autoencoder with other channels,
        than the network has."""
        config, guide, vae = self.unet.config, self.guide, self.vae
        variance = self.scheduler.config.get("variance_type")
        if config.get("out_channels") not in (None, config["in_channels"]) and not str(variance).startswith("learned"):
            raise ValueError(
                f"`scheduler.variance_type` must be learned, as `unet` returns a variance, got {variance!r}."
            )
        self._check_steps()
        for network in (self.unet, guide or self.unet):
            self._check_scheduler(network)
            for name in ("num_class_embeds", "in_channels"):
                if network.config.get(name) != config.get(name):
                    expected, got = config.get(name), network.config.get(name)
                    raise ValueError(f"`guide` must have the `{name}` of `unet`, {expected}, got {got}.")
        clips = [name for name in ("clip_sample", "thresholding") if self.scheduler.config.get(name)]
        if vae is not None and clips:
            raise ValueError(f"`scheduler.{clips[0]}` must be false: latents have no range to be clipped to.")
        if vae is not None and vae.config["latent_channels"] != config["in_channels"]:
            expected, got = config["in_channels"], vae.config["latent_channels"]
            raise ValueError(f"`vae` must have the `latent_channels` that `unet` takes, {expected}, got {got}.")

    def _check_scheduler(self, network: ModelMixin):
        """Refuses a scheduler with other noise levels, or another prediction, than a network says it has."""
        for name in ("num_train_timesteps", "beta_schedule", "prediction_type"):
            trained, given = network.config.get(name), self.scheduler.config.get(name)
            if trained not in (None, given):
                raise ValueError(f"`scheduler.{name}` must be that of the network, {trained}, got {given}.")
        levels = getattr(network, "alphas_cumprod", self._trained_levels)
        given = getattr(self.scheduler, "alphas_cumprod", None)
        if levels is None:
            return
        if given is None or given.shape != levels.shape or not torch.allclose(levels.cpu(), given.cpu()):
            name = type(self.scheduler).__name__
            raise ValueError(f"`scheduler` must have the noise levels of the network, got others in {name}.")

    def _check_steps(self):
        """Refuses a scheduler that does not make a sample of noise, step by step, from predictions alone."""
        scheduler = self.scheduler
        parts = [hasattr(scheduler, name) for name in ("init_noise_sigma", "order", "scale_model_input", "step")]
        if all(parts):
            parameters = inspect.signature(scheduler.step).parameters.values()
            parts.append(sum(parameter.default is parameter.empty for parameter in parameters) == 3)
        if not all(parts):
            raise ValueError(f"`scheduler` must denoise a sample step by step, got {type(scheduler).__name__}.")

    @property
    def has_null_class(self) -> bool:
        """Whether the network knows a class that stands for no class."""
        num_classes = self.config["num_classes"]
        return num_classes is not None and self.unet.config["num_class_embeds"] == num_classes + 1

    @property
    def vae_scale_factor(self) -> int:
        """Number of pixels on the side of a latent, as in Stable Diffusion; 1 without latents."""
        return 1 if self.vae is None else 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def image_channels(self) -> int:
        """Number of channels of images."""
        return (self.unet if self.vae is None else self.vae).config["in_channels"]

    @property
    def num_timesteps(self) -> int:
        """Number of steps of the last call, for callbacks."""
        return self._num_timesteps

    @property
    def guidance_scale(self) -> float:
        """Guidance of the last call; callbacks set `_guidance_scale` to change it."""
        return self._guidance_scale

    @property
    def interrupt(self) -> bool:
        """Whether the last call was stopped; callbacks set `_interrupt` to stop it."""
        return self._interrupt

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """Returns the classes of these names.

        Raises:
            ValueError: a name is unknown.
        """
        known = {name: int(number) for number, name in (self.config["id2label"] or {}).items()}
        names = [label] if isinstance(label, str) else list(label)
        if not known:
            last = (self.config["num_classes"] or 0) - 1
            raise ValueError(f"`class_labels` must be numbers in 0..{last}: the classes have no names, got {names}.")
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"; did you mean {', '.join(near)}?" if near else f", which are {', '.join(known)}."
                raise ValueError(f"`class_labels` must be names of `id2label`, got {name!r}{hint}")
        return [known[name] for name in names]

    # Same as genhub.pipelines.pipeline_vae.VAEPipeline._register_names
    def _register_names(self, id2label: Mapping[Any, str] | None, num_classes: int):
        """Stores the names of the classes."""
        if id2label is not None and {int(number) for number in id2label} != set(range(num_classes)):
            raise ValueError(f"`id2label` must name the classes 0..{num_classes - 1}, got {dict(id2label)}.")
        names = None if id2label is None else {str(number): name for number, name in id2label.items()}
        self.register_to_config(id2label=names)

    def to_diffusers(self) -> DDPMPipeline | None:
        """Returns a plain pipeline that makes the same images if diffusers alone has all parts, else None."""
        has_own_network = not type(self.unet).__module__.startswith("diffusers.")
        if has_own_network or self.unet.config.get("num_class_embeds") or self.guide or self.vae:
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
        guidance_interval: Sequence[float] | None = None,
        image: PipelineImageInput | None = None,
        strength: float | None = None,
        mask_image: PipelineImageInput | None = None,
        operator: str | None = None,
        jump_length: int = 1,
        jump_n_sample: int = 1,
        height: int | None = None,
        width: int | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """Generates `batch_size` images; if not given, one for each of `class_labels` or of `image`, or one.

        Args:
            generator: random source; a list of one per image makes each image a function of its own generator.
            timesteps: decreasing noise levels to visit, instead of `num_inference_steps`.
            class_labels: class of each image, or one for all, by number or name; or mixtures of classes, (N, K)
                weights that sum to 1. None is the null class, which only a `guide` guides.
            guidance_scale: extrapolates the prediction from the null class through the class (Ho & Salimans 2022,
                arXiv 2207.12598, Eq. 6, where this is 1 + w); 1 is no guidance. By default the pipeline's.
            guidance_interval: shares of the steps after which guidance starts and stops (Kynkäänniemi et al. 2024,
                arXiv 2404.07724); (0, 1) is everywhere, (0, 0) nowhere. By default the pipeline's.
            image: one image, or one for each, to start from; or known but for `mask_image`; or what `operator` makes
                of the image that is looked for.
            strength: share of the steps that `image` goes through, in (0, 1]; 1 starts from noise alone. By default
                0.8, but 1 with a mask or an operator.
            mask_image: white (above 1/2) where the image is made anew, black where its pixels are kept.
            operator: "downsampling", to means of squares of pixels, by the factor that `image` is smaller by; or
                "greyscale", to one channel of luminance.
            jump_length, jump_n_sample: every `jump_length` steps with a mask or an operator are taken `jump_n_sample`
                times, each time after noise leads back (Lugmayr et al. 2022, RePaint, arXiv 2201.09865, Sec. 4.2), so
                that the unknown fits the known better.
            height, width: of the images, by default the network's; a larger canvas for one that takes any size.
            latents: the initial noise, (N, C, H, W), instead of a draw from `generator`.
            output_type: "pil", "np" (N, H, W, C) in [0, 1], "pt" (N, C, H, W) in [0, 1], or, with a `vae`, "latent".
            callback_on_step_end: called after each step as `callback(pipeline, step, timestep, tensors)`, as in all of
                diffusers; "latents" in the dictionary that it returns replace the sample.
            callback_on_step_end_tensor_inputs: `tensors` of these names: "latents", the sample after the step, and
                "pred_original_sample", the x_0 predicted in it, both (N, C, H, W).

        Raises:
            ValueError: labels are out of range, unknown or given to an unconditional network, or missing for one
                without a null class; guidance without anything to lead away from; images of another size; a strength
                outside (0, 1]; a wrong number of steps, generators or latents; or an unknown operator, output type or
                name of a callback's tensor.
        """
        self._check_parts()  # which may have been replaced
        size = self._size(height, width)
        class_labels = self._read_labels(class_labels)
        images, known = self._read_image(image, mask_image, operator, size)
        if known is not None:
            self._check_levels("`operator`" if mask_image is None else "`mask_image`")
        if batch_size is None:
            batch_size = 1 if class_labels is None or not class_labels.ndim else len(class_labels)
            batch_size = batch_size if images is None or batch_size != 1 else len(images)
        shape = (batch_size, self.unet.config["in_channels"], *(side // self.vae_scale_factor for side in size))
        self._check(shape, generator, latents, images, output_type)
        shown = self._callback_names(callback_on_step_end, callback_on_step_end_tensor_inputs)
        classes = self._classes(class_labels, batch_size)
        self._guidance_scale, self._interrupt = self._guidance(guidance_scale, class_labels), False
        interval = self.config["guidance_interval"] if guidance_interval is None else guidance_interval
        first, last = self._check_interval(interval)
        set_timesteps = partial(self._set_timesteps, num_inference_steps, timesteps)
        indices = self._plan(set_timesteps, self._strength(strength, images, known), known, jump_length, jump_n_sample)

        # x_T -> x_0
        sample = self._initial_sample(shape, generator, latents, images, indices[0])
        steps = -(-len(self.scheduler.timesteps) // self.scheduler.order)  # two timesteps each, if the order is 2
        guided = range(math.ceil(first * steps - 1e-9), math.ceil(last * steps - 1e-9))
        is_random = "generator" in inspect.signature(self.scheduler.step).parameters
        random_source = {"generator": generator} if is_random else {}
        for step, index in enumerate(self.progress_bar(indices)):  # pyright: ignore
            if self._interrupt:
                continue
            if step and index <= indices[step - 1]:
                sample = self._jump(sample, indices[step - 1] + 1, index, generator, set_timesteps)
            t = self.scheduler.timesteps[index]
            x_t = self.scheduler.scale_model_input(sample, t)
            guidance_scale = self._guidance_scale if index // self.scheduler.order in guided else 1.0
            prediction = self._predict(x_t, t, classes, guidance_scale)
            if known is not None:
                prediction = self._prediction_of(known(self._predict_x_0(prediction, t, x_t)), t, x_t)
            sample = self.scheduler.step(prediction, t, sample, **random_source).prev_sample
            if callback_on_step_end is not None:
                tensors = {"latents": sample} if "latents" in shown else {}
                if "pred_original_sample" in shown:
                    tensors["pred_original_sample"] = self._predict_x_0(prediction, t, x_t)
                sample = callback_on_step_end(self, step, t, tensors).pop("latents", sample)

        if known is not None:
            sample = known.within_range(sample)
        is_finished = self.vae is None or output_type == "latent"
        return self._output(sample if is_finished else self._decode(sample), output_type, return_dict)

    @torch.no_grad()
    def reconstruct(
        self, image: PipelineImageInput, output_type: str = "pil", return_dict: bool = True
    ) -> ImagePipelineOutput | tuple:
        """Encodes images to latents and decodes these: the network's images can be no better.

        Raises:
            ValueError: the pipeline has no `vae`.
        """
        if self.vae is None:
            raise ValueError("`reconstruct` needs a pipeline with a `vae`.")
        self._check_output_type(output_type)
        images = 2 * self._to_tensor(image, "image", self.image_channels) - 1
        return self._output(self._decode(self._encode(images)), output_type, return_dict)

    def outpaint(
        self, image: PipelineImageInput, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0, **arguments: Any
    ) -> ImagePipelineOutput | tuple:
        """Continues images beyond their edges by so many pixels; `arguments` are those of a call."""
        self._check_pixels("outpaint")
        if min(left, top, right, bottom) < 0:
            raise ValueError(
                f"`left`, `top`, `right` and `bottom` must be at least 0, got {(left, top, right, bottom)}."
            )
        known = self._to_tensor(image, "image", self.image_channels)
        margins = (left, right, top, bottom)
        canvas, mask = F.pad(known, margins, value=0.5), F.pad(torch.zeros_like(known[:, :1]), margins, value=1.0)
        height, width = canvas.shape[2:]
        return self(image=canvas, mask_image=mask, height=height, width=width, **arguments)

    def interpolate(
        self,
        first: PipelineImageInput,
        second: PipelineImageInput,
        num_images: int = 7,
        strength: float = 0.5,
        generator: torch.Generator | None = None,
        **arguments: Any,
    ) -> ImagePipelineOutput | tuple:
        """Leads from one image to another through `num_images`: denoises points on the line between their noisy forms,
        which have the same noise (Ho et al. 2020, Sec. 4.3); `arguments` are those of a call."""
        self._check_pixels("interpolate")
        if num_images < 2:
            raise ValueError(f"`num_images` must be at least 2, got {num_images}.")
        start, end = (self._to_tensor(image, "image", self.image_channels) for image in (first, second))
        if len(start) != 1 or start.shape != end.shape:
            got = f"{tuple(start.shape)} and {tuple(end.shape)}"
            raise ValueError(f"`first` and `second` must be one image each, of one size, got {got}.")
        weights = torch.linspace(0, 1, num_images, device=start.device)
        blended = torch.lerp(start, end, weights[:, None, None, None])
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        noise = randn_tensor(start.shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        alike = [generator.clone_state() for _ in range(num_images)]  # so that steps add the same noise to all
        return self(
            image=blended, strength=strength, latents=noise.expand(blended.shape), generator=alike, **arguments
        )

    def _check_pixels(self, name: str):
        """Refuses a method that edits pixels if the network denoises latents."""
        if self.vae is not None:
            raise ValueError(f"`{name}` must be called on a model of pixels: this one denoises latents.")

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Returns the height and width of a call."""
        config = self.unet.config
        size, factor = config["sample_size"], self.vae_scale_factor
        size = (size * factor, size * factor) if isinstance(size, int) else (size[0] * factor, size[1] * factor)
        wanted = (size[0] if height is None else height, size[1] if width is None else width)
        if wanted != size:
            coarsest = factor * config.get("patch_size", 1) * 2 ** (len(config.get("block_out_channels", [0])) - 1)
            if any(side < 1 or side % coarsest for side in wanted):
                raise ValueError(f"`height` and `width` must be divisible by {coarsest}, got {wanted}.")
        return wanted

    def _read_image(
        self,
        image: PipelineImageInput | None,
        mask_image: PipelineImageInput | None,
        operator: str | None,
        size: tuple[int, int],
    ) -> tuple[torch.Tensor | None, Known | None]:
        """Returns the given images in [-1, 1], (N, C, H, W), or their latents, and what they say about x_0."""
        if image is None:
            if mask_image is not None or operator is not None:
                raise ValueError("`image` must be given with `mask_image` or `operator`.")
            return None, None
        if mask_image is not None and operator is not None:
            raise ValueError("Pass at most one of `mask_image` and `operator`.")
        if operator not in (None, "downsampling", "greyscale"):
            raise ValueError(f"`operator` must be downsampling or greyscale, got {operator!r}.")
        if self.vae is not None and (mask_image is not None or operator is not None):
            raise ValueError("`mask_image` and `operator` must be unset: they keep pixels, the network makes latents.")
        channels = self.image_channels
        if operator == "greyscale" and channels != 3:
            raise ValueError(f"`operator` greyscale needs a network of 3 channels, got {channels}.")

        images = 2 * self._to_tensor(image, "image", 1 if operator == "greyscale" else channels) - 1
        factor = size[0] // images.shape[2] if operator == "downsampling" else 1
        if tuple(side * factor for side in images.shape[2:]) != size or (operator == "downsampling" and factor < 2):
            part = "a whole part of " if operator == "downsampling" else ""
            raise ValueError(f"`image` must be {part}{size[0]} x {size[1]} pixels, got {tuple(images.shape[2:])}.")
        if operator == "downsampling":
            return F.interpolate(images, scale_factor=float(factor)), Measurement.of_means(images, factor)
        if operator == "greyscale":
            return images, Measurement.of_luminance(images)
        if mask_image is None:
            return images if self.vae is None else self._encode(images), None
        mask = self._to_tensor(mask_image, "mask_image", 1)
        if mask.shape[2:] != images.shape[2:] or len(mask) not in (1, len(images)):
            expected = " x ".join(map(str, images.shape[2:]))
            raise ValueError(
                f"`mask_image` must be one mask or one for each `image`, {expected}, got {tuple(mask.shape)}."
            )
        return images, KnownPixels(images, mask <= 0.5)

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the latents of images in [-1, 1]: the posterior's mode, shifted and scaled as the config says."""
        shift, scaling = self._shift_and_scaling()
        return (self.vae.encode(images.to(self.vae.dtype)).latent_dist.mode().float() - shift) * scaling

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Returns the images in [-1, 1] of latents."""
        shift, scaling = self._shift_and_scaling()
        return self.vae.decode((latents / scaling + shift).to(self.vae.dtype)).sample.float()

    def _shift_and_scaling(self) -> tuple[float, float]:
        config = self.vae.config
        return config.get("shift_factor") or 0.0, config.get("scaling_factor") or 1.0

    def _to_tensor(self, image: PipelineImageInput, name: str, channels: int) -> torch.Tensor:
        """Returns images in [0, 1] as float32 (N, `channels`, H, W); PIL images become grey or RGB."""
        if isinstance(image, Sized) and not len(image):
            raise ValueError(f"`{name}` must hold at least one image, got none.")
        processor = VaeImageProcessor(
            do_resize=False,
            do_normalize=False,  # it guesses the range from the smallest pixel of a batch
            vae_latent_channels=0,  # of images, not latents
            do_convert_grayscale=channels == 1,
            do_convert_rgb=channels == 3,
        )
        images = processor.preprocess(image)
        if images.shape[1] != channels or not images.is_floating_point() or not 0 <= images.min() <= images.max() <= 1:
            got = f"{tuple(images.shape)}, {images.dtype}, from {images.min()} to {images.max()}"
            raise ValueError(f"`{name}` must be floats (N, {channels}, H, W) in [0, 1], got {got}.")
        return images.to(self._execution_device, torch.float32)

    def _strength(self, strength: float | None, images: torch.Tensor | None, known: Known | None) -> float:
        """Returns the share of the steps to take."""
        if strength is None:
            return 1.0 if images is None or known is not None else 0.8
        if not 0 < strength <= 1:
            raise ValueError(f"`strength` must lie in (0, 1], got {strength}.")
        if strength != 1 and images is None:
            raise ValueError(f"`strength` must be 1 without an `image`, got {strength}.")
        return strength

    def _plan(
        self,
        set_timesteps: Callable[[int], None],
        strength: float,
        known: Known | None,
        jump_length: int,
        jump_n_sample: int,
    ) -> list[int]:
        """Sets the timesteps, and returns the indices of those to visit."""
        for name, value in (("jump_length", jump_length), ("jump_n_sample", jump_n_sample)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        if jump_n_sample != 1 and known is None:
            raise ValueError(f"`jump_n_sample` must be 1 without a mask or an operator, got {jump_n_sample}.")
        set_timesteps(0)
        total, order = len(self.scheduler.timesteps), self.scheduler.order  # of a scheduler with two calls a step, 2
        steps = -(-total // order)
        begin, length = (steps - max(1, int(steps * strength + 1e-9))) * order, jump_length * order
        if begin:
            set_timesteps(begin)
        segments = [range(first, min(first + length, total)) for first in range(begin, total, length)]
        indices = [index for segment in segments for _ in range(jump_n_sample) for index in segment]
        self._num_timesteps = len(indices)
        return indices

    def _set_timesteps(self, count: int | None, timesteps: list[int] | None, begin: int):
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
        self._check_timesteps()
        if hasattr(self.scheduler, "set_begin_index"):  # else it looks for the first timestep, which may stand twice
            self.scheduler.set_begin_index(begin)

    def _check_timesteps(self):
        """Refuses timesteps that do not lead to an image."""
        timesteps, name = self.scheduler.timesteps, type(self.scheduler).__name__
        if not timesteps.isfinite().all() or timesteps[0] < timesteps[-1]:
            raise ValueError(f"`scheduler.timesteps` must fall, got {timesteps.tolist()[:3]}... of {name}.")
        if self.scheduler.order != 2 or len(timesteps) < 3 or not hasattr(self.scheduler, "alphas_cumprod"):
            return
        first, second = ((1 / self._alpha_bar(t) - 1) ** 0.5 for t in timesteps[[0, 2]])
        if first > MAX_RATIO * second:
            got = f"got a first step from sigma = {first:.3g} to {second:.3g}"
            raise ValueError(f"`scheduler` must have a `sigma_max`, such as 80, for the slopes of {name}, {got}.")

    def _initial_sample(
        self,
        shape: tuple[int, ...],
        generator: Generators,
        latents: torch.Tensor | None,
        images: torch.Tensor | None,
        begin: int,
    ) -> torch.Tensor:
        """Returns x_T, or the noisy images at a later timestep, in float32 and as the scheduler scales them."""
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        noise = latents.to(self._execution_device, torch.float32)
        if not begin or images is None:
            return noise * self.scheduler.init_noise_sigma
        t = self.scheduler.timesteps[begin : begin + 1].to(noise.device)
        return self.scheduler.add_noise(images.expand(shape), noise, t.expand(len(noise)))

    def _jump(
        self,
        sample: torch.Tensor,
        index: int,
        earlier: int,
        generator: Generators,
        set_timesteps: Callable[[int], None],
    ) -> torch.Tensor:
        """Adds noise until the sample of the timestep at `index` is one of the timestep at `earlier`, where the
        scheduler starts anew."""
        alpha_bar = 1.0
        if index < len(self.scheduler.timesteps):
            t = self.scheduler.timesteps[index]
            sample, alpha_bar = self.scheduler.scale_model_input(sample, t), self._alpha_bar(t)
        set_timesteps(earlier)
        t = self.scheduler.timesteps[earlier]
        ratio = self._alpha_bar(t) / alpha_bar
        noise = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=torch.float32)
        x_t = ratio**0.5 * sample + (1 - ratio) ** 0.5 * noise
        return x_t / self.scheduler.scale_model_input(torch.ones_like(x_t[:1]), t)

    def _predict(
        self, sample: torch.Tensor, t: torch.Tensor, classes: torch.Tensor | None, guidance_scale: float
    ) -> torch.Tensor:
        """Calls the network, and if there is guidance its guide, or the network for the null class (Ho & Salimans
        2022, Eq. 6), in the same batch if it is small.

        Returns float32 whatever the dtype: between steps the sample keeps its digits.
        """
        sample, t = sample.to(self.unet.dtype), t.to(sample.device, non_blocking=True)
        if guidance_scale == 1:
            return self._call_network(self.unet, sample, t, classes)
        others = classes if classes is None or self.guide else self._null_class(classes)
        if self.guide is None and len(sample) <= MAX_TOGETHER:
            both = torch.cat([cast(torch.Tensor, classes), cast(torch.Tensor, others)])
            good, bad = self._call_network(self.unet, torch.cat([sample, sample]), t, both).chunk(2)
        else:
            good = self._call_network(self.unet, sample, t, classes)
            bad = self._call_network(self.guide or self.unet, sample, t, others)
        return bad + guidance_scale * (good - bad)

    def _call_network(
        self, network: ModelMixin, sample: torch.Tensor, t: torch.Tensor, classes: torch.Tensor | None
    ) -> torch.Tensor:
        inputs = {} if classes is None else {"class_labels": classes}
        return network(sample, t, **inputs).sample.float()

    def _null_class(self, like: torch.Tensor) -> torch.Tensor:
        """Returns the null class in the form of classes, numbers (N,) or mixtures (N, K + 1)."""
        null = torch.full(like.shape[:1], self.config["num_classes"], device=like.device)
        return null if like.ndim == 1 else F.one_hot(null, like.shape[1]).to(like)

    def _alpha_bar(self, t: torch.Tensor) -> float:
        """Returns alpha_bar at `t`; some schedulers ask for one between two timesteps."""
        before = int(t)
        alpha_bars = self.scheduler.alphas_cumprod[before : before + 2].double().cpu()  # one at the last timestep
        return float(torch.lerp(alpha_bars[0], alpha_bars[-1], float(t) - before))

    def _signal_and_noise(self, t: torch.Tensor) -> tuple[float, float]:
        """Returns the factors of x_0 and of the noise in x_t (Ho et al. 2020, Eq. 4)."""
        alpha_bar = self._alpha_bar(t)
        return alpha_bar**0.5, (1 - alpha_bar) ** 0.5

    def _predict_x_0(self, prediction: torch.Tensor, t: torch.Tensor, x_t: torch.Tensor) -> torch.Tensor:
        """Returns the x_0 that a prediction means (Salimans & Ho 2022, arXiv 2202.00512, Sec. 4)."""
        (signal, noise), prediction_type = self._signal_and_noise(t), self.scheduler.config["prediction_type"]
        if prediction_type == "epsilon":
            return (x_t - noise * prediction) / signal
        return signal * x_t - noise * prediction if prediction_type == "v_prediction" else prediction

    def _prediction_of(self, x_0: torch.Tensor, t: torch.Tensor, x_t: torch.Tensor) -> torch.Tensor:
        """Returns the prediction that means `x_0`."""
        (signal, noise), prediction_type = self._signal_and_noise(t), self.scheduler.config["prediction_type"]
        if prediction_type == "epsilon":
            return (x_t - signal * x_0) / noise
        return (signal * x_t - x_0) / noise if prediction_type == "v_prediction" else x_0

    def _callback_names(self, callback: Callable[..., dict] | None, names: Sequence[str]) -> Sequence[str]:
        """Returns the names of the tensors that a callback gets."""
        if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
            names = callback.tensor_inputs
        if not set(names) <= set(self._callback_tensor_inputs):
            known = ", ".join(self._callback_tensor_inputs)
            raise ValueError(f"`callback_on_step_end_tensor_inputs` must be among {known}, got {list(names)}.")
        if "pred_original_sample" in names:
            self._check_levels("`pred_original_sample`")
        return names

    def _check_levels(self, name: str):
        """Refuses a scheduler that says nothing about the x_0 of a prediction."""
        if not hasattr(self.scheduler, "alphas_cumprod"):
            scheduler = type(self.scheduler).__name__
            raise ValueError(f"{name} needs a scheduler with `alphas_cumprod`, got {scheduler}.")

    def _read_labels(self, labels: Labels) -> torch.Tensor | None:
        """Returns classes as a number or numbers (N,), or as mixtures (N, K)."""
        if labels is None:
            return None
        if isinstance(labels, Sequence) and len(labels) and all(isinstance(label, str) for label in labels):
            labels = self.get_label_ids(cast("str | Sequence[str]", labels))
        try:
            read = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"`class_labels` must all be numbers, or all be names, got {labels!r}.") from error
        if read.ndim > 2:
            raise ValueError(f"`class_labels` must be classes (N,) or mixtures (N, K), got {tuple(read.shape)}.")
        return read

    def _classes(self, labels: torch.Tensor | None, count: int) -> torch.Tensor | None:
        """Returns the class of each of `count` images, (N,), or its mixture, (N, K) of the network's K classes; None
        for an unconditional network."""
        num_classes = self.config["num_classes"]
        if num_classes is None:
            if labels is not None:
                raise ValueError("`class_labels` must be unset: the network is unconditional.")
            return None
        if labels is not None:
            expand = self._expand_mixture if labels.ndim == 2 else self._expand_labels
            return expand(labels, count, num_classes)
        if not self.has_null_class:
            raise ValueError(f"`class_labels` must be given, in 0..{num_classes - 1}: the network has no null class.")
        return torch.full((count,), num_classes, device=self._execution_device)

    def _expand_mixture(self, weights: torch.Tensor, count: int, num_classes: int) -> torch.Tensor:
        """Returns weights of classes, one row for each image or one for all, with those of the null class."""
        for network in (self.unet, self.guide or self.unet):
            if not getattr(network, "takes_class_mixtures", False):
                raise ValueError(f"`class_labels` must be classes: {type(network).__name__} takes no mixtures.")
        if weights.shape[1] != num_classes or len(weights) not in (1, count):
            raise ValueError(f"`class_labels` must be (1 or {count}, {num_classes}), got {tuple(weights.shape)}.")
        weights = weights.float()
        if weights.min() < 0 or not torch.allclose(weights.sum(1), torch.ones(len(weights)).to(weights)):
            raise ValueError(f"`class_labels` must be at least 0 and sum to 1 in each row, got {weights.tolist()}.")
        weights = F.pad(weights, (0, self.unet.config["num_class_embeds"] - num_classes))
        return weights.to(self._execution_device, self.unet.dtype).expand(count, -1)

    def _guidance(self, guidance_scale: float | None, labels: torch.Tensor | None) -> float:
        """Returns the scale of a call, by default the pipeline's if there is something to lead away from."""
        if self.guide is not None:
            return self.config["guidance_scale"] if guidance_scale is None else guidance_scale
        if guidance_scale is None:
            return 1.0 if labels is None else self.config["guidance_scale"]
        if guidance_scale != 1 and not self.has_null_class:
            raise ValueError(f"`guidance_scale` must be 1: the network has no null class, got {guidance_scale}.")
        if guidance_scale != 1 and labels is None:
            raise ValueError(f"`guidance_scale` must be 1 without `class_labels`, got {guidance_scale}.")
        return guidance_scale

    def _check_interval(self, interval: Sequence[float]) -> Sequence[float]:
        if not isinstance(interval, Sequence) or len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"`guidance_interval` must be two increasing shares in [0, 1], got {interval}.")
        return interval

    def _check(
        self,
        shape: tuple[int, ...],
        generator: Generators,
        latents: torch.Tensor | None,
        images: torch.Tensor | None,
        output_type: str,
    ):
        """Checks arguments before the network is called."""
        if not isinstance(shape[0], int) or shape[0] < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {shape[0]!r}.")
        if images is not None and len(images) not in (1, shape[0]):
            raise ValueError(f"`image` must hold 1 or {shape[0]} images, got {len(images)}.")
        self._check_generators(generator, shape[0])
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(f"`latents` must have the shape {shape}, got {tuple(latents.shape)}.")
        if output_type != "latent" or self.vae is None:
            self._check_output_type(output_type)

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
