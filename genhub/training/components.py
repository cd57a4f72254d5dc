"""The components of a recipe: loaded from repositories, started from other weights, or built."""

import sys
from typing import Any, cast

from accelerate import Accelerator
from torch import nn

from genhub.data import Images, Latents, Lazy, Shape, encode_images, encoder_key, encoder_of
from genhub.recipes.recipe import Recipe
from genhub.training.pretrained import load_component, load_pretrained


class ComponentBuilder:
    """Builds the components of a recipe.

    Args:
        load_weights: load the weights that the recipe starts from; False for a run that is resumed.

    Raises:
        ValueError: a component cannot be loaded.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator, load_weights: bool):
        self.recipe, self.accelerator, self.load_weights = recipe, accelerator, load_weights
        self.loaded: dict[str, Any] = {
            name: load_component(source, name) for name, source in recipe.pretrained.items()
        }

    def encode(
        self, images: Images | Lazy, held_out: Images | None
    ) -> tuple[Images | Lazy | Latents, Images | Latents | None]:
        """Returns the data to train and to validate on: the images, or their latents, stored once, if the recipe has
        `data.encode`.

        Raises:
            ValueError: the encoder is not frozen.
        """
        recipe, name = self.recipe, self.recipe.data.encode
        if name is None:
            return images, held_out
        if name not in recipe.frozen:
            raise ValueError(f"`components.{name}.frozen` must be true: `data.encode` stores its latents once.")
        if name not in self.loaded:
            self.loaded[name] = recipe.build_component(name, images.shape)
            self._load_weights(name, self.loaded[name])
        encoder = self.loaded[name].to(self.accelerator.device)
        encode, key = encoder_of(encoder), encoder_key(encoder)
        with self.accelerator.main_process_first():
            return (
                encode_images(cast(Images, images), encode, key),  # which refuses others
                None if held_out is None else encode_images(held_out, encode, key),
            )

    def build(self, shape: Shape, data_shape: Shape) -> dict[str, Any]:
        """Builds all components that are not loaded, for images of `shape` and data of `data_shape`."""
        recipe = self.recipe
        latent_shape = None if recipe.data.encode is None else data_shape
        components = recipe.build_components(shape, latent_shape, self.loaded)
        for name, component in components.items():
            if name not in self.loaded:
                self._load_weights(name, component)
            if name in recipe.frozen and isinstance(component, nn.Module):
                component.eval().requires_grad_(False)
        return components

    def _load_weights(self, name: str, module: nn.Module):
        """Loads the weights that a component starts from, and says how many of its tensors they cover."""
        weights = self.recipe.weights.get(name)
        if weights is None or not (self.load_weights or name in self.recipe.frozen):
            return
        names = load_pretrained(weights, name, module)
        if self.accelerator.is_main_process:
            total = len(module.state_dict())
            print(f"{name} starts from {len(names)} of its {total} tensors in {weights}", file=sys.stderr)
