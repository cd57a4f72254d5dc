"""What a page shows of a pipeline: its graphs, and the numbers that the page's own code needs beside them."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DiffusionPipeline

from genhub.browser.graphs import Graph
from genhub.browser.samplers import tables_of
from genhub.repository.capabilities import capabilities_of, default_steps
from genhub.repository.format import RepositoryError

STEPS = (*range(1, 11), 15, 20, 30, 50)  # that a reader can choose
Inputs = dict[str, Callable[[int], torch.Tensor]]


def describe(name: str, pipeline: Any) -> tuple[dict[str, Any], dict[str, Graph]]:
    """Returns what the page is told about a pipeline, and the graphs that it calls.

    Raises:
        RepositoryError: the page has nothing for such a pipeline.
    """
    tasks = capabilities_of(pipeline).tasks
    for part, family in (("generator", _gan), ("unet", _diffusion), ("vae", _vae), ("autoencoder", _autoencoder)):
        if part in pipeline.components and hasattr(pipeline, "tasks") and pipeline.components[part] is not None:
            about, graphs = family(name, pipeline)
            return {"name": name, "labels": _labels(pipeline), "tasks": sorted(tasks)} | about, graphs
    raise RepositoryError(f"{name} cannot run on a page: there is none for {type(pipeline).__name__}.")


def _labels(pipeline: DiffusionPipeline) -> list[str]:
    """Returns the names of the classes; none of an unconditional network."""
    count, names = capabilities_of(pipeline).num_classes or 0, pipeline.config.get("id2label") or {}
    return [names.get(str(number), str(number)) for number in range(count)]


def _shape(config: Any) -> list[int]:
    size = config["sample_size"]
    channels = config.get("in_channels") or config["out_channels"]
    return [channels, *((size, size) if isinstance(size, int) else size)]


def _normal(*shape: int) -> Callable[[int], torch.Tensor]:
    return lambda count: torch.randn(count, *shape, generator=torch.Generator().manual_seed(count))


def _pixels(*shape: int) -> Callable[[int], torch.Tensor]:
    return lambda count: torch.rand(count, *shape, generator=torch.Generator().manual_seed(count)) * 2 - 1


def _class_input(count: int) -> Inputs:
    return {"class_labels": lambda batch: torch.arange(batch) % count} if count else {}


def _gan(name: str, pipeline: Any) -> tuple[dict[str, Any], dict[str, Graph]]:
    generator = pipeline.generator
    length = generator.config["latent_channels"]
    about = {"family": "gan", "latents": length, "shape": _shape(generator.config), "range": "tanh"}
    if not pipeline.has_styles:
        about["truncates"] = not generator.has_normalized_latents
        inputs = {"latents": _normal(length)} | _class_input(generator.config.get("num_class_embeds") or 0)
        return about, {
            "generator": Graph(
                lambda *inputs: pipeline._generate(*inputs, *[None] * (2 - len(inputs))), inputs, "sample"
            )
        }
    styles = {"styles": _normal(generator.num_layers, length), "noise": _normal(generator.noise_size)}
    about |= {"truncates": True, "layers": generator.num_layers, "layers_in_use": generator.layers_in_use}
    about |= {"noise": generator.noise_size, "mean_style": generator.mean_style.tolist()}
    return about, {
        "map": Graph(generator.map, {"latents": _normal(length)}, "style"),
        "synthesize": Graph(generator.synthesize, styles, "sample"),
    }


def _vae(name: str, pipeline: Any) -> tuple[dict[str, Any], dict[str, Graph]]:
    config = pipeline.vae.config
    shape, length = _shape(config), config["latent_channels"]
    labels = _class_input(config.get("num_class_embeds") or 0)
    output = "sigmoid" if config["likelihood"] == "bernoulli" else "tanh"
    return {"family": "vae", "latents": length, "shape": shape, "range": output}, {
        "encoder": Graph(
            lambda *inputs: pipeline.vae.encode(*inputs)[0], {"sample": _pixels(*shape)} | labels, "latents"
        ),
        "decoder": Graph(pipeline.vae.decode, {"latents": _normal(length)} | labels, "sample"),
    }


def _autoencoder(name: str, pipeline: Any) -> tuple[dict[str, Any], dict[str, Graph]]:
    if pipeline.output != "images":
        raise RepositoryError(f"{name} cannot run on a page: its data are {pipeline.output}, not images.")
    shape, network = _shape(pipeline.autoencoder.config), pipeline.autoencoder
    length = pipeline._encode(torch.zeros(1, *shape)).shape[1]

    def decode(latents: torch.Tensor) -> torch.Tensor:
        sample = network.decode(latents.view(-1, *pipeline._latent_shape()))
        return sample if isinstance(sample, torch.Tensor) else sample.sample

    bits = "hash" in pipeline.tasks
    return {"family": "autoencoder", "latents": length, "shape": shape, "range": "tanh", "hashes": bits}, {
        "encoder": Graph(pipeline._encode, {"sample": _pixels(*shape)}, "latents"),
        "decoder": Graph(decode, {"latents": _pixels(length)}, "sample"),
    }


def _diffusion(name: str, pipeline: Any) -> tuple[dict[str, Any], dict[str, Graph]]:
    if pipeline.guide is not None:
        raise RepositoryError(f"{name} cannot run on a page: it is guided by a second network.")
    shape, total = _shape(pipeline.unet.config), pipeline.scheduler.config["num_train_timesteps"]
    times = {"timestep": lambda batch: torch.arange(1, batch + 1) * total // (batch + 2)}
    labels = _class_input(pipeline.unet.config.get("num_class_embeds") or 0)

    def predict(sample: torch.Tensor, timestep: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
        return pipeline.unet(sample, timestep, *labels).sample

    graphs = {"unet": Graph(predict, {"sample": _normal(*shape)} | times | labels, "prediction")}
    image = shape
    if pipeline.vae is not None:
        graphs["decoder"] = Graph(pipeline._decode, {"latents": _normal(*shape)}, "sample")
        side = pipeline.vae_scale_factor
        image = [pipeline.image_channels, shape[1] * side, shape[2] * side]
    config = pipeline.config
    about = {"family": "diffusion", "latent_shape": shape, "shape": image, "range": "tanh"}
    about |= {"null": pipeline.has_null_class, "guidance": config["guidance_scale"]}
    about |= {"interval": list(config["guidance_interval"]), "edits": pipeline.vae is None}
    about |= {"prediction": pipeline.scheduler.config["prediction_type"], "default_steps": default_steps(pipeline)}
    counts = sorted({*STEPS, about["default_steps"]})
    return about | {"tables": tables_of(name, pipeline, counts)}, graphs
