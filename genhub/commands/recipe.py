"""`genhub recipes NAME`: one recipe, with what was measured of the published model."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from genhub.recipes import path, published
from genhub.recipes.find import find_recipe
from genhub.recipes.yaml import comment_of, read_yaml
from genhub.repository.names import place
from genhub.utils.reading import read_text


def recipe(source: str) -> dict[str, Any]:
    """Returns a recipe and its comment; of a published one also what is known of the trained model, and where its card
    is.

    Args:
        source: as for `genhub train`: a name, a YAML file or a folder.

    Raises:
        ValueError: there is no such recipe, or it cannot be read.
    """
    file = find_recipe(source)
    text = read_text(file)
    is_own = file == path(source)
    return {
        "name": source if is_own else file.stem,
        "file": str(file),
        "comment": " ".join(line.lstrip("# ") for line in comment_of(text).splitlines()),
        "published": published().get(source) if is_own else None,
        "card": _card(source) if is_own else None,
        "command": f"genhub train {source}",
        "recipe": read_yaml(text),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Returns what `recipe` found, and the recipe as YAML."""
    model, text = found["published"], read_text(Path(found["file"]))
    facts = {"recipe": found["name"], "file": found["file"]}
    if model is None:
        facts["model"] = "not published, so that nobody has measured its size and its minutes"
    else:
        parts = " and ".join(f"{count:,} of the {name}" for name, count in model["parameters"].items())
        facts["images"] = f"{model['data']} {model['size']}".strip()
        facts["parameters"] = f"{sum(model['parameters'].values()):,}" + f" ({parts})" * (len(model["parameters"]) > 1)
        cores = f"{model['processes']} process(es) of {model['threads']} thread(s)"
        facts["minutes"] = f"{model['minutes']}, as measured on {model['device']}, {cores}"
        facts["quality"] = model["quality"]
        facts["card"] = found["card"] or "in model_cards of a clone"
    facts["train it by"] = found["command"]
    return [*(f"{name:12} {value}" for name, value in facts.items()), "", *text.splitlines()]


def _card(name: str) -> str | None:
    """Returns where the card of a published model is: a file, or a repository of the Hub."""
    where = None
    with suppress(ValueError):  # only the card is looked up there
        where = place()
    if isinstance(where, str):
        return f"{where}/{name}"
    is_here = where is not None and (where / name / "README.md").is_file()
    return str(where / name / "README.md") if where is not None and is_here else None
