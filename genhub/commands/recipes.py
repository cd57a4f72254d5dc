"""`genhub recipes`: the published recipes. Imports nothing heavy."""

from genhub.recipes import describe, names, published


def recipes() -> dict[str, str]:
    """Returns the name of each published recipe with a line about it: its data, what training took and gave, if the
    trained model is published, and its first sentence."""
    trained = published()
    return {name: f"{_outcome(trained.get(name)):62} {describe(name)}" for name in names()}


def _outcome(model: dict | None) -> str:
    """Returns data, size, minutes and quality of a published model."""
    if model is None:
        return "not published"
    quality = f", {model['quality']}" if model["quality"] else ""
    return (
        f"{model['data']} {model['size']}".strip()
        + f", {model['minutes']} min on {model['threads']} thread(s){quality}"
    )
