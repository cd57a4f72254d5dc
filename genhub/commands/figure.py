"""A figure of a repository by its name, into a file and onto the card."""

import inspect
from pathlib import Path

from genhub.figures import ANIMATED, FIGURES
from genhub.recipes.instantiate import nearest
from genhub.repository.card_results import with_figure
from genhub.utils.files import atomic_write


def figure(
    name: str,
    repo: str,
    output: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    count: int | None = None,
    against: str | None = None,
) -> Path:
    """Draws the figure `name` of `repo` into a PNG file, or a GIF file where it moves, and shows it on the card of a
    repository that it lies in; returns its path.

    Args:
        output: the file; `<name>.png` or `<name>.gif` in a local repository, or in the working directory.
        steps, seed: how images are sampled, for a figure that shows them.
        count: how many images are drawn, or looked at.
        against: a second repository, for a figure that compares.

    Raises:
        ValueError: there is no such figure or repository, or the repository lacks what the figure shows.
    """
    if name not in FIGURES:
        raise ValueError(f"There is no figure {name!r}{nearest(name, list(FIGURES))}. Known: {', '.join(FIGURES)}.")
    suffix = ".gif" if name in ANIMATED else ".png"
    path = Path(
        output or (Path(repo).expanduser() if Path(repo).expanduser().is_dir() else Path()) / f"{name}{suffix}"
    )
    if not path.parent.is_dir():
        raise ValueError(f"`output` must lie in an existing folder, got {path}.")
    if path.suffix.lower() != suffix:
        raise ValueError(f"`output` must be a {suffix} file, got {path}.")
    options = {"steps": steps, "seed": seed, "count": count, "against": against}
    options = {key: value for key, value in options.items() if value is not None}
    takes = list(inspect.signature(FIGURES[name]).parameters)[1:]
    for key, value in options.items():
        if key not in takes:
            known = f"takes {' and '.join(f'`{one}`' for one in takes)}" if takes else "takes no options"
            raise ValueError(f"`{key}` must be unset: the figure {name} {known}, got {value}.")
    for key, least in (("count", 1), ("seed", 0)):
        if options.get(key, least) < least:
            raise ValueError(f"`{key}` must be at least {least}, got {options[key]}.")
    atomic_write(path, FIGURES[name](repo, **options))
    text = path.parent / "README.md"
    if (path.parent / "model_index.json").is_file() and text.is_file():
        atomic_write(text, with_figure(text.read_text(), path.name))
    return path
