"""Renews what `genhub recipes` says of the published models: `python scripts/studies/published.py`."""

import json
import math
import re

import stored

from genhub.repository.card_results import to_show

FILE = stored.CARDS.parent / "genhub" / "recipes" / "published.json"
QUALITY = {  # the first that a model has
    "FD-FM": "FD-FM",
    "reconstruction MSE, test": "MSE",
    "accuracy, test": "accuracy",
}


def published() -> dict[str, dict]:
    """Returns what `genhub recipes` says of each published model."""
    found = {}
    for folder in sorted(path for path in stored.CARDS.iterdir() if path.is_dir()):
        metrics, card = stored.metrics_of(folder), (folder / "README.md").read_text(encoding="utf-8")
        values = {**stored.overall(metrics), **stored.in_clf(metrics)} if to_show(metrics) else {}
        size = re.search(r"\d+x\d+(?= pixels)", card)
        found[folder.name] = {
            "data": metrics["data"].rpartition("/")[2],
            "size": size[0] if size else "",
            "minutes": math.ceil(metrics["training"]["seconds"] / 60),
            "threads": metrics["hardware"]["threads"],
            "quality": next((f"{label} {values[name]:.3g}" for name, label in QUALITY.items() if name in values), ""),
        }
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(published(), indent=2) + "\n", encoding="utf-8")
