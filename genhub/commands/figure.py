"""A figure of a repository by its name, into a file and onto the card."""

import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genhub.commands.arguments import ARGUMENTS, check_arguments
from genhub.figures import ANIMATED, CAN_ANIMATE, FIGURES
from genhub.repository.card_results import with_figure
from genhub.repository.replace import finish_save
from genhub.repository.shown_path import ShownPath
from genhub.training.distributed import accelerator_aside
from genhub.utils.files import atomic_write, expanded
from genhub.utils.locks import locked
from genhub.utils.reading import read_text
from genhub.utils.spelling import did_you_mean


@accelerator_aside()
def figure(
    name: str,
    repo: str,
    output: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    count: int | None = None,
    against: str | None = None,
) -> Path:
    """Draws the figure `name` of `repo` into a file and returns its path; a picture in a repository is also shown on
    its card.

    Args:
        output: a PNG file, or a GIF file for an animation; `<name>.png`, or `<name>.gif` of a figure that is always
            one, in a local repository, or in the working directory, if None.
        steps: sampling steps, for a figure that shows samples.
        seed: of random numbers, for a figure that draws any.
        count: number of images, rows or pairs, as the figure says.
        against: a second repository, for a figure that compares.

    Raises:
        ValueError: there is no such figure or repository, the figure does not take an option, or the repository lacks
            the data for it; or another process writes to the repository, whose card is left as it is.
    """
    if name not in FIGURES:
        raise ValueError(f"There is no figure {name!r}{did_you_mean(name, FIGURES)}. Known: {', '.join(FIGURES)}.")
    draw = pkgutil.resolve_name(FIGURES[name])
    finish_save(expanded(repo))
    path = _output_path(name, repo, output)
    options = {"steps": steps, "seed": seed, "count": count, "against": against}
    options = {key: value for key, value in options.items() if value is not None}
    _check_options(name, draw, options)
    if name in CAN_ANIMATE:
        options["is_animated"] = path.suffix.lower() == ".gif"
    atomic_write(path, draw(repo, **options))
    card = path.parent / "README.md"
    is_of_repo = path.parent.resolve() == expanded(repo).resolve()
    if is_of_repo and (path.parent / "model_index.json").is_file() and card.is_file():
        with locked(path.parent):
            atomic_write(card, with_figure(read_text(card), path.name))
    return ShownPath(path)


def _output_path(name: str, repo: str, output: str | None) -> Path:
    """Returns the file to write.

    Raises:
        ValueError: its folder does not exist, or it is of another kind than the figure.
    """
    suffixes = [".gif"] if name in ANIMATED else [".png"]
    if name in CAN_ANIMATE:
        suffixes.append(".gif")
    folder = expanded(repo)
    path = Path(output) if output else (folder if folder.is_dir() else Path()) / f"{name}{suffixes[0]}"
    if not path.parent.is_dir():
        raise ValueError(f"`output` must lie in an existing folder, got {path}.")
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"`output` must be a {' or '.join(suffixes)} file, got {path}.")
    return path


def _check_options(name: str, draw: Callable[..., bytes], options: dict[str, Any]) -> None:
    """Refuses options that the figure does not take, and values out of range."""
    parameters = list(inspect.signature(draw).parameters.values())[1:]
    known = [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
    takes = f"takes {' and '.join(f'`{option}`' for option in known)}" if known else "takes no options"
    for key, value in options.items():
        if key not in known:
            raise ValueError(f"`{key}` must be unset: the figure {name} {takes}, got {value}.")
        if key in ARGUMENTS:
            check_arguments(**{key: value})
