"""`genhub completion`: a script by which bash, zsh or tcsh complete commands, options, recipes, models and figures."""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

import shtab

from genhub import recipes
from genhub.figures import FIGURES
from genhub.repository import names
from genhub.repository.format import RepositoryError

WORDS = {  # what a word may be -> the arguments that take it, of a command or of all
    "model": ("repo", "repos", "start_from", "against"),
    "recipe": ("recipe", "recipes name"),
    "figure": ("figure name",),
    "file": ("image", "mask_image", "output"),
    "folder": ("folder", "output_dir", "data", "feature_net", "runtime"),
}
BASH = '_genhub_{kind}() {{ compgen -W "{words}" -- "$1"; {paths}; }}'
ZSH = "_genhub_{kind}() {{ compadd -- {words}; {paths} }}"
PATHS = {  # what else a word of a kind may be, in bash and in zsh
    "model": ('compgen -d -- "$1"', "_files -/"),
    "recipe": ('compgen -f -- "$1"', "_files"),
    "figure": ("true", ""),
}


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Returns the script."""
    known = {"model": _models(), "recipe": recipes.names(), "figure": list(FIGURES)}
    complete: dict[str, Any] = {"file": shtab.FILE, "folder": shtab.DIRECTORY}
    for kind in known:
        complete[kind] = {"bash": f"_genhub_{kind}", "zsh": f"_genhub_{kind}", "tcsh": "f"}
    kinds = {argument: kind for kind, arguments in WORDS.items() for argument in arguments}
    for name, command in _commands(parser).items():
        for action in command._actions:
            kind = kinds.get(f"{name} {action.dest}") or kinds.get(action.dest)
            if kind is not None:
                action.complete = complete[kind]  # pyright: ignore[reportAttributeAccessIssue]
    is_zsh = shell == "zsh"
    functions = [
        (ZSH if is_zsh else BASH).format(kind=kind, words=" ".join(words), paths=PATHS[kind][is_zsh])
        for kind, words in known.items()
    ]
    preamble = "" if shell == "tcsh" else "\n".join(functions)
    return shtab.complete(parser, shell, preamble=preamble)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Returns the parsers of the commands by their names."""
    (action,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return action.choices


def _models() -> list[str]:
    """Returns the short names that can be known without the network."""
    with suppress(RepositoryError):  # the other words are still completed
        if isinstance(where := names.place(), Path):
            return names.models_in(where)
    return []
