"""What a page shows of a pipeline: its graphs, and the numbers that the page's own code needs beside them."""

from typing import Any

from diffusers import DiffusionPipeline

from genhub.graphs.graph import Graph, image_shape
from genhub.graphs.networks import graphs_of
from genhub.graphs.samplers import tables_of
from genhub.repository.capabilities import capabilities_of, default_steps
from genhub.repository.format import RepositoryError

STEPS = (*range(1, 11), 15, 20, 30, 50)  # that a reader can choose


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


def _gan(name: str, pipeline: Any) -> tuple[dict[str, Any], dict[str, Graph]]:
    generator, graphs = pipeline.generator, graphs_of(name, pipeline)
    about = {"family": "gan", "latents": generator.config["latent_channels"]}
    about |= {"shape": image_shape(generator.config), "range": "tanh"}
    if not pipeline.has_styles:
        return about | {"truncates": not generator.has_normalized_latents}, graphs
    about |= {"truncates": True, "layers": generator.num_layers, "layers_in_use": generator.layers_in_use}
    about |= {"noise": generator.noise_size, "mean_style": generator.mean_style.tolist()}
    return about, {part: graphs[part] for part in ("map", "synthesize")}


def _vae(name: str, pipeline: Any) -> tuple[dict[str, Any], dict[str, Graph]]:
    config, graphs = pipeline.vae.config, graphs_of(name, pipeline)
    output = "sigmoid" if config["likelihood"] == "bernoulli" else "tanh"
    about = {"family": "vae", "latents": config["latent_channels"], "shape": image_shape(config), "range": output}
    mean = graphs["vae_encoder"]._replace(function=lambda *inputs: pipeline.vae.encode(*inputs)[0], output="latents")
    return about, {"encoder": mean, "decoder": graphs["vae_decoder"]}


def _autoencoder(name: str, pipeline: Any) -> tuple[dict[str, Any], dict[str, Graph]]:
    if pipeline.output != "images":
        raise RepositoryError(f"{name} cannot run on a page: its data are {pipeline.output}, not images.")
    graphs, shape = graphs_of(name, pipeline), image_shape(pipeline.autoencoder.config)
    length = graphs["decoder"].shapes()["latents"][1]
    about = {"family": "autoencoder", "latents": length, "shape": shape, "range": "tanh"}
    return about | {"hashes": "hash" in pipeline.tasks}, graphs


def _diffusion(name: str, pipeline: Any) -> tuple[dict[str, Any], dict[str, Graph]]:
    if pipeline.guide is not None:
        raise RepositoryError(f"{name} cannot run on a page: it is guided by a second network.")
    shape, graphs = image_shape(pipeline.unet.config), graphs_of(name, pipeline)
    image, used = shape, {"unet": graphs["unet"]}
    if pipeline.vae is not None:
        inputs = {"latents": graphs["vae_decoder"].inputs["latent_sample"]}
        used["decoder"] = graphs["vae_decoder"]._replace(function=pipeline._decode, inputs=inputs)
        side = pipeline.vae_scale_factor
        image = [pipeline.image_channels, shape[1] * side, shape[2] * side]
    config = pipeline.config
    about = {"family": "diffusion", "latent_shape": shape, "shape": image, "range": "tanh"}
    about |= {"null": pipeline.has_null_class, "guidance": config["guidance_scale"]}
    about |= {"interval": list(config["guidance_interval"]), "edits": pipeline.vae is None}
    about |= {"prediction": pipeline.scheduler.config["prediction_type"], "default_steps": default_steps(pipeline)}
    counts = sorted({*STEPS, about["default_steps"]})
    return about | {"tables": tables_of(name, pipeline, counts)}, used
