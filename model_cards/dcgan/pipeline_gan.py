"""Generative adversarial networks (Goodfellow et al. 2014, arXiv 1406.2661): images from random latents,
interpolations, latent arithmetic, style mixing, and projection."""

import difflib
import inspect
import math
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

Labels = int | str | Sequence[int | str] | torch.Tensor | None
Generators = torch.Generator | list[torch.Generator] | None
MODES = ("linear", "spherical", "style")


class GANPipeline(DiffusionPipeline):
    """Generates images with the generator of a GAN.

    All methods but `mix` take `class_labels`, one for each image or one for all, if the generator is conditional. All
    but `project` return images as `output_type` says: "pil", "np" (N, H, W, C) in [0, 1], or "pt" (N, C, H, W) in
    [0, 1]. The noise inputs of a style-based generator are drawn from `generator` too.

    Args:
        generator: called with `latents` (N, L) and, if it takes them, `class_labels` and `noise` (N, `noise_size`);
            returns `sample`. Its config has `out_channels`, `sample_size` and `latent_channels`, and
            `num_class_embeds` if it is conditional. A style-based one has `map`, `synthesize`, `mean_style`,
            `num_layers` and `layers_in_use`.
        id2label: the name of each class, as in `DiTPipeline`; labels may be names then.
    """

    model_cpu_offload_seq = "generator"
    tasks = ("generate", "interpolate", "arithmetic", "mix", "project")
    inputs = ("class_labels",)
    sampling_arguments = ("truncation",)

    def __init__(self, generator: ModelMixin, id2label: Mapping[Any, str] | None = None):
        super().__init__()
        self.register_modules(generator=generator)
        self._register_names(id2label, generator.config.get("num_class_embeds") or 0)
        self.image_processor = self._make_image_processor()
        if not self.has_styles:
            self.tasks = tuple(task for task in self.tasks if task != "mix")

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
        """The network that makes images."""
        return self.generator

    @property
    def has_styles(self) -> bool:
        """Whether the generator is style-based."""
        return "num_mapping_layers" in self.generator.config

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        generator: Generators = None,
        class_labels: Labels = None,
        truncation: float = 1.0,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Generates images from z ~ N(0, I): `batch_size`, or one for each of `latents` or `class_labels`.

        Args:
            generator: random source of z; a list of one per image makes each image a function of its own generator.
            truncation: interpolates from the mean, 0, to the sample, 1: of styles (Karras et al. 2018, arXiv
                1812.04948, App. B), or of latents, whose mean is 0. At 0 all images are the same but for their noise.
            latents: z itself, (N, L), instead of a draw from `generator`.

        Raises:
            ValueError: labels are missing, out of range or given to an unconditional network; latents have another
                length; truncation is outside [0, 1], or not 1 for a network that normalises latents; there are too
                many or too few generators or latents; or `output_type` is unknown.
        """
        if batch_size is None:
            labels = 1 if class_labels is None else torch.as_tensor(self._numbers(class_labels)).numel()
            batch_size = labels if latents is None else len(self._latents("latents", latents))
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        self._check_generators(generator, batch_size)
        self._check_truncation(truncation)
        self._check_output_type(output_type)
        labels = self._classes(class_labels, batch_size)
        if latents is None:
            latents = self._draw((batch_size, self.generator.config["latent_channels"]), generator)
        latents = self._latents("latents", latents, batch_size)
        noise = self._noise(batch_size, generator)
        if self.has_styles:
            sample = self._synthesize(self._styles(latents, truncation), noise)
        else:
            sample = self._generate(truncation * latents, labels)
        return self._images(sample, output_type, return_dict)

    @torch.no_grad()
    def interpolate(
        self,
        first: torch.Tensor,
        second: torch.Tensor,
        num_images: int = 7,
        mode: str = "spherical",
        generator: torch.Generator | None = None,
        class_labels: Labels = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Generates `num_images` images at equal steps from one latent (1, L) to the other, both included.

        Args:
            mode: "linear"; "spherical", along the arc between them (White 2016, arXiv 1609.04468, Sec. 2.1), on which
                latents are as long as random ones; "style", on the line between their styles w.
            generator: random source of the noise, the same for all images.

        Raises:
            ValueError: `num_images` is less than 2, latents have another shape, the mode is unknown, or it is "style"
                for a generator without styles.
        """
        start, end = self._latents("first", first, 1), self._latents("second", second, 1)
        if num_images < 2:
            raise ValueError(f"`num_images` must be at least 2, got {num_images}.")
        modes = MODES if self.has_styles else MODES[:2]
        if mode not in modes:
            raise ValueError(f"`mode` must be one of {', '.join(modes)}, got {mode!r}.")
        self._check_output_type(output_type)
        labels, noise = self._classes(class_labels, num_images), self._noise(1, generator)
        weights = torch.linspace(0, 1, num_images, device=start.device).to(start.dtype)[:, None]  # (N, 1)
        if mode == "style":
            styles = torch.lerp(self._styles(start, 1.0), self._styles(end, 1.0), weights[:, None])  # (N, layers, L)
            sample = self._synthesize(styles, noise)
        else:
            latents = torch.lerp(start, end, weights) if mode == "linear" else slerp(start, end, weights)
            sample = self._decode(latents, labels, noise)
        return self._images(sample, output_type, return_dict)

    @torch.no_grad()
    def arithmetic(
        self,
        start: torch.Tensor,
        minus: torch.Tensor,
        plus: torch.Tensor,
        num_images: int = 9,
        reach: float = 0.25,
        generator: torch.Generator | None = None,
        class_labels: Labels = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Generates the image of start - minus + plus amid its neighbours, each term the mean of latents (n, L)
        (Radford et al. 2015, arXiv 1511.06434, Sec. 6.3.2, Fig. 7).

        Args:
            num_images: an odd square such as 1 or 9, row by row; the image of the sum is in the middle.
            reach: neighbours differ from the sum by uniform noise in [-reach, reach].
            generator: random source of that noise.

        Raises:
            ValueError: `num_images` is no odd square, the reach is negative, or latents have another length.
        """
        side = math.isqrt(max(num_images, 0))
        if side**2 != num_images or side % 2 == 0:
            raise ValueError(f"`num_images` must make a square of odd side, such as 1 or 9, got {num_images}.")
        if not 0 <= reach < math.inf:
            raise ValueError(f"`reach` must be at least 0 and finite, got {reach}.")
        if isinstance(generator, list):
            raise ValueError("`generator` must be one generator, from which all neighbours are drawn, got a list.")
        self._check_output_type(output_type)
        terms = (("start", start), ("minus", minus), ("plus", plus))
        start, minus, plus = (self._latents(name, z).mean(0) for name, z in terms)  # (L,)
        labels, noise = self._classes(class_labels, num_images), self._noise(1, generator)
        offsets = torch.rand(
            num_images, len(start), generator=generator, device=generator.device if generator else "cpu"
        )
        offsets = reach * (2 * offsets - 1)
        offsets[num_images // 2] = 0
        latents = start - minus + plus + offsets.to(start)
        return self._images(self._decode(latents, labels, noise), output_type, return_dict)

    @torch.no_grad()
    def mix(
        self,
        rows: torch.Tensor,
        columns: torch.Tensor,
        layers: tuple[int, int] = (0, 2),
        truncation: float = 1.0,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Generates R times C images, row by row: those of `rows` (R, L) with some styles from `columns` (C, L)
        (Karras et al. 2018, arXiv 1812.04948, Sec. 3.1, Fig. 3).

        Args:
            layers: (a, b): layers a to b - 1 take the styles of the column. Each level has two; the coarsest is first.
            generator: random source of the noise, the same for all images.

        Raises:
            ValueError: the generator has no styles or no such layers, or latents have another length.
        """
        if not self.has_styles:
            raise ValueError(f"`mix` needs a generator with styles, got {type(self.generator).__name__}.")
        num_layers = self.generator.layers_in_use
        if not isinstance(layers, Sized) or len(layers) != 2 or not 0 <= layers[0] < layers[1] <= num_layers:
            raise ValueError(f"`layers` must be (a, b) with 0 <= a < b <= {num_layers}, got {layers}.")
        self._check_truncation(truncation)
        self._check_output_type(output_type)
        row_styles = self._styles(self._latents("rows", rows), truncation)
        column_styles = self._styles(self._latents("columns", columns), truncation)
        styles = row_styles[:, None].repeat(1, len(column_styles), 1, 1)  # (R, C, layers, L)
        styles[:, :, slice(*layers)] = column_styles[None, :, slice(*layers)]
        sample = self._synthesize(styles.flatten(0, 1), self._noise(1, generator))
        return self._images(sample, output_type, return_dict)

    def project(
        self,
        image: PipelineImageInput,
        num_steps: int = 300,
        learning_rate: float = 0.05,
        num_starts: int = 256,
        generator: torch.Generator | None = None,
        class_labels: Labels = None,
    ) -> torch.Tensor:
        """Finds latents (N, L) whose images come near to `image`: Adam on the squared error, from the nearest of some
        random latents.

        Args:
            image: PIL images, arrays (N, H, W, C) or tensors (N, C, H, W) in [0, 1].
            num_starts: number of random latents to choose the start from.

        Raises:
            ValueError: the size or channels differ from the network's, or a pixel is not in [0, 1].
        """
        if num_steps < 0 or num_starts < 1 or not 0 < learning_rate < math.inf:
            raise ValueError(
                "`num_steps` must be at least 0, `num_starts` at least 1 and `learning_rate` above 0, got "
                f"{num_steps}, {num_starts} and {learning_rate}."
            )
        target = self._sample(image)  # (N, C, H, W)
        labels = self._classes(class_labels, len(target))
        starts = self._draw((num_starts, self.generator.config["latent_channels"]), generator)
        latents = self._nearest(starts, target, labels).float().requires_grad_()
        optimizer = torch.optim.Adam([latents], lr=learning_rate)
        with torch.enable_grad():
            for _ in self.progress_bar(range(num_steps)):  # pyright: ignore
                error = F.mse_loss(self._decode(latents.to(target.dtype), labels, None), target, reduction="sum")
                (latents.grad,) = torch.autograd.grad(error, [latents])
                optimizer.step()
        self.maybe_free_model_hooks()
        return latents.detach().to(target.dtype)

    @torch.no_grad()
    def _nearest(self, starts: torch.Tensor, target: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Returns, for each image of `target`, the one of `starts` (M, L) whose image of the same class is nearest."""
        if labels is None:
            classes = [None] * len(target)
            samples = {None: self._decode(starts, None, None)}
        else:
            classes = labels.tolist()
            samples = {
                label: self._decode(starts, labels.new_full((len(starts),), label), None) for label in {*classes}
            }
        errors = [
            (samples[label] - image).square().flatten(1).sum(1)  # (M,)
            for label, image in zip(classes, target, strict=True)
        ]
        return torch.stack([starts[error.argmin()] for error in errors])

    def _decode(self, latents: torch.Tensor, labels: torch.Tensor | None, noise: torch.Tensor | None) -> torch.Tensor:
        """Returns the samples of latents, (N, C, H, W) in [-1, 1]."""
        if self.has_styles:
            return self._synthesize(self._styles(latents, 1.0), noise)
        return self._generate(latents, labels)

    def _generate(self, latents: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return self.generator(latents, **({} if labels is None else {"class_labels": labels})).sample

    def _styles(self, latents: torch.Tensor, truncation: float) -> torch.Tensor:
        """Returns the styles of latents, one for each layer, (N, layers, L)."""
        style = self.generator.map(latents)  # first: it may bring an offloaded generator to its device
        style = torch.lerp(self.generator.mean_style, style, truncation)
        return style[:, None].expand(-1, self.generator.num_layers, -1)

    def _synthesize(self, styles: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        noise = None if noise is None else noise.expand(len(styles), -1)
        return self.generator.synthesize(styles, noise)

    def _draw(self, shape: tuple[int, ...], generator: Generators) -> torch.Tensor:
        """Draws in float32, so that a seed means the same in every dtype."""
        drawn = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        return drawn.to(self.generator.dtype)

    def _noise(self, count: int, generator: Generators) -> torch.Tensor | None:
        """Returns the noise inputs of `count` images; None for a generator that takes none."""
        return self._draw((count, self.generator.noise_size), generator) if self.generator.noise_size else None

    def _images(self, sample: torch.Tensor, output_type: str, return_dict: bool) -> ImagePipelineOutput | tuple:
        return self._output(((sample.float() + 1) / 2).clamp(0, 1), output_type, return_dict)

    def _check_truncation(self, truncation: float):
        if not 0 <= truncation <= 1:
            raise ValueError(f"`truncation` must lie in [0, 1], got {truncation}.")
        if truncation != 1 and not self.has_styles and self.generator.has_normalized_latents:
            name = type(self.generator).__name__
            raise ValueError(f"`truncation` must be 1: {name} normalises latents, got {truncation}.")

    def _latents(self, name: str, latents: torch.Tensor, count: int | None = None) -> torch.Tensor:
        """Returns latents in the generator's dtype and device, after checking them; `name` is that of the argument."""
        length = self.generator.config["latent_channels"]
        is_tensor = isinstance(latents, torch.Tensor) and latents.ndim == 2 and len(latents) > 0
        if not is_tensor or latents.shape[1] != length or count not in (None, len(latents)):
            got = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
            raise ValueError(f"`{name}` must have the shape ({count or 'N'}, {length}), got {got}.")
        if not latents.isfinite().all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinity.")
        return latents.to(self._execution_device, self.generator.dtype)

    # Same as genhub.pipelines.pipeline_vae.VAEPipeline.get_label_ids
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

    # Same as genhub.pipelines.pipeline_vae.VAEPipeline._register_names
    def _register_names(self, id2label: Mapping[Any, str] | None, num_classes: int):
        """Stores the names of the classes."""
        if id2label is not None and {int(number) for number in id2label} != set(range(num_classes)):
            raise ValueError(f"`id2label` must name the classes 0..{num_classes - 1}, got {dict(id2label)}.")
        names = None if id2label is None else {str(number): name for number, name in id2label.items()}
        self.register_to_config(id2label=names)

    # Same as genhub.pipelines.pipeline_vae.VAEPipeline._numbers
    def _numbers(self, labels: Labels) -> int | list[int] | torch.Tensor | None:
        """Returns labels with numbers for names."""
        if isinstance(labels, str):
            return self.get_label_ids(labels)
        if isinstance(labels, Sequence):
            return [self.get_label_ids(label)[0] if isinstance(label, str) else label for label in labels]
        return labels

    # Same as genhub.pipelines.pipeline_vae.VAEPipeline._classes
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


def slerp(first: torch.Tensor, second: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Spherical interpolation from `first` to `second`, (1, L) each, at `weights` (N, 1) in [0, 1]."""
    cosine = F.cosine_similarity(first, second).clamp(-1, 1)
    angle = torch.acos(cosine)
    if angle < 1e-4 or angle > math.pi - 1e-4:  # no arc, or more than one
        return torch.lerp(first, second, weights)
    return (torch.sin((1 - weights) * angle) * first + torch.sin(weights * angle) * second) / torch.sin(angle)
