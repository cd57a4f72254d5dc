"""What the noise inputs of a style-based generator decide: `noise-inputs`."""

import torch

from genhub import plotting
from genhub.figures.gan import draw_latents
from genhub.figures.subject import Subject, load_subject, scale_for
from genhub.utils.randomness import keyed_generator

SHOWN, MEASURED = 6, 64  # images of a row, and draws of the noise over which deviations are taken
WHITE = 0.99  # quantile of the pixels' standard deviations that is white


def noise_inputs(repo: str, count: int = 3, seed: int = 0) -> bytes:
    """Draws what noise alone changes in images of the same latents, and at which level.

    After Karras et al. 2018, arXiv 1812.04948, Fig. 4 and 5: images that differ in all their noise, or in that of one
    level only, with a map of the standard deviations of their pixels.

    Args:
        count: latents.
    """
    subject = load_subject(repo, "mix", "GANPipeline with StyleGANGenerator")
    generator = subject.pipeline.generator
    sizes = generator.noise_sizes[: generator.layers_in_use]
    levels = {"all levels": range(len(sizes))}
    for layer in range(0, len(sizes), 2):
        side = generator.config["base_size"] * 2 ** (layer // 2)
        levels[f"{side} x {side} only"] = range(layer, layer + 2)
    rows, maps, names = [], [], []
    for index in range(count):
        for name, layers in levels.items():
            images = draw_noises(subject, seed, index, layers)
            rows.append(images[:SHOWN])
            maps.append(images.std(0, correction=0).mean(0))  # (H, W), over draws, the mean of channels
            names.append(f"latent {index}, {name}")
    white = max(deviations.quantile(WHITE).item() for deviations in maps)
    for number, deviations in enumerate(maps):
        image = (deviations / max(white, 1e-12)).clamp(max=1).expand(1, rows[0].shape[1], -1, -1)
        rows[number] = torch.cat([quiet_image(subject, seed, number // len(levels)), rows[number], image])
        names[number] += f", sd {deviations.mean():.4f}"
    captions = [[]] * (len(rows) - 1) + [["no noise", *(f"noise {draw}" for draw in range(SHOWN)), "sd"]]
    title = (
        f"{subject.name}: images of the same latents without noise and with {SHOWN} draws of it; on the right the "
        f"standard deviation (sd) of each pixel in [0, 1] over {MEASURED} draws, white if it is {white:.3f} or more; "
        f"names: its mean over pixels; seed {seed}, uncurated"
    )
    return plotting.png(plotting.image_rows(rows, names, SHOWN + 2, title, scale_for(rows[0], 56), captions))


@torch.no_grad()
def draw_noises(subject: Subject, seed: int, index: int, layers: range) -> torch.Tensor:
    """Returns images (MEASURED, C, H, W) in [0, 1] of latent `index`, with other noise in `layers` and none in the
    others."""
    generator = subject.pipeline.generator
    noise = torch.randn(MEASURED, generator.noise_size, generator=keyed_generator("figure", seed, index))
    parts = [part if layer in layers else 0 * part for layer, part in enumerate(noise.split(generator.noise_sizes, 1))]
    return synthesize(subject, draw_latents(subject, seed, [index]).expand(MEASURED, -1), torch.cat(parts, 1))


def quiet_image(subject: Subject, seed: int, index: int) -> torch.Tensor:
    """Returns the image (1, C, H, W) in [0, 1] of latent `index` without noise."""
    return synthesize(subject, draw_latents(subject, seed, [index]), None)


@torch.no_grad()
def synthesize(subject: Subject, latents: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
    """Returns the images (N, C, H, W) in [0, 1] of latents (N, L)."""
    generator, device = subject.pipeline.generator, subject.pipeline.device
    styles = generator.map(latents.to(device))[:, None].expand(-1, generator.num_layers, -1)
    sample = generator.synthesize(styles, None if noise is None else noise.to(device))
    return (sample / 2 + 0.5).clamp(0, 1).float().cpu()
