"""Renews what `genhub recipes` says of the published models: `python scripts/studies/published.py`."""

import json
import re

import stored

from genhub.commands.models import quality
from genhub.repository.summary import summarise

FILE = stored.CARDS.parent / "genhub" / "recipes" / "published.json"


def published() -> dict[str, dict]:
    """Returns what `genhub recipes` says of each published model."""
    found = {}
    for folder in sorted(path for path in stored.CARDS.iterdir() if path.is_dir()):
        facts, card = summarise(folder), (folder / "README.md").read_text(encoding="utf-8")
        size = re.search(r"\d+x\d+(?= pixels)", card)
        found[folder.name] = {
            "data": facts["data"].rpartition("/")[2],
            "size": size[0] if size else "",
            "parameters": facts["parameters"],
            **facts["training"],
            "quality": quality(facts["quality"]),
        }
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(published(), indent=2) + "\n", encoding="utf-8")
