"""How images change while a model trains: `progress` and `milestones`."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from genhub import plotting
from genhub.figures.subject import scale_for
from genhub.recipes.recipe import Recipe, load_recipe
from genhub.repository.capabilities import generates
from genhub.repository.load import download

FRAMES = 60  # at most


def progress(repo: str) -> bytes:
    """Animates the pictures that a run has drawn of the same latents, or the same images, while it trained.

    Raises:
        ValueError: the run drew none, or it ran elsewhere.
    """
    recipe, drawn = drawn_by(repo)
    files = thinned(drawn)
    what = (
        "samples of the same random numbers" if generates(recipe.pipeline.cls) else "held-out images and their copies"
    )
    steps = [step_of(file) for file in files]
    pictures = [Image.open(file).copy() for file in files]
    size = tuple(max(picture.size[side] for picture in pictures) for side in (0, 1))
    frames = []
    for picture, step in zip(pictures, steps, strict=True):
        ground = Image.new(picture.mode, size, "white")
        ground.paste(picture)
        title = f"{recipe.name}: {what}, while it trains"
        frames.append(plotting.titled(ground, f"{title}\nafter step {step:,} of {steps[-1]:,}"))
    return plotting.gif(frames)


def milestones(repo: str, count: int = 8) -> bytes:
    """Draws what a run made of the same latents early and late: a row of samples at each of `count` moments, whose
    distances grow.

    Raises:
        ValueError: the run drew none, ran elsewhere, or makes no images of its own.
    """
    recipe, files = drawn_by(repo)
    if not generates(recipe.pipeline.cls):
        raise ValueError(f"`repo` must hold a model that makes images, got {recipe.pipeline.cls.__name__}.")
    log = (files[0].parent.parent / "metrics.jsonl").read_text()
    records = [json.loads(line) for line in log.splitlines()]
    clock = [(record["step"], record["images"]) for record in records if "images" in record]
    files = geometric(files, count)
    seen = np.interp([step_of(file) for file in files], *zip((0, 0), *clock, strict=True))
    rows = [plotting.first_row(Image.open(file), recipe.training.num_samples) for file in files]
    names = [f"{images:,.0f} images" for images in seen]
    title = f"{recipe.name}: samples of the same random numbers after so many training images; not selected"
    return plotting.png(plotting.named_rows(rows, names, len(rows[0]), title, scale_for(rows[0], 56)))


def drawn_by(repo: str) -> tuple[Recipe, list[Path]]:
    """Returns the recipe of a run and the pictures that it drew, in their order.

    Raises:
        ValueError: it drew none, or it ran elsewhere.
    """
    folder = download(repo, required="recipe.yaml")
    files = sorted((folder / "training" / "samples").glob("step-*.png"))
    if not files:
        raise ValueError(
            f"{repo} has no pictures in training/samples, which stay where the model was trained: train with "
            "`--training.sample_every N`, N from 1 to the steps of the run."
        )
    return load_recipe(folder), files


def step_of(file: Path) -> int:
    return int(file.stem.removeprefix("step-"))


def geometric(files: list[Path], most: int) -> list[Path]:
    """Returns at most `most` of `files`, each about as many times as late as the one before, the last one among
    them, and the first if they are more than one."""
    places = {round(len(files) ** (1 - place / max(most - 1, 1))) - 1 for place in range(most)}
    return [files[place] for place in sorted(places)]


def thinned(files: list[Path], most: int = FRAMES) -> list[Path]:
    """Returns at most `most` of `files` at equal distances, among them the first and the last."""
    if len(files) <= most:
        return files
    return [files[round(place * (len(files) - 1) / (most - 1))] for place in range(most)]
