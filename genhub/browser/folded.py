"""What a pipeline is exported as: its networks, and where it serves the way from noise to images as one graph."""

from typing import Any

import torch

from genhub.browser.graphs import Graph
from genhub.browser.models import _class_input, _normal, _pixels, _shape, describe
from genhub.browser.samplers import prediction_to_sample, tables_of
from genhub.repository.capabilities import default_steps

FEW_STEPS = 8  # a sampler of at most so many is one graph with its network


def graphs_of(name: str, pipeline: Any) -> dict[str, Graph]:
    """Returns the graphs of a pipeline by the names of their files.

    Raises:
        RepositoryError: there are none for such a pipeline.
    """
    if "classifier" in pipeline.components:
        config = pipeline.classifier.config
        shape = _shape({"sample_size": 28} | dict(config))  # without one it takes any size
        inputs = {"sample": _pixels(*shape)}
        return {"classifier": Graph(lambda sample: pipeline.classifier(sample)[0], inputs, "logits")}
    about, graphs = describe(name, pipeline)
    if about["family"] == "diffusion" and (default_steps(pipeline) or FEW_STEPS + 1) <= FEW_STEPS:
        graphs["pipeline"] = few_step(name, pipeline)
    if about["family"] == "vae":
        is_bernoulli = pipeline.vae.config["likelihood"] == "bernoulli"

        def draw(*inputs: torch.Tensor) -> torch.Tensor:  # N(0, I) is the prior
            decoded = pipeline.vae.decode(*inputs)
            return decoded.sigmoid() if is_bernoulli else ((decoded + 1) / 2).clamp(0, 1)

        graphs["pipeline"] = Graph(draw, graphs["decoder"].inputs, "images")
    if about["family"] == "gan" and pipeline.has_styles:
        generator, noise = pipeline.generator, graphs["synthesize"].inputs["noise"]

        def generate(latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            styles = generator.map(latents)[:, None].expand(-1, generator.num_layers, -1)
            return generator.synthesize(styles, noise)

        graphs["generator"] = Graph(generate, graphs["map"].inputs | {"noise": noise}, "sample")
    return graphs


def few_step(name: str, pipeline: Any) -> Graph:
    """Returns the sampling of a diffusion model at its default number of steps: noise and, after the first, the noise
    of each step -> images in [-1, 1]."""
    rows = tables_of(name, pipeline, [count := default_steps(pipeline) or 1])[str(count)]
    kind = pipeline.scheduler.config["prediction_type"]
    shape = _shape(pipeline.unet.config)
    labels = _class_input(pipeline.unet.config.get("num_class_embeds") or 0)

    def sample(latents: torch.Tensor, noise: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
        x_t, before = latents, torch.zeros_like(latents)
        for index, (t, _, _, alpha, sigma, bound, a, b, c, d) in enumerate(rows):
            timestep = torch.full(latents.shape[:1], int(t))
            prediction = pipeline.unet(x_t, timestep, *labels).sample
            x_0 = prediction_to_sample(kind, prediction, x_t, alpha, sigma).clamp(-bound, bound)
            x_t, before = a * x_t + b * x_0 + c * before + d * noise[:, index], x_0
        return x_t if pipeline.vae is None else pipeline._decode(x_t)

    return Graph(sample, {"latents": _normal(*shape), "noise": _normal(count, *shape)} | labels, "sample")
