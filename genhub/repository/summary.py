"""A repository in a few facts, from its own files: family, size, training and quality."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from genhub.repository.card_results import to_show
from genhub.repository.format import component_entries, component_files, pipeline_class_name
from genhub.repository.index import read_index
from genhub.repository.metrics import read_metrics

FAMILIES = {  # by a component; the first that a model has
    "unet": "diffusion",
    "generator": "GAN",
    "vae": "VAE",
    "autoencoder": "autoencoder",
    "classifier": "classifier",
    "machine": "Boltzmann machine",
}
QUALITY = {  # name and feature space of a metric -> its short name; the first that an evaluation has
    ("FD-FM", "clf"): "FD-FM",
    ("reconstruction MSE, test", ""): "MSE",
    ("reconstruction MSE, pixels above 1/2, test", ""): "MSE of pixels above 1/2",
}
ACCURACY = "val accuracy"  # of a classifier, whose training measures it


def summarise(folder: Path, weights: int | None = None) -> dict[str, Any]:
    """Returns the facts; None for what was not measured.

    Args:
        weights: bytes of the weights, where they are not in the folder.

    Raises:
        RepositoryError: model_index.json or metrics.json is missing, or not what its format says.
    """
    index = read_index(folder)
    components = [*component_entries(index)]
    metrics = read_metrics(folder / "metrics.json") if (folder / "metrics.json").is_file() else {}
    if weights is None:
        files = (folder / name for name in component_files(folder, index) if name.endswith(".safetensors"))
        weights = sum(path.stat().st_size for path in files)
    counts = (metrics.get("training") or {}).get("parameters", {})
    shown = to_show(metrics)
    return {
        "family": family_of(components),
        "pipeline": pipeline_class_name(index),
        "parameters": {name: counts[name] for name in components if name in counts} or None,
        "bytes": weights,
        "data": metrics.get("data"),
        "quality": quality_of(metrics),
        "evaluated": None if shown is None else shown["date"],
        "training": training_of(metrics),
    }


def family_of(components: Iterable[str]) -> str | None:
    """Returns the family of a model, by the names of its components."""
    names = {*components}
    return next((family for name, family in FAMILIES.items() if name in names), None)


def quality_of(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Returns name and value of the metric that says most about a model, of the evaluation that its card shows, and
    whether that followed the whole protocol."""
    shown = to_show(metrics) or {"figures": [], "complete": True}
    values = {(metric["name"], metric["space"]): metric["value"] for metric in shown["figures"]}
    for key, name in QUALITY.items():
        if key in values:
            return {"name": name, "value": values[key], "complete": shown["complete"]}
    accuracy = [row["value"] for row in metrics.get("results", []) if row["name"] == "val_accuracy"]
    return {"name": ACCURACY, "value": accuracy[0], "complete": True} if accuracy else None


def training_of(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Returns how long training took, in whole minutes, at least one, and on what."""
    training, hardware = metrics.get("training") or {}, metrics.get("hardware")
    if "seconds" not in training or hardware is None:
        return None
    return {
        "minutes": max(1, math.ceil(training["seconds"] / 60)),
        "device": device_of(metrics),
        "processes": hardware["processes"],
        "threads": hardware["threads"],
    }


def device_of(metrics: dict[str, Any]) -> str:
    """Returns the names of the devices that a model was trained on."""
    return " and ".join(metrics["training"].get("steps_on") or [metrics["hardware"]["device"]])
