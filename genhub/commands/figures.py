"""The help lines of the figures, read from their sources, so that nothing heavy is imported."""

import ast
import re
from pathlib import Path

from genhub.figures import FIGURES

ROOT = Path(__file__).parents[2]


def figures() -> dict[str, str]:
    """Returns the name of each figure with the first sentence of its docstring and the options that it takes."""
    return {name: _describe(*target.split(":")) for name, target in FIGURES.items()}


def _describe(module: str, function: str) -> str:
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    definitions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    definition = next(node for node in definitions if node.name == function)
    paragraph = " ".join((ast.get_docstring(definition) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<! al)\.\s", paragraph)[0].rstrip(".")  # "et al." ends no sentence
    options = [f"--{argument.arg}" for argument in definition.args.args[1:]]
    return f"{sentence} ({', '.join(options)})" if options else sentence
