"""The comment at the head of a recipe, which becomes the description on a card."""

import re
import textwrap
from collections.abc import Iterable

from genhub.recipes.sections import CHANGEABLE_ON_RESUME

WIDTH = 118
CHANGED = re.compile(
    r"The recipe `(?P<name>.+?)` with other data or settings than its own: (?P<keys>.+?)\."
    r"(?: Its papers: (?P<papers>.+)\.)?"
)
BUDGET = ("epochs", "max_steps", "max_minutes")
UNTOLD = (  # keys, or their sections, after a change of which a comment still holds
    "evaluation.",
    "name",
    "reported.",
    *(f"training.{key}" for key in CHANGEABLE_ON_RESUME if key not in BUDGET),
    *(f"training.{key}" for key in ("seed", "channels_last", "gradient_accumulation", "mixed_precision", "replay")),
    *(f"data.{key}" for key in ("memory_limit_gb", "workers", "shuffle_buffer")),
)


def told_changes(overrides: Iterable[str]) -> list[str]:
    """Returns the keys after whose change the comment of a recipe, and what its source reports, no longer hold."""
    return [key for key in overrides if not key.startswith(UNTOLD)]


def changed_comment(name: str, comment: str, changed: Iterable[str]) -> str:
    """Returns the comment of a recipe with other data or settings: which, and the papers that its own names. One that
    says this already is continued."""
    text = comment.replace("\n# ", " ").removeprefix("# ").strip()
    if earlier := CHANGED.fullmatch(text):
        name, keys, papers = earlier["name"], earlier["keys"].split(", "), (earlier["papers"] or "").split("; ")
    else:
        keys, papers = [], re.findall(r"\(([^()]* (?:19|20)\d\d)\)", text)
        papers = [paper for paper in papers if re.search("[A-Z]", paper[:-5])]
    keys, papers = dict.fromkeys([*keys, *changed]), dict.fromkeys(filter(None, papers))
    lines = [f"The recipe `{name}` with other data or settings than its own: {', '.join(keys)}."]
    lines += [f"Its papers: {'; '.join(papers)}."] if papers else []
    wrapped = "\n".join(textwrap.fill(line, WIDTH) for line in lines)
    return "".join(f"# {line}\n" for line in wrapped.splitlines())
