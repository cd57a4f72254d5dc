"""Where a file of the clone lies on the site, and the links between them."""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?P<before>\]\(|^\[[^\]\n]+\]: )(?P<target>[^)\s#]+)(?P<rest>#[^)\s]*)?", re.MULTILINE)
PLACES = {"README.md": "index.md", "model_cards": "gallery.md", "docs/studies": "studies.md"}
PAGES = ("[A-Z]*.md", "model_cards/*/README.md")  # beside docs/


def pages() -> list[str]:
    """Returns the pages of the clone that become pages of the site, without those of docs/."""
    return sorted(str(path.relative_to(ROOT)) for pattern in PAGES for path in ROOT.glob(pattern))


def place(path: str) -> str:
    """Returns where a file of the clone lies on the site: pages and pictures where they were, others in source/."""
    if path in PLACES:
        return PLACES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path.endswith((".md", ".png", ".gif")) else f"source/{path}"


def linked(page: str, text: str) -> list[str]:
    """Returns the files of the clone that a page, itself given by its path in the clone, links."""
    found = (_target(page, match["target"]) for match in LINK.finditer(text))
    return [path for path in found if path is not None]


def moved(page: str, text: str) -> str:
    """Returns the text of a page with its links as they are on the site."""
    folder = posixpath.dirname(place(page))

    def link(match: re.Match) -> str:
        path = _target(page, match["target"])
        target = match["target"] if path is None else posixpath.relpath(place(path), folder or ".")
        return f"{match['before']}{target}{match['rest'] or ''}"

    return LINK.sub(link, text)


def _target(page: str, target: str) -> str | None:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
    return path if "://" not in target and path != "." and (ROOT / path).exists() else None
