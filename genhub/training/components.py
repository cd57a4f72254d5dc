"""The components of a recipe: loaded from repositories, started from other weights, or built."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from accelerate import Accelerator
from torch import nn

from genhub.data import (
    Captions,
    Images,
    Latents,
    Lazy,
    Shape,
    encode_images,
    token_counts,
    tokenize,
    train_tokenizer,
)
from genhub.recipes.recipe import Recipe
from genhub.training.encoder import check_standardisable, encoder_key, encoder_of, standardise
from genhub.training.pretrained import load_component, load_pretrained
from genhub.utils.spelling import shorten

MAX_LENGTH = 4096  # of a text, in tokens
MAX_PROMPTS = 64  # from a column of captions


class ComponentBuilder:
    """Builds the components of a recipe.

    Args:
        load_weights: load the weights that the recipe starts from; False for a run that is resumed.

    Raises:
        ValueError: a component cannot be loaded.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator, load_weights: bool):
        self.recipe, self.accelerator, self.load_weights = recipe, accelerator, load_weights
        self.prompts: list[str] | None = None
        self.loaded: dict[str, Any] = {
            name: load_component(source, name) for name, source in recipe.pretrained.items()
        }

    def caption(self, images: Images | Lazy, held_out: Images | None) -> tuple[Images | Lazy, Images | None]:
        """Returns the images with the tokens of their captions, if the recipe has `data.captions`, and sets `prompts`
        to be asked for in turn. The tokenizer is learnt from the captions, unless the recipe loads one.

        Raises:
            ValueError: the images are not in memory, no captions can be written of them, or one is too long.
        """
        config = self.recipe.data
        if config.captions is None:
            return images, held_out
        if not isinstance(images, Images):
            raise ValueError("`data.captions` must be left out of data that are decoded while training.")
        captions_of, every, self.prompts = (
            _by_templates(images) if config.caption_column is None else _by_column(images)
        )
        captions, is_loaded = captions_of(images), "tokenizer" in self.loaded
        if not is_loaded:
            self._check_encoders()
            self.loaded["tokenizer"] = train_tokenizer(captions, config.caption_length)
        tokenizer = self.loaded["tokenizer"]
        key = "`model_max_length` of `components.tokenizer`" if is_loaded else "`data.caption_length`"
        tokens = tokenizer(every, max_length=MAX_LENGTH + 1, truncation=True)["input_ids"]  # without a warning
        self._check_length(tokenizer.model_max_length, tokens, key)
        images = replace(images, input_ids=tokenize(tokenizer, captions))
        if held_out is not None:
            held_out = replace(held_out, input_ids=tokenize(tokenizer, captions_of(held_out)))
        return images, held_out

    def _check_length(self, length: int, tokens: Sequence[list[int]], key: str):
        """Refuses a number of tokens that captions by templates do not fit into; says how many others are cut."""
        lengths = [*map(len, tokens)]
        longest, cut = max(lengths), sum(own > length for own in lengths)
        fits = cut == 0 or self.recipe.data.caption_column is not None
        if not (fits and length <= MAX_LENGTH):
            raise ValueError(
                f"{key} must lie in {longest}..{MAX_LENGTH}, as the longest caption has {longest} tokens, got "
                f"{length}."
            )
        if cut and self.accelerator.is_main_process:
            print(f"{cut:,} of {len(lengths):,} captions are cut: {key} is {length}", file=sys.stderr)

    def _check_encoders(self):
        """Refuses an encoder of texts that knows other tokens than the captions teach."""
        for name, part in self.loaded.items():
            if hasattr(getattr(part, "config", None), "vocab_size"):
                raise ValueError(
                    f"`components.tokenizer` must be loaded, too: `components.{name}` knows its own tokens."
                )

    def encode(
        self, images: Images | Lazy, held_out: Images | None
    ) -> tuple[Images | Lazy | Latents, Images | Latents | None]:
        """Returns the data to train and to validate on: the images, or their latents, stored once, if the recipe has
        `data.encode`.

        Raises:
            ValueError: the encoder is not frozen, takes images of other channels, or cannot standardise its latents.
        """
        recipe, config, name = self.recipe, self.recipe.data, self.recipe.data.encode
        if name is None:
            return images, held_out
        if name not in recipe.frozen:
            raise ValueError(f"`components.{name}.frozen` must be true: `data.encode` stores its latents once.")
        if name not in self.loaded:
            self.loaded[name] = recipe.build_component(name, images.shape)
            self._load_weights(name, self.loaded[name])
        encoder = self.loaded[name].to(self.accelerator.device)
        taken, given = encoder.config.get("in_channels"), images.shape.channels
        if taken not in (None, given):
            raise ValueError(
                f"`data.channels` must be {taken}, those of `components.{name}`, got images of {given}; or "
                f"`components.{name}.from` names an autoencoder of {given}."
            )
        if config.standardise:
            check_standardisable(encoder)

        def encode(images: Images) -> Latents:
            with self.accelerator.local_main_process_first():
                return encode_images(images, encoder_of(encoder), encoder_key(encoder))

        latents = encode(cast(Images, images))  # which refuses others
        if config.standardise:
            latents = standardise(encoder, latents)
        return latents, None if held_out is None else encode(held_out)

    def build(self, shape: Shape, data_shape: Shape) -> dict[str, Any]:
        """Builds all components that are not loaded, for images of `shape` and data of `data_shape`."""
        recipe = self.recipe
        latent_shape = None if recipe.data.encode is None else data_shape
        components = recipe.build_components(shape, latent_shape, self.loaded)
        self._check_tokens(components)
        for name, component in components.items():
            if name not in self.loaded:
                self._load_weights(name, component)
            if isinstance(component, nn.Module):  # a loaded one comes in evaluation mode
                component.train(name not in recipe.frozen)
                if name in recipe.frozen:
                    component.requires_grad_(False)
        return components

    def _check_tokens(self, components: dict[str, Any]):
        """Refuses an encoder of texts that is too small for the tokenizer."""
        if "tokenizer" not in components:
            return
        counts = token_counts(components["tokenizer"])
        for name, part in components.items():
            for key in ("vocab_size", "max_position_embeddings"):
                given = getattr(getattr(part, "config", None), key, None)
                if given is not None and given < counts[key]:
                    raise ValueError(f"`components.{name}.{key}` must be at least {counts[key]}, got {given}.")

    def _load_weights(self, name: str, module: nn.Module):
        """Loads the weights that a component starts from, and says how many of its tensors they cover."""
        weights = self.recipe.weights.get(name)
        if weights is None or not (self.load_weights or name in self.recipe.frozen):
            return
        names = load_pretrained(weights, name, module, name in self.recipe.ignore_mismatched_sizes)
        if self.accelerator.is_main_process:
            own = module.state_dict()
            new = [key for key in own if key not in names]
            others = f"; {shorten(new)} start anew" if new else ""
            print(f"{name} starts from {len(names)} of its {len(own)} tensors in {weights}{others}", file=sys.stderr)


def _by_templates(images: Images) -> tuple[Callable[[Images], list[str]], list[str], list[str]]:
    """Returns a function that writes the captions of images, all that it can write, and some to ask for."""
    rule = Captions.fit(images)
    return rule.write, rule.all(), rule.examples()


def _by_column(images: Images) -> tuple[Callable[[Images], list[str]], list[str], list[str]]:
    """Returns the same of captions that come with the images.

    Raises:
        ValueError: all are empty.
    """

    def captions_of(images: Images) -> list[str]:
        return cast(Any, images.captions).tolist()

    captions = captions_of(images)
    prompts = [*dict.fromkeys(filter(None, captions))][:MAX_PROMPTS]
    if not prompts:
        raise ValueError("`data.captions` must be a column that holds texts: all are empty.")
    return captions_of, captions, prompts
