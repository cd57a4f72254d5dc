"""What does guidance do to quality, variety and the classes of images? Writes `report.json` and the table `README.md`.

    python scripts/studies/guidance.py model_cards/conditional-ddpm zalando-datasets/fashion_mnist docs/guidance
    python scripts/studies/guidance.py runs/mine FASHION_MNIST FOLDER --guide runs/mine-after-5-minutes/unet

Each row generates the same number of images from the same initial noise, and is stored as soon as it is measured: a
stopped study goes on where it was.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from cpu_minutes import Report

from genhub.commands.evaluation import Evaluation
from genhub.commands.subject import load_subject
from genhub.data import Images, encoder_key
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.generation_metrics import FrechetDistance, LabelFidelity, PrecisionAndRecall
from genhub.evaluation.metrics import mean_of
from genhub.training.feature_classifier import classifies_correctly, feature_spaces
from genhub.training.pretrained import load_component

SCALES = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
INTERVALS = ((0.0, 1.0), (0.25, 0.75))
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
    worse: Any = None if guide is None else load_component(guide, "guide").to(accelerator.device).eval()
    if worse is not None:
        type(pipeline)(**pipeline.components | {"guide": worse})  # which refuses one that does not fit
    guide_key = None if worse is None else encoder_key(worse)
    settings = {"repository": Path(repo).name, "key": subject.key, "images": count, "data": data, "guide": guide_key}
    report = Report(folder, settings, markdown)
    for name, guided, arguments in rows(subject.capabilities.sampling_arguments, scales, intervals, worse is not None):
        if name in report.content["rows"]:
            continue
        if guide is not None:
            pipeline.register_modules(guide=worse if guided else None)
        sampler = evaluation.sampler(10_000, 250, arguments)
        sampler.key = f"{sampler.key} guide {guide_key}" if guided else sampler.key
        (images, _), labels = sampler.draw(count), sampler.labels(count)
        found = evaluator.evaluate(images, labels)
        row = {metric.name: round(metric.value, 4) for metric in found if metric.space == "clf"}
        if with_cas:
            made = Images(images, labels, evaluation.test.class_names)
            row["CAS"] = round(mean_of(classifies_correctly(made, evaluation.test))[0], 4)
        report.content["rows"][name] = row
        print(name, row, flush=True)
        report.save()
    return report.content


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


def markdown(report: dict[str, Any]) -> str:
    """Renders the table."""
    columns = [name for name in (*SHOWN, "CAS") if any(name in row for row in report["rows"].values())]
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
        lines.append(f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo")
    parser.add_argument("data", help="Fashion MNIST, as data.source of a recipe")
    parser.add_argument("folder", type=Path, help="of the results")
    parser.add_argument("--count", type=int, default=2000, help="images of each row (default: 2,000)")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    parser.add_argument("--guide", help="FOLDER/unet of a worse network, for autoguidance")
    parser.add_argument("--cas", dest="with_cas", action="store_true", help="train a classifier on each row, too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = vars(parser.parse_args())
    torch.set_num_threads(options.pop("threads"))
    print(markdown(study(**options)))


if __name__ == "__main__":
    main()
