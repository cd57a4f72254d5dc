"""What a pipeline is exported as: each network, or half of one, under optimum's name where it has one."""

from typing import Any

import torch

from genhub.graphs.folded import few_steps, prior_and_decoder
from genhub.graphs.graph import Graph, classes, image_shape, normal, pixels, uniforms
from genhub.repository.format import RepositoryError

CLASSIFIED_SIZE = 28  # of the images that a classifier of any size is exported for
Graphs = dict[str, Graph]


def graphs_of(name: str, pipeline: Any) -> Graphs:
    """Returns the graphs of a pipeline by their names.

    Raises:
        RepositoryError: there are none for such a pipeline.
    """
    families = {
        "classifier": _classifier,
        "generator": _gan,
        "unet": _diffusion,
        "vae": _vae,
        "autoencoder": _autoencoder,
        "machine": _machine,
    }
    for part, family in families.items():
        network = pipeline.components.get(part)
        if network is not None and (part != "vae" or "likelihood" in network.config):  # diffusers' has none
            return family(name, pipeline)
    raise RepositoryError(f"{name} cannot be exported: no network of {type(pipeline).__name__} is known.")


def _classifier(name: str, pipeline: Any) -> Graphs:
    shape = image_shape({"sample_size": CLASSIFIED_SIZE} | dict(pipeline.classifier.config))
    return {
        "classifier": Graph(
            lambda sample: pipeline.classifier(sample)[0], {"sample": pixels(*shape)}, "logits", ("classifier",)
        )
    }


def _gan(name: str, pipeline: Any) -> Graphs:
    network = pipeline.generator
    latents = {"latents": normal(network.config["latent_channels"])}
    if not pipeline.has_styles:
        labels = classes(network.config.get("num_class_embeds"))

        def generate(latents: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
            return pipeline._generate(latents, labels[0] if labels else None)

        return {"generator": Graph(generate, latents | labels, "sample", ("generator",))}

    def generate_with_noise(latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return network.synthesize(pipeline._styles(latents, truncation=1), noise)

    styles = {"styles": normal(network.num_layers, network.config["latent_channels"])}
    noise = {"noise": normal(network.noise_size)}
    return {
        "generator": Graph(generate_with_noise, latents | noise, "sample", ("generator",)),
        "map": Graph(network.map, latents, "style", ("generator",)),
        "synthesize": Graph(network.synthesize, styles | noise, "sample", ("generator",)),
    }


def _diffusion(name: str, pipeline: Any) -> Graphs:
    parts, config = pipeline.components, pipeline.unet.config
    if parts.get("guide") is not None:
        raise RepositoryError(f"{name} cannot be exported: it is guided by a second network.")
    total, inputs = pipeline.scheduler.config["num_train_timesteps"], {"sample": normal(*image_shape(config))}
    graphs: Graphs = {}
    if parts.get("text_encoder") is None:
        inputs["timestep"] = lambda batch: torch.arange(1, batch + 1) * total // (batch + 2)
        inputs |= classes(config.get("num_class_embeds"))
    else:
        encoder = pipeline.text_encoder
        length, words = encoder.config.max_position_embeddings, encoder.config.vocab_size
        ids = {"input_ids": lambda batch: torch.arange(batch * length).view(batch, length) % words}
        graphs["text_encoder"] = Graph(
            lambda input_ids: encoder(input_ids)[0], ids, "last_hidden_state", ("text_encoder",)
        )
        inputs["timestep"] = lambda batch: torch.tensor([total // 2])  # one for all, as optimum and diffusers pass it
        inputs["encoder_hidden_states"] = normal(length, config["cross_attention_dim"])
    graphs["unet"] = Graph(
        lambda *inputs: pipeline.unet(*inputs, return_dict=False)[0], inputs, "out_sample", ("unet",)
    )
    if parts.get("vae") is not None:
        graphs |= _latent_images(pipeline)
    folded = few_steps(name, pipeline) if hasattr(pipeline, "tasks") else None
    return graphs if folded is None else graphs | {"pipeline": folded}


def _latent_images(pipeline: Any) -> Graphs:
    """Returns both halves of an `AutoencoderKL`."""
    vae = pipeline.vae
    shape = image_shape(vae.config)
    shape[1:] = [length * pipeline.vae_scale_factor for length in image_shape(pipeline.unet.config)[1:]]

    def encode(sample: torch.Tensor) -> torch.Tensor:
        return vae.encode(sample).latent_dist.parameters  # mean and log variance, (B, 2 L, H, W)

    latents = {"latent_sample": normal(*image_shape(pipeline.unet.config))}
    return {
        "vae_encoder": Graph(encode, {"sample": pixels(*shape)}, "latent_parameters", ("vae",)),
        "vae_decoder": Graph(lambda latents: vae.decode(latents).sample, latents, "sample", ("vae",)),
    }


def _vae(name: str, pipeline: Any) -> Graphs:
    vae, config = pipeline.vae, pipeline.vae.config
    labels = classes(config.get("num_class_embeds"))
    latents = {"latents": normal(config["latent_channels"])} | labels

    def encode(*inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat(vae.encode(*inputs), 1)  # mean and logvar, (B, 2 L)

    return {
        "vae_encoder": Graph(encode, {"sample": pixels(*image_shape(config))} | labels, "latent_parameters", ("vae",)),
        "vae_decoder": Graph(vae.decode, latents, "sample", ("vae",)),
        "pipeline": prior_and_decoder(pipeline, latents),
    }


def _autoencoder(name: str, pipeline: Any) -> Graphs:
    shape, network = image_shape(pipeline.autoencoder.config), pipeline.autoencoder
    length = pipeline._encode(torch.zeros(1, *shape)).shape[1]

    def decode(latents: torch.Tensor) -> torch.Tensor:
        sample = network.decode(latents.view(-1, *pipeline._latent_shape()))
        return sample if isinstance(sample, torch.Tensor) else sample.sample

    return {
        "encoder": Graph(pipeline._encode, {"sample": pixels(*shape)}, "latents", ("autoencoder",)),
        "decoder": Graph(decode, {"latents": pixels(length)}, "sample", ("autoencoder",)),
    }


def _machine(name: str, pipeline: Any) -> Graphs:
    network, length, part = pipeline.machine, pipeline.machine.config["latent_channels"], ("machine",)
    states = {"latents": lambda batch: (pixels(length)(batch) > 0).float()}
    uniform, between = {"noise": uniforms(pipeline._visible_size() + length)}, sum(network.config["hidden_sizes"])
    drawn = {"noise": uniforms(between)} if between else {}  # the layers between the top one and the image
    return {
        "encoder": Graph(network.encode, {"sample": pixels(*image_shape(network.config))}, "latents", part),
        "decoder": Graph(network.decode, states | drawn, "sample", part),
        "gibbs": Graph(network.gibbs, states | uniform, "next_latents", part),
    }
