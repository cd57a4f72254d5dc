"""How a run went: `progress`, `milestones`, `training-time` and `game`."""

import bisect
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genhub import plotting, recipes
from genhub.evaluation.memorisation import QUANTILE
from genhub.figures.subject import read_text, scale_for
from genhub.recipes.recipe import Recipe
from genhub.repository.capabilities import capabilities_of
from genhub.repository.download import download
from genhub.utils import reading
from genhub.utils.reading import parse_json_lines

WORDS = ("warning", "message", "changed")  # keys of a record whose values are texts
INFINITE = (math.inf, -math.inf)
MAX_FRAMES = 60  # of `progress`
KERNEL_DISTANCES = {"val_kid_clf": "clf", "val_kid_pix": "pix"}  # key of a record -> feature space
NEAR = "val_near_pix"  # key of the share of images near to training images
MEASURES = (*KERNEL_DISTANCES, "val_loss", NEAR)
MAX_POINTS = 60  # of a line of `game`
GAME = {  # label of the y axis -> name of a line -> key of a record
    "D(x), batch mean": {"real images": "discriminator/D(real)", "fakes": "discriminator/D(fake)"},
    "pixel sd over a batch": {"real images": "discriminator/real_spread", "fakes": "discriminator/spread"},
    "gradient norm": {"discriminator": "discriminator/grad_norm", "generator": "generator/grad_norm"},
}


def progress(repo: str) -> bytes:
    """Animates the pictures of the same latents, or images, that a run drew.

    Raises:
        ValueError: the run drew none, or its training folder is on another machine.
    """
    recipe, files = load_pictures(repo)
    files = choose_evenly(files, MAX_FRAMES)
    generates = capabilities_of(recipe.pipeline.cls).can("generate")
    subject = "samples of the same latents" if generates else "held-out images and their reconstructions"
    pictures = [Image.open(file).copy() for file in files]
    size = max(picture.width for picture in pictures), max(picture.height for picture in pictures)
    frames = []
    for file, picture in zip(files, pictures, strict=True):
        frame = Image.new(picture.mode, size, "white")
        frame.paste(picture)
        title = f"{recipe.name}: {subject} during training"
        frames.append(plotting.add_title(frame, f"{title}\nafter step {step_of(file):,} of {step_of(files[-1]):,}"))
    return plotting.gif(frames)


def milestones(repo: str, count: int = 8) -> bytes:
    """Draws samples of the same latents early and late in training.

    The moments are geometrically spaced.

    Args:
        count: moments, a row each.

    Raises:
        ValueError: the run drew no pictures, its training folder is on another machine, or its model generates no
            images.
    """
    recipe, files = load_pictures(repo)
    if not capabilities_of(recipe.pipeline.cls).can("generate"):
        raise ValueError(f"`repo` must hold a model that generates images, got {recipe.pipeline.cls.__name__}.")
    records = records_of(reading.read_text(files[0].parent.parent / "metrics.jsonl"))
    clock = {0: 0} | {record["step"]: record["images"] for record in records if "images" in record}
    files = choose_geometrically(files, count)
    seen = np.interp([step_of(file) for file in files], list(clock), list(clock.values()))
    rows = [plotting.cut_first_row(Image.open(file), recipe.training.num_samples) for file in files]
    names = [f"{images:,.0f} images" for images in seen]
    title = f"{recipe.name}: samples of the same latents after so many training images; uncurated"
    return plotting.png(plotting.image_rows(rows, names, len(rows[0]), title, scale_for(rows[0], 56)))


def load_pictures(repo: str) -> tuple[Recipe, list[Path]]:
    """Returns the recipe of a run, and the files of the pictures that it drew, in order.

    Raises:
        ValueError: it drew none, or its training folder is on another machine.
    """
    folder = download(repo, required="recipe.yaml")
    files = sorted((folder / "training" / "samples").glob("step-*.png"))
    if not files:
        raise ValueError(
            f"{repo} has no pictures in training/samples, which stay where the model was trained: train with "
            "`--training.sample_every N`, N from 1 to the steps of the run."
        )
    return recipes.load(folder), files


def step_of(file: Path) -> int:
    return int(file.stem.removeprefix("step-"))


def choose_evenly(files: list[Path], count: int) -> list[Path]:
    """Returns at most `count` of `files`, evenly spaced, the first and the last among them."""
    if len(files) <= count:
        return files
    return [files[round(index * (len(files) - 1) / (count - 1))] for index in range(count)]


def choose_geometrically(files: list[Path], count: int) -> list[Path]:
    """Returns at most `count` of `files`, geometrically spaced, the last among them, and the first if `count` > 1."""
    indices = {round(len(files) ** (1 - number / max(count - 1, 1))) - 1 for number in range(count)}
    return [files[index] for index in sorted(indices)]


def training_time(repo: str, against: str | None = None) -> bytes:
    """Draws kernel distance, validation loss and near-copies against minutes of training.

    Args:
        against: a second run, drawn beside the first.
    """
    logs = {name: read_text(name, "training/metrics.jsonl") for name in (repo, against) if name is not None}
    return plotting.chart_png(plotting.chart(*quality_panels(logs)))


def quality_panels(logs: dict[str, str | None]) -> tuple[list[plotting.Panel], str]:
    """Returns the panels and the title of `training-time`.

    Args:
        logs: repository -> text of its training/metrics.jsonl.

    Raises:
        ValueError: there is no such file, no record of quality in it, or none of the time.
    """
    lines: dict[str, list[plotting.Line]] = {key: [] for key in MEASURES}
    for repo, log in logs.items():
        for key, line in quality_lines(repo, log).items():
            lines[key].append(plotting.Line(key if len(logs) == 1 else Path(repo).name, **line))
    panels = []
    for key, drawn in lines.items():
        if drawn:
            labels = {"val_loss": "validation loss", NEAR: "near to training images (pix)"}
            label = labels[key] if key in labels else f"KID x 1000 ({KERNEL_DISTANCES[key]})"
            # Unbiased, so it may fall below zero
            is_log = key in KERNEL_DISTANCES and all(min(line.y) > 0 for line in drawn)
            levels = {"new real images": QUANTILE} if key == NEAR else {}
            panels.append(plotting.Panel(drawn, "minutes of training", label, levels, log_y=is_log, x_start=0))
    return panels, "Held-out images during training, lower is better; the lowest value is labelled"


def quality_lines(repo: str, log: str | None) -> dict[str, dict[str, Any]]:
    """Returns the points of each measure of quality against minutes: key of a record -> `x`, `y` and `labels`."""
    records = parse_log(repo, log)
    clock = {record["step"]: record["seconds"] for record in records if "seconds" in record}
    values = {key: {r["step"]: r[key] for r in records if key in r} for key in MEASURES}
    if not any(values.values()):
        raise ValueError(
            f"{repo} has no record of {', '.join(KERNEL_DISTANCES)} or val_loss in training/metrics.jsonl: train "
            "with images held out, `--data.val_size N`, and with `--evaluation.every N` if the loss tells no quality."
        )
    if not clock:
        raise ValueError(f"{repo} has no record with `seconds` in training/metrics.jsonl: nothing tells the time.")
    lines = {}
    for key, by_step in values.items():
        if by_step:
            best, _ = min(by_step.items(), key=lambda point: point[1])
            is_labelled = key != NEAR  # of which 1 % is the expectation, and not the least the best
            labels = [f"{value:.4g}" if is_labelled and step == best else "" for step, value in by_step.items()]
            lines[key] = {"x": [minutes(s, clock) for s in by_step], "y": list(by_step.values()), "labels": labels}
    return lines


def minutes(step: int, clock: dict[int, float]) -> float:
    """Returns the minutes of training after `step`, interpolated linearly between the records of `clock`
    (step -> seconds), from 0, and extrapolated beyond the last."""
    known = sorted({0: 0.0, **clock}.items())
    after = min(max(bisect.bisect_left(known, (step,)), 1), len(known) - 1)
    (step_0, seconds_0), (step_1, seconds_1) = known[after - 1 : after + 1]
    return (seconds_0 + (seconds_1 - seconds_0) * (step - step_0) / (step_1 - step_0)) / 60


def game(repo: str) -> bytes:
    """Draws discriminator and generator during training, with the run's warnings.

    It shows D(x) on real images and fakes, the pixels' standard deviation over a batch, and gradient norms.
    """
    return plotting.chart_png(plotting.chart(*game_panels(repo, read_text(repo, "training/metrics.jsonl"))))


def game_panels(repo: str, log: str | None) -> tuple[list[plotting.Panel], str, dict[str, list[float]]]:
    """Returns the panels and the title of `game`, and the warnings: name -> values of x.

    Args:
        log: the text of training/metrics.jsonl.

    Raises:
        ValueError: there is no such file, or no record of a game in it.
    """
    everything = parse_log(repo, log)
    records = [record for record in everything if {"discriminator/D(real)", "images"} <= record.keys()]
    if not records:
        raise ValueError(f"{repo} has no record of discriminator/D(real) in training/metrics.jsonl: only GANs log it.")
    size = math.ceil(len(records) / MAX_POINTS)
    panels = []
    for y_label, keys in GAME.items():
        lines = [average_records(name, key, records, size) for name, key in keys.items()]
        is_log = y_label == "gradient norm" and all(y > 0 for line in lines for y in line.y)
        panels.append(plotting.Panel(lines, "thousands of real images seen", y_label, log_y=is_log, x_start=0))
    steps, images = ([0, *(record[key] for record in records)] for key in ("step", "images"))
    warnings: dict[str, list[float]] = {}
    for record in everything:
        if "warning" in record:
            x = float(np.interp(record["step"], steps, images)) / 1000
            warnings.setdefault(record["warning"], []).append(x)
    title = "Discriminator and generator during training"
    if size > 1:
        title += f"; each point is the mean of {size} records"
    if warnings:
        title += "; dashed lines: warnings"
    return panels, title, warnings


def average_records(name: str, key: str, records: list[dict], size: int) -> plotting.Line:
    """Returns the line of `key` against thousands of images, each point the mean of `size` records that have it."""
    points = [(record["images"] / 1000, record[key]) for record in records if {key, "images"} <= record.keys()]
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    means = [np.mean(group, 0).tolist() for group in groups]
    return plotting.Line(name, x=[x for x, _ in means], y=[y for _, y in means])


def parse_log(repo: str, log: str | None) -> list[dict]:
    """Parses the records of a training/metrics.jsonl.

    Raises:
        ValueError: there is no such file.
    """
    if log is None:
        raise ValueError(f"{repo} has no training/metrics.jsonl: it stays where the model was trained.")
    return records_of(log)


def records_of(log: str) -> list[dict[str, Any]]:
    """Returns the records of a log that have a step, without what is neither a finite number nor a text."""
    records = [record for record in parse_json_lines(log.encode()) if isinstance(record.get("step"), int)]
    wanted = {key: str if key in WORDS else int | float for record in records for key in record}
    return [
        {key: x for key, x in record.items() if isinstance(x, wanted[key]) and x not in INFINITE} for record in records
    ]
