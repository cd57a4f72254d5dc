"""Published recipes, made tiny."""

from pathlib import Path

import yaml

from genhub import recipes
from genhub.recipes.sections import merge


def tiny_text_recipe(tiny: dict, path: Path) -> Path:
    """Writes the recipe `text-to-image` with tiny networks, an autoencoder that is not trained, and a rate that does
    not depend on the number of steps.

    Args:
        tiny: overrides, of which data and training count.
    """
    sections = yaml.safe_load(recipes.path("text-to-image").read_text())
    sections["data"] |= {"source": tiny["data.source"], "val_size": tiny["data.val_size"]}
    training = {name.partition(".")[2]: value for name, value in tiny.items() if name.startswith("training.")}
    sections = merge(sections, {"training": training})
    autoencoder = yaml.safe_load(recipes.path("autoencoder-kl").read_text())["components"]["autoencoder"]
    sections["components"]["vae"] = autoencoder | {"block_out_channels": [8, 8, 8], "frozen": True}
    sections["components"]["unet"] |= {"block_out_channels": [8, 8], "norm_num_groups": 4, "attention_head_dim": 2}
    sections["components"]["text_encoder"] |= {"num_hidden_layers": 1}
    del sections["optimizers"]["unet"]["schedule"]
    path.write_text(yaml.safe_dump(sections, sort_keys=False))
    return path
