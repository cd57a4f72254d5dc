"""The index of papers: what the sources of genhub cite, and where."""

import re

import yaml
from links import ROOT

CITATION = re.compile(
    r"(?<!\w)(?P<authors>[A-Z][\w'-]+(?:(?:, [A-Z][\w'-]+)* & [A-Z][\w'-]+| et al\.)?),? \(?(?P<year>(?:19|20)\d\d)\b"
    r"(?!\.\d|-)(?:[^()]{0,12}?arXiv (?P<number>\d{4}\.\d{4,5}))?"
)


def taken() -> dict[str, str]:
    """Returns what is taken from each paper."""
    return yaml.safe_load((ROOT / "scripts/site/papers.yaml").read_text(encoding="utf-8"))


def cited() -> dict[str, tuple[set[str], list[str]]]:
    """Returns the numbers at arXiv of each paper that a source or a recipe cites, and the files that cite it."""
    found: dict[str, tuple[set[str], list[str]]] = {}
    for path in sorted(path for kind in ("py", "yaml") for path in (ROOT / "genhub").rglob(f"*.{kind}")):
        text = re.sub(r"\s+(#\s+)?", " ", path.read_text(encoding="utf-8"))  # a citation may be broken between lines
        for match in CITATION.finditer(text):
            numbers, files = found.setdefault(f"{match['authors']} {match['year']}", (set(), []))
            numbers |= {match["number"]} - {None}
            files += [str(path.relative_to(ROOT))] if str(path.relative_to(ROOT)) not in files else []
    return found


def index() -> str:
    """Returns the page: each paper, what is taken from it, and the files that do."""
    lines = ["# Papers\n", "What the sources cite, with the section or equation at the line.\n"]
    lines += ["| paper | what is taken | where |", "|---|---|---|"]
    what = taken()
    for paper, (numbers, files) in sorted(cited().items()):
        name = f"[{paper}](https://arxiv.org/abs/{min(numbers)})" if numbers else paper
        where = ", ".join(f"[`{path.removeprefix('genhub/')}`](../{path})" for path in files)
        lines.append(f"| {name} | {what.get(paper, '')} | {where} |")
    return "\n".join([*lines, ""])
