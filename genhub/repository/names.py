"""Short names of published models: `gan-best` is `model_cards/gan-best` of a clone, or a model in `GENHUB_MODELS`.

`GENHUB_MODELS`, a folder of repositories or a namespace of the Hub, takes the place of the clone's `model_cards`. A
folder of that name in the working folder comes before both.
"""

import itertools
import os
import re
from contextlib import suppress
from pathlib import Path

from genhub.utils.files import expanded
from genhub.utils.spelling import did_you_mean

CLONE = Path(__file__).parents[2]
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
MOST_MODELS = 1000  # of a namespace that are listed


def place() -> Path | str | None:
    """Returns where short names are looked up: a folder, or a namespace of the Hub; None if there is neither.

    Raises:
        RepositoryError: `GENHUB_MODELS` is neither.
    """
    named = os.environ.get("GENHUB_MODELS")
    if not named:
        is_clone = (CLONE / "pyproject.toml").is_file() and (CLONE / "model_cards").is_dir()
        return CLONE / "model_cards" if is_clone else None
    if expanded(named).is_dir():
        return expanded(named)
    if not NAME.fullmatch(named):
        from genhub.repository.format import RepositoryError  # imports pydantic, for which a list does not wait

        raise RepositoryError(f"`GENHUB_MODELS` must be an existing folder or a namespace of the Hub, got {named!r}.")
    return named


def find(name_or_path: str | os.PathLike) -> str | os.PathLike:
    """Returns the folder or the Hub repository that a short name stands for; anything else, and the name of a folder
    that exists or that nobody published, as it is."""
    name, where = str(name_or_path), place() if NAME.fullmatch(str(name_or_path)) else None
    if where is None or Path(name).is_dir():
        return name_or_path
    if isinstance(where, str):
        return f"{where}/{name}"
    return where / name if name in models_in(where) else name_or_path


def models_in(folder: Path) -> list[str]:
    """Returns the names of the repositories in a folder, sorted."""
    return sorted(path.parent.name for path in folder.glob("*/model_index.json") if NAME.fullmatch(path.parent.name))


def models_of(namespace: str, tag: str | None = None) -> list[str]:
    """Returns the names of the models of a namespace of the Hub, sorted; none of one that the Hub does not know.

    Args:
        tag: that their cards must have.

    Raises:
        Exception: of several HTTP libraries: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    models = HfApi().list_models(author=namespace, filter=tag, limit=MOST_MODELS)
    found = (model.id.partition("/")[2] for model in itertools.islice(models, MOST_MODELS))
    return sorted(name for name in found if NAME.fullmatch(name))


def why_unknown(name: str) -> str:
    """Returns why a short name stands for nothing, with the nearest names."""
    if (where := place()) is None:
        return (
            f"There is no folder {name} here, and short names have no place: genhub runs from no clone with "
            "model_cards, and `GENHUB_MODELS` (a folder, or a namespace of the Hub) is not set."
        )
    hint = did_you_mean(name, models_in(Path(where)), count=3)
    return f"There is no folder {name} here, and no model {name} in {where}{hint}. `genhub models` lists them."


def nearest_of_hub(repo_id: str) -> str:
    """Returns a hint with the models of the same namespace of the Hub whose names are nearest, if it can be asked."""
    namespace, _, name = repo_id.partition("/")
    with suppress(Exception):  # a hint is no reason to fail
        return did_you_mean(name, models_of(namespace), count=3)
    return ""
