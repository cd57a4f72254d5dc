"""`genhub recipes`: the published recipes. Imports nothing heavy."""

from genhub.recipes import describe, names


def recipes() -> dict[str, str]:
    """Returns the name of each published recipe with a line about it."""
    return {name: describe(name) for name in names()}
