"""What a command says of a repository that it wrote: as data, and as lines that name the next commands."""

from pathlib import Path
from typing import Any

from genhub.repository.card_evaluation import full_name, value_and_spread
from genhub.repository.card_results import to_show
from genhub.repository.metrics import read_metrics

ENOUGH_IMAGES = 1300  # for a tenth of them to be enough for an evaluation


def of_training(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Returns what training wrote."""
    card, samples, metrics = folder / "README.md", folder / "samples.png", read_metrics(folder / "metrics.json")
    lines = [f"Saved the repository {folder}", f"  card     {card}"]
    if samples.is_file():
        lines.append(f"  samples  {samples}")
        generate = [] if "reconstructions" in metrics["sampling"] else [f"genhub generate {folder}"]
        can_evaluate = metrics["training"]["train_images"] >= ENOUGH_IMAGES
        if advice := generate + [f"genhub evaluate {folder}"] * can_evaluate:
            lines.append(f"Next: {'    or: '.join(advice)}")
    lines.append(f"To share it: genhub push {folder} YOUR_NAME/{folder.name}")
    files = {"folder": folder, "card": card, "samples": samples if samples.is_file() else None}
    return files | {"training": metrics["training"], "results": metrics.get("results", [])}, lines


def of_evaluation(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Returns the newest evaluation in `folder`."""
    metrics = read_metrics(folder / "metrics.json")
    newest = metrics["evaluations"][-1]
    lines = [newest["protocol"] + ("" if newest["complete"] else ", reduced: not comparable with the full protocol")]
    lines += [f"  {full_name(metric)}: {value_and_spread(metric)}" for metric in newest["figures"]]
    lines += [f"Wrote {folder / 'metrics.json'}", f"  card           {folder / 'README.md'}"]
    if to_show(metrics) != newest:
        lines.append("  The card still shows the evaluation that followed the whole protocol.")
    elif (folder / "closest.png").is_file():
        lines.append(f"  closest pairs  {folder / 'closest.png'}")
    return {"folder": folder, "card": folder / "README.md", "evaluation": newest}, lines
