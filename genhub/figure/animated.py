"""How images change while a model trains: `progress`."""

from pathlib import Path

from PIL import Image

from genhub import figures
from genhub.hub import download, generates
from genhub.training.recipe import load_recipe

FRAMES = 60  # at most


def progress(repo: str) -> bytes:
    """Animates the pictures that a run has drawn of the same latents, or the same images, while it trained.

    Raises:
        ValueError: the run drew none, or it ran elsewhere.
    """
    folder = download(repo, required="recipe.yaml")
    files = thinned(sorted((folder / "training" / "samples").glob("step-*.png")))
    if not files:
        raise ValueError(
            f"{repo} has no pictures in training/samples, which stay where the model was trained: train with "
            "`--training.sample_every N`, N above 0."
        )
    recipe = load_recipe(folder)
    what = (
        "samples of the same random numbers" if generates(recipe.pipeline.cls) else "held-out images and their copies"
    )
    steps = [int(file.stem.removeprefix("step-")) for file in files]
    pictures = [Image.open(file).copy() for file in files]
    size = tuple(max(picture.size[side] for picture in pictures) for side in (0, 1))
    frames = []
    for picture, step in zip(pictures, steps, strict=True):
        ground = Image.new(picture.mode, size, "white")
        ground.paste(picture)
        title = f"{recipe.name}: {what}, while it trains"
        frames.append(figures.titled(ground, f"{title}\nafter step {step:,} of {steps[-1]:,}"))
    return figures.gif(frames)


def thinned(files: list[Path], most: int = FRAMES) -> list[Path]:
    """Returns at most `most` of `files` at equal distances, among them the first and the last."""
    if len(files) <= most:
        return files
    return [files[round(place * (len(files) - 1) / (most - 1))] for place in range(most)]
