"""What does guidance do to quality, variety and the classes of images? Writes a table, a chart and `report.json`.

    python scripts/studies/guidance.py model_cards/conditional-ddpm zalando-datasets/fashion_mnist docs/guidance
    python scripts/studies/guidance.py runs/mine FASHION_MNIST FOLDER --guide runs/mine-after-5-minutes/unet

Each row generates the same number of images from the same initial noise, and is stored as soon as it is measured: a
stopped study goes on where it was, and `--cas` adds to rows that lack it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from cpu_minutes import Report

from genhub import plotting
from genhub.commands.evaluation import Evaluation
from genhub.commands.subject import load_subject
from genhub.data import Images
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.generation_metrics import FrechetDistance, LabelFidelity, PrecisionAndRecall
from genhub.evaluation.metrics import mean_of
from genhub.training.encoder import encoder_key
from genhub.training.feature_classifier import classifies_correctly, feature_spaces
from genhub.training.pretrained import load_component

SCALES = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
INTERVALS = ((0.0, 1.0), (0.25, 0.75))
IN_ALL_STEPS = "in all steps"
SHOWN = ("FD-FM", "precision", "recall", "label fidelity")


def study(
    repo: str,
    data: str,
    folder: Path,
    count: int = 2000,
    scales: Sequence[float] = SCALES,
    intervals: Sequence[tuple[float, float]] = INTERVALS,
    guide: str | None = None,
    with_cas: bool = False,
) -> dict[str, Any]:
    """Measures the rows that are missing in `report.json` and returns its content.

    Args:
        scales: of guidance.
        intervals: shares of the steps after which guidance starts and stops, for a pipeline that takes them.
        guide: FOLDER/unet of a worse network, to be guided away from (autoguidance) in further rows.
        with_cas: train a classifier on the images of each row, too.
    """
    accelerator = Accelerator()
    subject = load_subject(repo, accelerator.device)
    pipeline: Any = subject.pipeline
    evaluation = Evaluation(subject, folder, data, accelerator)
    spaces = feature_spaces(evaluation.train, evaluation.config, None, accelerator)[:1]
    metrics = (FrechetDistance(("clf",)), PrecisionAndRecall(), LabelFidelity())
    evaluator = Evaluator(evaluation.train, evaluation.test, spaces, metrics=metrics)
    settings: dict[str, Any] = {"repository": Path(repo).name, "key": subject.key, "images": count, "data": data}
    report = Report(folder, settings, markdown)
    worse = None if guide is None else load_guide(guide, pipeline, report)
    for name, guided, arguments in rows(subject.capabilities.sampling_arguments, scales, intervals, worse is not None):
        row = report.content["rows"].get(name, {})
        if row and ("CAS" in row or not with_cas):
            continue
        if guide is not None:
            pipeline.register_modules(guide=worse if guided else None)
        sampler = evaluation.sampler(10_000, 250, arguments)
        sampler.key = f"{sampler.key} guide {report.content['guide']}" if guided else sampler.key
        images = Images(sampler.draw(count)[0], sampler.labels(count), evaluation.test.class_names)
        row = row or {"guidance_scale": arguments["guidance_scale"], "way": way(name)} | measure(evaluator, images)
        if with_cas:
            row["CAS"] = round(mean_of(classifies_correctly(images, evaluation.test))[0], 4)
        report.content["rows"][name] = row
        print(name, row, flush=True)
        report.save()
        (folder / "guidance.png").write_bytes(plotting.chart_png(draw_chart(report.content)))
    return report.content


def load_guide(guide: str, pipeline: Any, report: Report) -> Any:
    """Loads the worse network.

    Raises:
        ValueError: the pipeline takes no guide, or another one; or the report is of another one.
    """
    if "guide" not in pipeline.components:
        raise ValueError(f"`guide` must be left out: {type(pipeline).__name__} takes none.")
    worse = load_component(guide, "guide").to(pipeline.device).eval()
    type(pipeline)(**pipeline.components | {"guide": worse})  # which refuses one that does not fit
    if report.content.setdefault("guide", encoder_key(worse)) != encoder_key(worse):
        raise ValueError(f"{report.path} was measured with another guide than {guide}.")
    return worse


def measure(evaluator: Evaluator, images: Images) -> dict[str, float]:
    """Returns the figures of a row."""
    found = evaluator.evaluate(images.images, images.labels)
    return {metric.name: round(metric.value, 4) for metric in found if metric.space == "clf"}


def rows(
    known: frozenset[str], scales: Sequence[float], intervals: Sequence[tuple[float, float]], has_guide: bool
) -> list[tuple[str, bool, dict[str, Any]]]:
    """Returns name, use of the guide, and arguments of each row; without guidance all intervals are alike."""
    takes_interval = "guidance_interval" in known
    found = []
    for guided in (False, True) if has_guide else (False,):
        for start, stop in intervals if takes_interval else ((0.0, 1.0),):
            for scale in scales:
                if scale == 1 and (guided or (start, stop) != (0, 1)):
                    continue
                where = "" if (start, stop) == (0, 1) else f", {start:g} to {stop:g} of the steps"
                options = {"guidance_interval": [start, stop]} if takes_interval else {}
                name = f"{scale:g}{where}{', autoguidance' if guided else ''}"
                found.append((name, guided, {"guidance_scale": scale} | options))
    return found


def way(name: str) -> str:
    """Returns the name of a row without its scale."""
    return name.partition(", ")[2] or IN_ALL_STEPS


def columns_of(report: dict[str, Any]) -> list[str]:
    """Returns the metrics that are shown."""
    return [name for name in (*SHOWN, "CAS") if any(name in row for row in report["rows"].values())]


def draw_chart(report: dict[str, Any]) -> Any:
    """Draws each metric against the scale, a line for each way to guide; no guidance is the start of all."""
    measured = [*report["rows"].values()]
    ways = dict.fromkeys([IN_ALL_STEPS, *(row["way"] for row in measured)])
    panels = []
    for metric in columns_of(report):
        lines = []
        for name in ways:
            own = [row for row in measured if metric in row and (row["way"] == name or row["guidance_scale"] == 1)]
            own.sort(key=lambda row: row["guidance_scale"])
            line = plotting.Line(name, x=[row["guidance_scale"] for row in own], y=[row[metric] for row in own])
            lines += [line] if len(own) > (name != IN_ALL_STEPS) else []
        panels += [plotting.Panel(lines, "guidance scale", metric)] if lines else []
    title = f"Guidance of {report['repository']}: {report['images']:,} images a point, one seed"
    return plotting.chart(panels, title)


def markdown(report: dict[str, Any]) -> str:
    """Renders the table."""
    columns = columns_of(report)
    lines = [
        f"# Guidance of `{report['repository']}`",
        "",
        f"{report['images']:,} images of the same initial noise for each row against the test images; one seed. Not "
        "comparable with figures of 10,000 images.",
        "Written by `scripts/studies/guidance.py`.",
        "",
        f"| guidance | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, row in report["rows"].items():
        cells = [f"{row[column]:.3f}" if column in row else "" for column in columns]
        lines.append(f"| {' | '.join([name, *cells])} |")
    lines += ["", "![curves](guidance.png)"]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo")
    parser.add_argument("data", help="Fashion MNIST, as data.source of a recipe")
    parser.add_argument("folder", type=Path, help="of the results")
    parser.add_argument("--count", type=int, default=2000, help="images of each row (default: 2,000)")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES, help="of guidance")
    parser.add_argument("--guide", help="FOLDER/unet of a worse network, for autoguidance")
    parser.add_argument("--cas", dest="with_cas", action="store_true", help="train a classifier on each row, too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = vars(parser.parse_args())
    torch.set_num_threads(options.pop("threads"))
    print(markdown(study(**options)))


if __name__ == "__main__":
    main()
