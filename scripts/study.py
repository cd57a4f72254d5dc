"""Runs a study: a recipe over a grid of overrides and seeds, its table and its chart.

    python scripts/study.py scripts/studies/code-size.yaml --output docs/studies

A study is a YAML file:

    question: How small may the code be?
    recipe: stacked-ae
    overrides: {training.epochs: 2}                                         # of all runs
    grid:                                                           # every value of an axis with every one of the next
      units: {components.autoencoder.latent_channels: [2, 8, 30]}   # the values of one key,
      noise:                                                        # or overrides by name
        none: {}
        half of the pixels: {objective.mask: 0.5}
    seeds: 3
    evaluate: {count: 2000}                                         # arguments of `genhub.evaluate`; optional
    measures: [val_loss, "reconstruction MSE, test", parameters, seconds]
    chart: {x: units, y: [val_loss], log_x: true}                   # optional
    functions: {checkerboard: checkerboard.py:pattern}              # optional: measures of one's own, of a repository
    claims: [C11, C12]                                              # optional
    finding: What came out, in words, once the table is there.

A measure is the name of a metric of `genhub evaluate` (with its space, as in "FD-FM (clf)"), of a loss on held-out
images (`val_...`), or `parameters`, `seconds` or `images` of training. A `class` may be FILE.NAME of a file beside the
study; its code is run, as that of `functions` is. The runs stand in `runs/studies`, the results in FOLDER/<name>. A
study that was stopped goes on, and what is measured is not measured again.
"""

import argparse
import itertools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from study_file import Study, read_study

from genhub import plotting
from genhub.commands.evaluate import evaluate
from genhub.recipes.checks import refuse_unknown
from genhub.training.guard import NotFinite
from genhub.training.run import train
from genhub.utils.cache import content_hash
from genhub.utils.environment import device_name, versions
from genhub.utils.files import atomic_write

QUIET: dict[str, Any] = {"training.validate_every": 0, "training.sample_every": 0, "evaluation.every": 0}
OF_TRAINING = ("parameters", "seconds", "images")


class Results:
    """The measured cells of a study, in results.json.

    Args:
        folder: also of README.md and chart.png, which are made anew whenever a cell is added.
    """

    def __init__(self, study: Study, folder: Path):
        self.study, self.folder, self.path = study, folder, folder / "results.json"
        stored = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        self.cells: list[dict[str, Any]] = stored.get("cells", [])
        self.about = {"device": device_name(torch.device("cpu")), "threads": torch.get_num_threads()}
        self.about = stored.get("about") or self.about | {"versions": versions()}
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, labels: dict[str, str], overrides: dict[str, Any], seed: int | None = None) -> list[dict[str, float]]:
        """Returns the values of a cell by measure, one mapping a seed; of `seed` only, if given."""
        return [
            cell["values"]
            for cell in self.cells
            if cell["at"] == labels and cell["overrides"] == overrides and seed in (None, cell["seed"])
        ]

    def add(self, labels: dict[str, str], overrides: dict[str, Any], seed: int, values: dict[str, float]):
        """Stores the values of a cell and a seed, in place of those measured with other overrides."""
        self.cells = [cell for cell in self.cells if (cell["at"], cell["seed"]) != (labels, seed)]
        self.cells.append({"at": labels, "seed": seed, "overrides": overrides, "values": values})
        self.save()

    def save(self):
        """Writes all files."""
        atomic_write(self.path, json.dumps({"about": self.about, "cells": self.cells}, indent=1) + "\n")
        chart = chart_of(self)
        if chart is not None:
            atomic_write(self.folder / "chart.png", chart)
        atomic_write(self.folder / "README.md", markdown(self, chart is not None))


def run(study: Study, name: str, folder: Path, runs: Path) -> Results:
    """Trains and measures the cells that are not measured yet.

    Args:
        folder: of the results of all studies; `runs` of the trained repositories.
    """
    results = Results(study, folder / name)
    for (labels, overrides), seed in itertools.product([*study.cells()], range(study.seeds)):
        found = results.of(labels, overrides, seed)
        if found and (not found[0] or found[0].keys() >= {*study.measures}):
            continue
        target = runs / name / content_hash(json.dumps([study.recipe, overrides, seed]))[:12]
        everything: dict[str, object] = {**QUIET, **overrides, "training.seed": seed}
        try:
            train(study.recipe, target, overrides=everything, trust_code=True, auto_resume=True)
        except NotFinite as error:
            print(name, labels, f"seed {seed}", error, flush=True)
            results.add(labels, overrides, seed, {})
            continue
        if study.evaluate is not None and not found:
            evaluate(str(target), **study.evaluate)
        results.add(labels, overrides, seed, measure(target, study))
        print(name, labels, f"seed {seed}", results.cells[-1]["values"], flush=True)
    results.save()
    return results


def measure(folder: Path, study: Study) -> dict[str, float]:
    """Returns the measures of a trained repository by name.

    Raises:
        ValueError: one is not there.
    """
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    training = metrics["training"]
    known = {"parameters": sum(training["parameters"].values())} | {name: training[name] for name in OF_TRAINING[1:]}
    known |= {row["name"]: row["value"] for row in metrics["results"]}
    for metric in metrics["evaluations"][-1]["figures"] if metrics.get("evaluations") else []:
        known[f"{metric['name']} ({metric['space']})" if metric["space"] else metric["name"]] = metric["value"]
    refuse_unknown("measures", study.measures, known | study.functions)
    return {name: study.functions[name](folder) if name in study.functions else known[name] for name in study.measures}


def markdown(results: Results, has_chart: bool) -> str:
    """Renders the table: mean ± standard deviation over the seeds of a cell."""
    study, about = results.study, results.about
    claims = f"; claims {', '.join(study.claims)} of the source" if study.claims else ""
    seeds = f"{study.seeds} seeds a cell, mean ± standard deviation" if study.seeds > 1 else "one seed a cell"
    lines = [f"# {study.question}", "", *([study.finding.strip(), ""] if study.finding else [])]
    lines += [f"Recipe `{study.recipe}`{claims}. {seeds[0].upper()}{seeds[1:]}.", ""]
    head = [*study.axes, *study.measures]
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for labels, overrides in study.cells():
        found = results.of(labels, overrides)
        if found:
            means = [mean_of([run.get(name) for run in found if name in run or not run]) for name in study.measures]
            lines.append(f"| {' | '.join([*labels.values(), *means])} |")
    lines += ["", "![Chart](chart.png)"] if has_chart else []
    given = {**study.overrides, **({"evaluate": study.evaluate} if study.evaluate else {})}
    machine = f"{about['device']}, {about['threads']} thread(s), torch {about['versions']['torch']}"
    command = f"python scripts/study.py scripts/studies/{results.folder.name}.yaml"
    lines += ["", f"All runs: `{json.dumps(given)}`, on one {machine}. Written by `{command}`."]
    return "\n".join(lines) + "\n"


def mean_of(values: list[float | None]) -> str:
    """Formats the mean of some values, with their standard deviation if they differ; None is of a run whose loss was
    not finite."""
    known = [value for value in values if value is not None]
    if not known:
        return "not finite" if values else ""
    mean = statistics.fmean(known)
    shown = f"{mean:,.0f}" if abs(mean) >= 1000 else f"{mean:.4g}"
    shown = shown if len({*known}) == 1 else f"{shown} ± {statistics.stdev(known):.2g}"
    return shown if len(known) == len(values) else f"{shown} ({len(known)} of {len(values)}; the others not finite)"


def chart_of(results: Results) -> bytes | None:
    """Draws each measure against the axis `chart.x`, one line for each value of the other axes."""
    study = results.study
    if not (x := study.chart.get("x")) or not results.cells:
        return None
    panels = []
    for name in study.chart.get("y", study.measures):
        lines: dict[str, list[tuple[float, float, float | None]]] = {}
        for labels, overrides in study.cells():
            values = [seed[name] for seed in results.of(labels, overrides) if name in seed]
            if values:
                others = ", ".join(label for axis, label in labels.items() if axis != x)
                spread = statistics.stdev(values) if len(values) > 1 else None
                lines.setdefault(others, []).append((float(labels[x]), statistics.fmean(values), spread))
        drawn = [plotting.Line(line, *zip(*points, strict=True)) for line, points in lines.items()]  # pyright: ignore[reportArgumentType]
        log_x, log_y = study.chart.get("log_x", False), study.chart.get("log_y", False)
        panels.append(plotting.Panel(drawn, x, name, log_x=log_x, log_y=log_y))
    return plotting.chart_png(plotting.chart(panels, study.question))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path, help="YAML file")
    parser.add_argument("--output", type=Path, default=Path("docs/studies"), help="folder of the results")
    parser.add_argument("--runs", type=Path, default=Path("runs/studies"), help="folder of the trained repositories")
    options = parser.parse_args()
    try:
        run(read_study(options.study), options.study.stem, options.output, options.runs)
    except (ValueError, TypeError) as error:
        sys.exit(f"study: error: {error}")
