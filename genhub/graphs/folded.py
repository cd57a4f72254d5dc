"""The whole way from noise to images as one graph, where it is short; images (B, C, H, W) are in [0, 1]."""

from typing import Any

import torch

from genhub.graphs.graph import Graph, Inputs, classes, image_shape, normal
from genhub.graphs.samplers import prediction_to_sample, tables_of
from genhub.repository.capabilities import default_steps
from genhub.repository.format import RepositoryError

FEW_STEPS = 8  # a sampler of at most so many is one graph with its network


def prior_and_decoder(pipeline: Any, inputs: Inputs) -> Graph:
    """Returns what a call of a VAE's pipeline does with z ~ N(0, I)."""
    is_bernoulli = pipeline.vae.config["likelihood"] == "bernoulli"

    def generate(*inputs: torch.Tensor) -> torch.Tensor:
        decoded = pipeline.vae.decode(*inputs)
        return decoded.sigmoid() if is_bernoulli else ((decoded + 1) / 2).clamp(0, 1)

    return Graph(generate, inputs, "images", ("vae",))


def few_steps(name: str, pipeline: Any) -> Graph | None:
    """Returns what a call of a diffusion pipeline does in its default number of steps, with the noise of each step as
    an input (B, steps, C, H, W); None if it is guided, takes more than `FEW_STEPS`, or its scheduler is no table."""
    count = default_steps(pipeline) or FEW_STEPS + 1
    if count > FEW_STEPS or pipeline.config["guidance_scale"] != 1:
        return None
    try:
        rows = tables_of(name, pipeline, [count])[str(count)]
    except RepositoryError:
        return None
    kind, config = pipeline.scheduler.config["prediction_type"], pipeline.unet.config
    shape = image_shape(config)

    def generate(latents: torch.Tensor, noise: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
        x_t, before = latents, torch.zeros_like(latents)
        for index, (t, _, _, alpha, sigma, bound, a, b, c, d) in enumerate(rows):
            prediction = pipeline.unet(x_t, torch.full(latents.shape[:1], int(t)), *labels).sample
            x_0 = prediction_to_sample(kind, prediction, x_t, alpha, sigma).clamp(-bound, bound)
            x_t, before = a * x_t + b * x_0 + c * before + d * noise[:, index], x_0
        sample = x_t if pipeline.components.get("vae") is None else pipeline._decode(x_t)
        return ((sample + 1) / 2).clamp(0, 1)

    inputs = {"latents": normal(*shape), "noise": normal(count, *shape)} | classes(config.get("num_class_embeds"))
    parts = tuple(name for name in ("unet", "vae") if pipeline.components.get(name) is not None)
    return Graph(generate, inputs, "images", parts)
