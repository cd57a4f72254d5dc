"""How a run went: `progress`, `reconstruction-progress`, `milestones`, `one-epoch` and `training-time`."""

import bisect
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from genhub import plotting, recipes
from genhub.evaluation.memorisation import QUANTILE
from genhub.figures.subject import read_text, scale_for
from genhub.recipes.recipe import Recipe
from genhub.repository.capabilities import capabilities_of
from genhub.repository.load import download

MAX_FRAMES = 60  # of `progress`
KERNEL_DISTANCES = {"val_kid_clf": "clf", "val_kid_pix": "pix"}  # key of a record -> feature space
NEAR = "val_near_pix"  # key of the share of images near to training images
MEASURES = (*KERNEL_DISTANCES, "val_loss", NEAR)
RECONSTRUCTIONS = "held-out images and their reconstructions"
COLUMNS = 8  # of the pictures that a run draws


def progress(repo: str) -> bytes:
    """Animates the pictures of the same latents, or images, that a run drew.

    Raises:
        ValueError: the run drew none, or its training folder is on another machine.
    """
    recipe, files = load_records(repo)
    generates = capabilities_of(recipe.pipeline.cls).can("generate")
    return animate(files, recipe, "samples of the same latents" if generates else RECONSTRUCTIONS)


def reconstruction_progress(repo: str) -> bytes:
    """Animates the reconstructions of the same held-out images while a model learns.

    Raises:
        ValueError: the model reconstructs no images, the run drew none, or its training folder is on another machine.
    """
    pipeline = recipes.load(download(repo, required="recipe.yaml")).pipeline.cls
    if not capabilities_of(pipeline).can("encode"):
        raise ValueError(f"`repo` must hold a model that reconstructs images, got {pipeline.__name__}.")
    kind = "reconstructions" if capabilities_of(pipeline).can("generate") else "samples"
    recipe, files = load_records(repo, kind)
    return animate(files, recipe, RECONSTRUCTIONS)


def animate(files: list[Path], recipe: Recipe, subject: str) -> bytes:
    """Returns an animation of pictures of `subject` that a run drew, each with its step."""
    files = choose_evenly(files, MAX_FRAMES)
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
    recipe, files, seen = load_samples(repo)
    files, train_images = choose_geometrically(files, count), train_images_of(repo)
    rows = [cut(file, recipe)[:COLUMNS] for file in files]
    names = [f"{seen[file]:,.0f} images" for file in files]
    if train_images is not None:
        names = [f"{name}, epoch {seen[file] / train_images:.1f}" for name, file in zip(names, files, strict=True)]
    title = f"{recipe.name}: samples of the same latents after so many training images; uncurated"
    return plotting.png(plotting.image_rows(rows, names, len(rows[0]), title, scale_for(rows[0], 56)))


def one_epoch(repo: str, count: int = 4 * COLUMNS) -> bytes:
    """Draws the samples that a run drew nearest to the end of its first epoch.

    Args:
        count: images, the first ones.

    Raises:
        ValueError: the run is not finished, or what `milestones` raises.
    """
    recipe, files, seen = load_samples(repo)
    train_images = train_images_of(repo)
    if train_images is None:
        raise ValueError(f"{repo} has no metrics.json, which tells the images of an epoch: its run is not finished.")
    file = min(files, key=lambda file: abs(seen[file] - train_images))
    rows = cut(file, recipe)[:count].split(COLUMNS)
    title = (
        f"{recipe.name}: samples after {seen[file]:,.0f} images, {seen[file] / train_images:.2f} epochs, and "
        f"{step_of(file):,} steps; seed {recipe.training.seed}, uncurated"
    )
    return plotting.png(plotting.image_rows(rows, [""] * len(rows), COLUMNS, title, scale_for(rows[0], 56)))


def load_samples(repo: str) -> tuple[Recipe, list[Path], dict[Path, float]]:
    """Returns the recipe of a run of a model that generates images, the files of its pictures, in order, and how many
    training images it had seen at each.

    Raises:
        ValueError: its model generates none, it drew no pictures, or its training folder is on another machine.
    """
    recipe, files = load_records(repo)
    if not capabilities_of(recipe.pipeline.cls).can("generate"):
        raise ValueError(f"`repo` must hold a model that generates images, got {recipe.pipeline.cls.__name__}.")
    records = parse_log(repo, read_text(repo, "training/metrics.jsonl"))
    clock = {0: 0} | {record["step"]: record["images"] for record in records if "images" in record}
    seen = np.interp([step_of(file) for file in files], list(clock), list(clock.values()))
    return recipe, files, dict(zip(files, seen.tolist(), strict=True))


def load_records(repo: str, kind: str = "samples", suffix: str = ".png") -> tuple[Recipe, list[Path]]:
    """Returns the recipe of a run, and the files of one `kind` that it wrote while it trained, in order.

    Raises:
        ValueError: it wrote none, or its training folder is on another machine.
    """
    folder = download(repo, required="recipe.yaml")
    files = sorted((folder / "training" / kind).glob(f"step-*{suffix}"))
    if not files:
        what = "pictures" if suffix == ".png" else kind
        raise ValueError(
            f"{repo} has no {what} in training/{kind}, which stay where the model was trained: train with "
            "`--training.sample_every N`, N from 1 to the steps of the run."
        )
    return recipes.load(folder), files


def train_images_of(repo: str) -> int | None:
    """Returns the number of images that a model was trained on, None before its run is finished."""
    path = download(repo, required="recipe.yaml") / "metrics.json"
    return json.loads(path.read_text())["training"]["train_images"] if path.is_file() else None


def cut(file: Path, recipe: Recipe) -> torch.Tensor:
    """Returns the images (N, C, H, W) in [0, 1] of a picture of samples that a run drew."""
    return plotting.cut_grid(Image.open(file), recipe.training.num_samples, COLUMNS)


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


def parse_log(repo: str, log: str | None) -> list[dict]:
    """Parses the records of a training/metrics.jsonl.

    Raises:
        ValueError: there is no such file.
    """
    if log is None:
        raise ValueError(f"{repo} has no training/metrics.jsonl: it stays where the model was trained.")
    return [json.loads(line) for line in log.splitlines()]
