"""What stands in the metrics of published models."""

import json
from pathlib import Path

from genhub.repository.card_results import to_show

CARDS = Path(__file__).parents[2] / "model_cards"


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def evaluation_of(metrics: dict) -> dict:
    """Returns the evaluation that the card shows."""
    evaluation = to_show(metrics)
    if evaluation is None:
        raise ValueError(f"model_cards/{metrics['recipe']} must be evaluated first.")
    return evaluation


def losses_of(metrics: dict) -> dict[str, float]:
    return {row["name"]: row["value"] for row in metrics["results"]}


def overall(metrics: dict) -> dict[str, float]:
    """Returns the metrics of the evaluation on the card that are of no feature space."""
    return {metric["name"]: metric["value"] for metric in evaluation_of(metrics)["figures"] if not metric["space"]}


def in_clf(metrics: dict) -> dict[str, float]:
    return {
        metric["name"]: metric["value"] for metric in evaluation_of(metrics)["figures"] if metric["space"] == "clf"
    }
