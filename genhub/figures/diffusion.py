"""Diffusion as it happens: `trajectory`, `forward-process` and `noise-schedule`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler

from genhub import plotting
from genhub.data import to_model_range
from genhub.evaluation.sampling import labels_in_turn
from genhub.figures.subject import SPLITS, Subject, class_of, load_subject, scale_for
from genhub.objectives.noising import signal_and_noise
from genhub.repository.capabilities import call_arguments
from genhub.utils.randomness import keyed_generator

COLUMNS = 10  # noise levels of a strip
MAX_FRAMES, MILLISECONDS = 60, 120  # of an animation, and how long it shows a frame
X_T, X_0 = "x_t", "predicted x_0"


@dataclass(frozen=True)
class Trajectory:
    """The steps of one call of a pipeline.

    Args:
        timesteps: of the steps.
        samples: x_t before each step, and the images, (steps + 1, N, C, H, W).
        predictions: the x_0 predicted in each step, (steps, N, C, H, W).
        labels: class of each image; None for an unconditional pipeline.
    """

    timesteps: list[float]
    samples: torch.Tensor
    predictions: torch.Tensor
    labels: list[int] | None

    def captions(self) -> list[str]:
        """Returns the timestep of each of `samples`; the last one is the image."""
        return [*(f"t = {timestep:.0f}" for timestep in self.timesteps), "image"]


def trajectory(
    repo: str, steps: int | None = None, seed: int = 0, count: int | None = None, *, is_animated: bool = False
) -> bytes:
    """Draws samples in the making, x_t above the x_0 predicted from it; a .gif file moves.

    Image i of a seed is image i of `genhub generate`.

    Args:
        steps: sampling steps; by default the pipeline's.
        count: images, 3, or 8 in an animation.
        is_animated: return an animation, one frame a step, instead of a strip.
    """
    subject = load_diffusion(repo)
    found = record_trajectory(subject, count or (8 if is_animated else 3), seed, steps)
    title = (
        f"{subject.name}: {len(found.timesteps)} steps of {type(subject.pipeline.scheduler).__name__}; {X_T} above "
    )
    title += f"the x_0 that the network predicts from it; seed {seed}, uncurated"
    return animate(found, title) if is_animated else draw_strip(subject, found, title)


def load_diffusion(repo: str) -> Subject:
    """Loads a repository of a diffusion model of pixels, whose steps can be watched.

    Raises:
        ValueError: it holds another pipeline, or has no recipe.
    """
    subject = load_subject(repo, "generate", "CosineDDPMPipeline")
    pipeline = subject.pipeline
    shows_x_0 = "pred_original_sample" in getattr(pipeline, "_callback_tensor_inputs", ())
    if not shows_x_0 or not hasattr(pipeline.scheduler, "alphas_cumprod"):
        raise ValueError(f"`repo` must hold a diffusion pipeline, CosineDDPMPipeline, got {type(pipeline).__name__}.")
    if pipeline.vae is not None:
        raise ValueError("`repo` must hold a diffusion model of pixels: this one denoises latents.")
    return subject


def record_trajectory(subject: Subject, count: int, seed: int, steps: int | None = None) -> Trajectory:
    """Generates `count` images, of all classes in turn, and keeps every step."""
    pipeline: Any = subject.pipeline
    labels = labels_in_turn(pipeline, range(count))
    generators = [keyed_generator("image", seed, index) for index in range(count)]
    config = pipeline.unet.config
    size = (config["sample_size"],) * 2 if isinstance(config["sample_size"], int) else config["sample_size"]
    noise = torch.stack([torch.randn(config["in_channels"], *size, generator=generator) for generator in generators])
    timesteps, samples, predictions = [], [], []

    def keep(pipeline, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        timesteps.append(float(timestep))
        samples.append(tensors["latents"].float().cpu())
        predictions.append(tensors["pred_original_sample"].float().cpu())
        return tensors

    pipeline(
        **call_arguments(pipeline, count, labels),
        generator=generators,
        latents=noise,
        num_inference_steps=steps,
        output_type="pt",
        callback_on_step_end=keep,
        callback_on_step_end_tensor_inputs=pipeline._callback_tensor_inputs,
    )
    first = noise * float(pipeline.scheduler.init_noise_sigma)
    return Trajectory(timesteps, torch.stack([first, *samples]), torch.stack(predictions), labels)


def draw_strip(subject: Subject, found: Trajectory, title: str) -> bytes:
    """Draws two rows for each image: `COLUMNS` of the steps from left to right, then the image."""
    chosen = evenly(len(found.timesteps), COLUMNS)
    rows, names = [], []
    for index in range(found.samples.shape[1]):
        prefix = "" if found.labels is None else f"{subject.class_names[found.labels[index]]}, "
        rows += [to_pixels(found.samples[[*chosen, -1], index]), to_pixels(found.predictions[chosen, index])]
        names += [f"{prefix}{X_T}", X_0]
    captions = [[]] * (len(rows) - 1) + [[found.captions()[step] for step in [*chosen, -1]]]
    scale = scale_for(rows[0], 56)
    return plotting.png(plotting.image_rows(rows, names, len(chosen) + 1, title, scale, captions))


def animate(found: Trajectory, title: str) -> bytes:
    """Draws x_t above the predicted x_0, a frame for a step; the last frame has the images."""
    frames, captions = [], found.captions()
    for step in evenly(len(captions), MAX_FRAMES):
        predicted = found.predictions[min(step, len(found.timesteps) - 1)]
        rows = [to_pixels(found.samples[step]), to_pixels(predicted)]
        text = f"{title}\n{captions[step]}"
        frames.append(plotting.image_rows(rows, [X_T, X_0], len(rows[0]), text, scale_for(rows[0])))
    return plotting.gif(frames, MILLISECONDS)


def evenly(length: int, count: int) -> list[int]:
    """Returns at most `count` indices below `length`, evenly spaced, the first and the last among them."""
    return torch.linspace(0, length - 1, min(count, length)).round().long().tolist()


def to_pixels(sample: torch.Tensor) -> torch.Tensor:
    """Maps images from [-1, 1] to [0, 1]; what lies beyond is cut off."""
    return (sample / 2 + 0.5).clamp(0, 1)


def forward_process(repo: str, seed: int = 0, count: int = 3) -> bytes:
    """Draws held-out images at growing noise levels, from x_0 to x_T.

    Args:
        count: images, a row each.
    """
    subject = load_diffusion(repo)
    images, alpha_bars = subject.images(subject.held_out, count), subject.pipeline.scheduler.alphas_cumprod.cpu()
    timesteps = evenly(len(alpha_bars), COLUMNS)
    rows, names = [], []
    for index in range(len(images)):
        x_0 = to_model_range(images.images[index : index + 1])
        eps = torch.randn(x_0.shape, generator=keyed_generator("figure", seed, index))
        alpha, sigma = signal_and_noise(alpha_bars, torch.tensor(timesteps), like=x_0)  # (T, 1, 1, 1) each
        rows.append(to_pixels(torch.cat([x_0, alpha * x_0 + sigma * eps])))
        names.append(f"image {index}" if images.labels is None else class_of(images, index))
    captions = [[]] * (len(rows) - 1) + [["image", *(f"t = {timestep}" for timestep in timesteps)]]
    title = (
        f"{subject.name}: {SPLITS[subject.held_out]} images and their x_t, t from 0 to {len(alpha_bars) - 1}, with "
    )
    title += f"the same noise eps along a row; seed {seed}"
    scale = scale_for(rows[0], 56)
    return plotting.png(plotting.image_rows(rows, names, len(timesteps) + 1, title, scale, captions))


def noise_schedule(repo: str) -> bytes:
    """Draws alpha_bar_t and beta_t against t / T, and those of the first DDPM.

    Those are linear, with T = 1000 and a beta from 1e-4 to 0.02 (Ho et al. 2020, arXiv 2006.11239, Sec. 4).
    """
    subject = load_diffusion(repo)
    schedules = {subject.name: subject.pipeline.scheduler, "linear (Ho et al. 2020)": DDPMScheduler()}
    title = f"{subject.name}: share of the signal's variance that is left, and variance of the noise that a step adds"
    return plotting.chart_png(plotting.chart(schedule_panels(schedules), title))


def schedule_panels(schedules: dict[str, DDPMScheduler]) -> Sequence[plotting.Panel]:
    """Returns the panels of `noise-schedule`.

    Args:
        schedules: name -> scheduler with `betas` and `alphas_cumprod` (T,).
    """
    curves: dict[str, list[plotting.Line]] = {r"$\bar\alpha_t$": [], r"$\beta_t$": []}
    for name, scheduler in schedules.items():
        total = len(scheduler.betas)
        t = ((torch.arange(total) + 1) / total).tolist()
        for lines, values in zip(curves.values(), (scheduler.alphas_cumprod, scheduler.betas), strict=True):
            lines.append(plotting.Line(f"{name}, T = {total:,}", t, values.tolist(), has_markers=False))
    signal, noise = curves
    return [
        plotting.Panel(curves[signal], "t / T", signal, x_start=0),
        plotting.Panel(curves[noise], "t / T", noise, log_y=True, x_start=0),
    ]
