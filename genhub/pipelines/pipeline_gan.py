"""Images from the generator of a generative adversarial network (Goodfellow et al. 2014, arXiv 1406.2661): of random
latents, and of the ways between latents, sums of latents, and mixtures of styles."""

import math
from collections.abc import Sized

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

Labels = int | list[int] | torch.Tensor | None
Generators = torch.Generator | list[torch.Generator] | None
MODES = ("linear", "spherical", "style")


class GANPipeline(DiffusionPipeline):
    """Generates images.

    Args:
        generator: called with `latents` (N, L) and, as far as it takes them, `class_labels` and `noise`
            (N, `num_noise`); gives `sample`. Its config has `out_channels`, `sample_size` and `latent_channels`, and
            `num_class_embeds` where it is conditional. A style-based one has `map`, `synthesize`, `mean_style`,
            `num_layers` and `layers_in_use`.

    All methods but `mix` take `class_labels`, one for each image or one for all, where the generator is conditional,
    and all but `project` return images as `output_type` says: "pil", "np" (N, H, W, C) in [0, 1], or "pt" (N, C, H, W)
    in [0, 1]. The noise of a style-based generator is drawn from `generator` too.
    """

    model_cpu_offload_seq = "generator"
    tasks = ("generate", "interpolate", "arithmetic", "mix", "project")
    inputs = ("class_labels",)
    sampling_arguments = ("truncation",)

    def __init__(self, generator: ModelMixin):
        super().__init__()
        self.register_modules(generator=generator)
        grey = generator.config["out_channels"] == 1
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

    @property
    def has_styles(self) -> bool:
        """Whether the generator works by way of styles."""
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
        """Generates images of z ~ N(0, I): `batch_size`, or one for each of `latents` or `class_labels`.

        Args:
            generator: source of z; a list of one generator for each image makes each image a function of its own.
            truncation: pull towards the mean, 1 leaves images alone and 0 makes them all the same (but for
                their noise): of styles (Karras et al. 2018, arXiv 1812.04948, App. B), or of latents, whose mean is 0.
            latents: z itself, (N, L), drawn from `generator` where it is not given.

        Raises:
            ValueError: labels out of range, missing, or given to an unconditional network; latents of another length;
                truncation outside [0, 1], or of latents that the network normalises; a wrong number of generators or
                latents; an unknown output type.
        """
        if batch_size is None:
            labels = 1 if class_labels is None else torch.as_tensor(class_labels).numel()
            batch_size = labels if latents is None else len(self._latents("latents", latents))
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        if isinstance(generator, list) and len(generator) != batch_size:
            raise ValueError(f"`generator` must be one generator or {batch_size} of them, got {len(generator)}.")
        self._check(truncation, output_type)
        labels = self._classes(class_labels, batch_size)
        if latents is None:
            latents = self._draw((batch_size, self.generator.config["latent_channels"]), generator)
        latents = self._latents("latents", latents, batch_size)
        noise = self._noise(batch_size, generator)
        if self.has_styles:
            sample = self._synthesized(self._styles(latents, truncation), noise)
        else:
            sample = self._generated(truncation * latents, labels)
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
        """Returns `num_images` images at equal steps from one of the latents (1, L) to the other, both included.

        Args:
            mode: "linear"; "spherical", along the arc between them (White 2016, arXiv 1609.04468, Sec. 2.1), on which
                latents are as long as random ones; "style", on the line between their styles w.
            generator: source of the noise, the same for all images.

        Raises:
            ValueError: fewer than two images, latents of another shape, an unknown mode, or "style" of a generator
                without styles.
        """
        ends = [self._latents(name, z, 1) for name, z in (("first", first), ("second", second))]
        if num_images < 2:
            raise ValueError(f"`num_images` must be at least 2, got {num_images}.")
        if mode not in MODES or (mode == "style" and not self.has_styles):
            known = MODES if self.has_styles else MODES[:2]
            raise ValueError(f"`mode` must be one of {', '.join(known)}, got {mode!r}.")
        self._check(1.0, output_type)
        labels, noise = self._classes(class_labels, num_images), self._noise(1, generator)
        weights = torch.linspace(0, 1, num_images, device=ends[0].device).to(ends[0].dtype)[:, None]  # (N, 1)
        if mode == "style":
            ends = [self._styles(end, 1.0) for end in ends]  # (1, layers, L)
            return self._images(
                self._synthesized(torch.lerp(*ends, weights[:, None]), noise), output_type, return_dict
            )
        latents = torch.lerp(*ends, weights) if mode == "linear" else slerp(*ends, weights)
        return self._images(self._of(latents, labels, noise), output_type, return_dict)

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
        """Returns what is made of start - minus + plus, each the mean of some latents (n, L), amid its neighbours
        (Radford et al. 2015, arXiv 1511.06434, Sec. 6.3.2, Fig. 7).

        Args:
            num_images: in a square of odd side, such as 1 or 9, row by row; the sum itself is in the middle.
            reach: neighbours differ from the sum by uniform noise of up to this in each number.
            generator: source of that noise.

        Raises:
            ValueError: images that make no such square, a negative reach, or latents of another length.
        """
        side = math.isqrt(max(num_images, 0))
        if side**2 != num_images or side % 2 == 0:
            raise ValueError(f"`num_images` must make a square of odd side, such as 1 or 9, got {num_images}.")
        if not 0 <= reach < math.inf:
            raise ValueError(f"`reach` must be at least 0 and finite, got {reach}.")
        self._check(1.0, output_type)
        terms = (("start", start), ("minus", minus), ("plus", plus))
        first, second, third = (self._latents(name, z).mean(0) for name, z in terms)
        labels, noise = self._classes(class_labels, num_images), self._noise(1, generator)
        if isinstance(generator, list):
            raise ValueError("`generator` must be one generator, from which all neighbours are drawn, got a list.")
        around = torch.rand(
            num_images, len(first), generator=generator, device=generator.device if generator else "cpu"
        )
        around = reach * (2 * around - 1)
        around[num_images // 2] = 0
        latents = first - second + third + around.to(first)
        return self._images(self._of(latents, labels, noise), output_type, return_dict)

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
        """Returns R times C images, row by row: those of `rows` (R, L) with some styles of `columns` (C, L) (Karras et
        al. 2018, arXiv 1812.04948, Sec. 3.1, Fig. 3).

        Args:
            layers: (a, b): layers a to b - 1 take the styles of the column. A level has two; the first ones are of
                the coarsest.
            generator: source of the noise, the same for all images.

        Raises:
            ValueError: the generator has no styles or no such layers, or latents have another length.
        """
        if not self.has_styles:
            raise ValueError(f"`mix` needs a generator with styles, got {type(self.generator).__name__}.")
        most = self.generator.layers_in_use
        if not isinstance(layers, Sized) or len(layers) != 2 or not 0 <= layers[0] < layers[1] <= most:
            raise ValueError(f"`layers` must be (a, b) with 0 <= a < b <= {most}, got {layers}.")
        self._check(truncation, output_type)
        own, other = (self._styles(self._latents(n, z), truncation) for n, z in (("rows", rows), ("columns", columns)))
        styles = own[:, None].repeat(1, len(other), 1, 1)  # (R, C, layers, L)
        styles[:, :, slice(*layers)] = other[None, :, slice(*layers)]
        return self._images(
            self._synthesized(styles.flatten(0, 1), self._noise(1, generator)), output_type, return_dict
        )

    def project(
        self,
        image: PipelineImageInput,
        num_steps: int = 300,
        learning_rate: float = 0.05,
        num_starts: int = 256,
        generator: torch.Generator | None = None,
        class_labels: Labels = None,
    ) -> torch.Tensor:
        """Returns the latents (N, L) whose images come near to the given ones: gradient steps (Adam) on the squared
        error, from the nearest of some random latents.

        Args:
            image: PIL images, arrays (N, H, W, C) or tensors (N, C, H, W) in [0, 1].
            num_starts: random latents to begin with.

        Raises:
            ValueError: images of another size or of other channels than the generator's, or not in [0, 1].
        """
        if num_steps < 0 or num_starts < 1 or not 0 < learning_rate < math.inf:
            raise ValueError(
                "`num_steps` must be at least 0, `num_starts` at least 1 and `learning_rate` above 0, got "
                f"{num_steps}, {num_starts} and {learning_rate}."
            )
        target = self._sample(image)  # (N, C, H, W)
        labels = self._classes(class_labels, len(target))
        starts = self._draw((num_starts, self.generator.config["latent_channels"]), generator)
        classes = [None] * len(target) if labels is None else labels.tolist()
        with torch.no_grad():
            tried = {
                label: self._of(starts, None if label is None else labels.new_full((num_starts,), label), None)
                for label in {*classes}
            }
            errors = [(tried[c] - one).square().flatten(1).sum(1) for c, one in zip(classes, target, strict=True)]
        latents = torch.stack([starts[error.argmin()] for error in errors]).float().requires_grad_()
        optimizer = torch.optim.Adam([latents], lr=learning_rate)
        with torch.enable_grad():
            for _ in self.progress_bar(range(num_steps)):
                error = F.mse_loss(self._of(latents.to(target.dtype), labels, None), target, reduction="sum")
                (latents.grad,) = torch.autograd.grad(error, [latents])
                optimizer.step()
        self.maybe_free_model_hooks()
        return latents.detach().to(target.dtype)

    def _of(self, latents: torch.Tensor, labels: torch.Tensor | None, noise: torch.Tensor | None) -> torch.Tensor:
        """Returns the samples of latents."""
        return (
            self._synthesized(self._styles(latents, 1.0), noise)
            if self.has_styles
            else self._generated(latents, labels)
        )

    def _generated(self, latents: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return self.generator(latents, **({} if labels is None else {"class_labels": labels})).sample

    def _styles(self, latents: torch.Tensor, truncation: float) -> torch.Tensor:
        """Returns the styles of latents, one for each layer, (N, layers, L)."""
        style = self.generator.map(latents)  # first, as it may bring the generator to its device
        style = torch.lerp(self.generator.mean_style, style, truncation)
        return style[:, None].expand(-1, self.generator.num_layers, -1)

    def _synthesized(self, styles: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        noise = None if noise is None else noise.expand(len(styles), -1)
        return self.generator.synthesize(styles, noise)

    def _draw(self, shape: tuple[int, ...], generator: Generators) -> torch.Tensor:
        return randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.generator.dtype)

    def _noise(self, count: int, generator: Generators) -> torch.Tensor | None:
        """Returns the noise of `count` images, None for a generator that takes none."""
        return self._draw((count, self.generator.num_noise), generator) if self.generator.num_noise else None

    def _images(self, sample: torch.Tensor, output_type: str, return_dict: bool) -> ImagePipelineOutput | tuple:
        self.maybe_free_model_hooks()
        images = self.image_processor.postprocess(((sample.float() + 1) / 2).clamp(0, 1), output_type=output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _check(self, truncation: float, output_type: str):
        if not 0 <= truncation <= 1:
            raise ValueError(f"`truncation` must lie in [0, 1], got {truncation}.")
        if truncation != 1 and not self.has_styles and self.generator.has_normalized_latents:
            name = type(self.generator).__name__
            raise ValueError(f"`truncation` must be 1: {name} normalises latents, got {truncation}.")
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"`output_type` must be pil, np or pt, got {output_type!r}.")

    def _latents(self, name: str, latents: torch.Tensor, count: int | None = None) -> torch.Tensor:
        """Returns latents in the generator's dtype and on its device, after a look at their shape."""
        length = self.generator.config["latent_channels"]
        is_tensor = isinstance(latents, torch.Tensor) and latents.ndim == 2 and len(latents) > 0
        if not is_tensor or latents.shape[1] != length or count not in (None, len(latents)):
            got = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
            raise ValueError(f"`{name}` must have the shape ({count or 'N'}, {length}), got {got}.")
        if not latents.isfinite().all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinity.")
        return latents.to(self._execution_device, self.generator.dtype)

    def _sample(self, image: PipelineImageInput) -> torch.Tensor:
        """Returns images as the generator makes them: (N, C, H, W) in [-1, 1], in its dtype and on its device."""
        if isinstance(image, Sized) and not len(image):
            raise ValueError("`image` must hold at least one image, got none.")
        images, config = self.image_processor.preprocess(image), self.generator.config
        size = config["sample_size"]
        wanted = (config["out_channels"], *((size, size) if isinstance(size, int) else size))
        if tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"`image` must be (N, C, H, W) = (N, {', '.join(map(str, wanted))}), as the generator's, got "
                f"{tuple(images.shape)}."
            )
        if not (images.is_floating_point() and images.isfinite().all() and 0 <= images.min() <= images.max() <= 1):
            raise ValueError(
                f"`image` must be floats in [0, 1], got {images.dtype} from {images.min()} to {images.max()}."
            )
        return (2 * images - 1).to(self._execution_device, self.generator.dtype)

    def _classes(self, labels: Labels, count: int) -> torch.Tensor | None:
        """Returns the class of each of `count` images, (N,), or None for an unconditional network."""
        known = self.generator.config.get("num_class_embeds")
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


def slerp(first: torch.Tensor, second: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Returns points on the arc from `first` to `second`, (1, L) each, at `weights` (N, 1) of the way."""
    cosine = F.cosine_similarity(first, second).clamp(-1, 1)
    angle = torch.acos(cosine)
    if angle < 1e-4 or angle > math.pi - 1e-4:  # no arc, or no one arc
        return torch.lerp(first, second, weights)
    return (torch.sin((1 - weights) * angle) * first + torch.sin(weights * angle) * second) / torch.sin(angle)
