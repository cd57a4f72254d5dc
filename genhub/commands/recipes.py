"""`genhub recipes`: the published recipes. Imports nothing heavy."""

from typing import Any

from genhub.recipes import describe, names, published


def recipes() -> list[dict[str, Any]]:
    """Returns name and first sentence of each published recipe, and what is known of the trained model, None if it is
    not published."""
    trained = published()
    return [{"name": name, "description": describe(name), "published": trained.get(name)} for name in names()]


def lines(found: list[dict[str, Any]]) -> list[str]:
    """Returns a line for each recipe of `recipes`."""
    width = max(len(recipe["name"]) for recipe in found)
    return [f"{recipe['name']:{width}} {_outcome(recipe['published']):62} {recipe['description']}" for recipe in found]


def _outcome(model: dict[str, Any] | None) -> str:
    """Returns data, size, minutes and quality of a published model."""
    if model is None:
        return "not published"
    quality = f", {model['quality']}" if model["quality"] else ""
    return (
        f"{model['data']} {model['size']}".strip()
        + f", {model['minutes']} min on {model['threads']} thread(s){quality}"
    )
