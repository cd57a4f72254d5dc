"""Published recipes, made tiny."""

from pathlib import Path

import yaml

from genhub import recipes
from genhub.recipes.sections import merge

SGD = {"class": "torch.optim.SGD", "lr": 0.01}


def tiny_text_recipe(tiny: dict, path: Path) -> Path:
    """Writes the recipe `text-to-image` with tiny networks, an autoencoder that is not trained, and a rate that does
    not depend on the number of steps.

    Args:
        tiny: overrides, of which data and training count.
    """
    sections = _with_tiny_data("text-to-image", tiny)
    sections["components"]["vae"] = _untrained_autoencoder()
    sections["components"]["unet"] |= {"block_out_channels": [8, 8], "norm_num_groups": 4, "attention_head_dim": 2}
    sections["components"]["text_encoder"] |= {"num_hidden_layers": 1}
    del sections["optimizers"]["unet"]["schedule"]
    path.write_text(yaml.safe_dump(sections, sort_keys=False))
    return path


def tiny_autoencoder_recipe(tiny: dict, path: Path) -> Path:
    """Writes the recipe `autoencoder-kl` with a tiny network, trained by SGD."""
    sections = _with_tiny_data("autoencoder-kl", tiny)
    sections["components"]["autoencoder"] |= {"block_out_channels": [8, 8, 8]}
    sections["optimizers"]["autoencoder"] = dict(SGD)
    path.write_text(yaml.safe_dump(sections, sort_keys=False))
    return path


def tiny_latent_recipe(tiny: dict, path: Path) -> Path:
    """Writes the recipe `latent-ddpm` with a tiny network, trained by SGD, and an autoencoder that is not trained."""
    sections = _with_tiny_data("latent-ddpm", tiny)
    sections["components"]["vae"] = _untrained_autoencoder()
    sections["components"]["unet"] |= {"block_out_channels": [8, 8], "layers_per_block": [1, 1]}
    sections["optimizers"]["unet"] = dict(SGD)
    path.write_text(yaml.safe_dump(sections, sort_keys=False))
    return path


def _untrained_autoencoder() -> dict:
    """Returns a tiny component `vae` of the recipes in latents."""
    autoencoder = yaml.safe_load(recipes.path("autoencoder-kl").read_text())["components"]["autoencoder"]
    return autoencoder | {"block_out_channels": [8, 8, 8], "frozen": True}


def _with_tiny_data(name: str, tiny: dict) -> dict:
    """Returns the sections of a published recipe with data and training of the overrides `tiny`."""
    sections = yaml.safe_load(recipes.path(name).read_text())
    sections["data"] |= {"source": tiny["data.source"], "val_size": tiny["data.val_size"]}
    training = {key.partition(".")[2]: value for key, value in tiny.items() if key.startswith("training.")}
    return merge(sections, {"training": training})
