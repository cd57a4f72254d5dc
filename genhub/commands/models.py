"""`genhub models`: the published models, which short names find, and what was measured of them."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from genhub.commands.console import table
from genhub.repository import names
from genhub.repository.download import download
from genhub.repository.format import RepositoryError
from genhub.repository.summary import ACCURACY, FAMILIES, QUALITY, summarise
from genhub.utils.network import connect
from genhub.utils.reading import one_line

HEAD = ("model", "family", "parameters", "weights", "quality")
READ = ["metrics.json", "model_index.json"]


def models() -> list[dict[str, Any]]:
    """Returns the facts of each model in the clone's `model_cards`, or in `GENHUB_MODELS`: family by family, the best
    first. One that cannot be read is named on stderr.

    Raises:
        ValueError: there is neither place.
        RepositoryError: the Hub cannot be asked, or there is no model that can be read.
    """
    where = names.place()
    if where is None:
        raise ValueError(
            "There are no published models to list: genhub runs from no clone with model_cards, and `GENHUB_MODELS` "
            "(a folder, or a namespace of the Hub) is not set."
        )
    found = []
    for name, source, weights in _in_folder(where) if isinstance(where, Path) else _on_hub(where):
        try:
            facts = summarise(download(source, allow_patterns=READ), weights)
            found.append({"name": name, "repository": str(source), **facts})
        except RepositoryError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    if not found:
        place = f"folder {where}" if isinstance(where, Path) else f"namespace {where} of the Hub does not exist, or"
        raise RepositoryError(f"The {place} holds no model that genhub can read.")
    return sorted(found, key=_rank)


def lines(found: list[dict[str, Any]]) -> list[str]:
    """Returns the table of `models`."""
    rows = [
        (
            facts["name"],
            facts["family"] or "",
            f"{sum(facts['parameters'].values()):,}" if facts["parameters"] else "",
            f"{facts['bytes'] / 1e3:,.0f} kB",
            quality(facts["quality"]),
        )
        for facts in found
    ]
    return table(HEAD, rows, right=(2, 3))


def quality(found: dict[str, Any] | None) -> str:
    """Returns a quality of `summarise` as words."""
    if found is None:
        return ""
    is_reduced = found["name"] == "FD-FM" and not found["complete"]
    return f"{found['name']} {found['value']:.3g}" + ", reduced: not comparable" * is_reduced


def _in_folder(folder: Path) -> Iterator[tuple[str, Path, None]]:
    return ((name, folder / name, None) for name in names.models_in(folder))


def _on_hub(namespace: str) -> Iterator[tuple[str, str, int]]:
    """Yields name, repository and bytes of the weights of each model of genhub's in a namespace."""
    hub, api = connect(), HfApi()
    try:
        for name in names.models_of(namespace, tag="genhub"):
            files = api.model_info(f"{namespace}/{name}", files_metadata=True).siblings or []
            weights = sum(file.size or 0 for file in files if file.rfilename.endswith(".safetensors"))
            yield name, f"{namespace}/{name}", weights
    except Exception as error:  # the client raises errors of several HTTP libraries, which change with its version
        reason = one_line(hub.failure or error)
        raise RepositoryError(f"The models of {namespace} on the Hub cannot be listed ({reason}).") from error


def _rank(facts: dict[str, Any]) -> tuple[int, int, float, str]:
    """Returns the place of a model in the list: that of its family, and then its quality, like beside like."""
    families, kinds, found = [*FAMILIES.values(), None], [*QUALITY.values(), ACCURACY], facts["quality"]
    kind, value = (len(kinds), math.inf) if found is None else (kinds.index(found["name"]), found["value"])
    return families.index(facts["family"]), kind, value, facts["name"]
