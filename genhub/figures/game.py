"""A game between generator and discriminator, as it was logged: `game`."""

import math

import numpy as np

from genhub import plotting
from genhub.data.splits import FASHION_MNIST
from genhub.figures.subject import read_text
from genhub.figures.training import parse_log
from genhub.objectives.gan_diagnostics import shares_by_class

MAX_POINTS = 60  # of a line of `game`
GAME = {  # label of the y axis -> name of a line -> key of a record
    "D(x), batch mean": {"real images": "discriminator/D(real)", "fakes": "discriminator/D(fake)"},
    "pixel sd over a batch": {"real images": "discriminator/real_spread", "fakes": "discriminator/spread"},
    "gradient norm": {"discriminator": "discriminator/grad_norm", "generator": "generator/grad_norm"},
}


def game(repo: str) -> bytes:
    """Draws discriminator and generator during training, with the run's warnings.

    It shows D(x) on real images and fakes, the pixels' standard deviation over a batch, gradient norms and, if a
    classifier told them (`evaluation.every`, Fashion MNIST), the classes of the fakes: those that collapse vanish.
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
    records = [record for record in everything if "discriminator/D(real)" in record]
    if not records:
        raise ValueError(f"{repo} has no record of discriminator/D(real) in training/metrics.jsonl: only GANs log it.")
    size = math.ceil(len(records) / MAX_POINTS)
    panels = []
    for y_label, keys in GAME.items():
        lines = [average_records(name, key, records, size) for name, key in keys.items()]
        is_log = y_label == "gradient norm" and all(y > 0 for line in lines for y in line.y)
        panels.append(plotting.Panel(lines, "thousands of real images seen", y_label, log_y=is_log, x_start=0))
    panels += share_panels(everything, records)
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
    points = [(record["images"] / 1000, record[key]) for record in records if key in record]
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    means = [np.mean(group, 0).tolist() for group in groups]
    return plotting.Line(name, x=[x for x, _ in means], y=[y for _, y in means])


def share_panels(everything: list[dict], records: list[dict]) -> list[plotting.Panel]:
    """Returns the panel of the classes' shares of the fakes, none if they were not told.

    Args:
        records: those of the game, which tell the images at a step.
    """
    told = [(record["step"], shares) for record in everything if (shares := shares_by_class(record))]
    if not told:
        return []
    steps, images = ([0, *(record[key] for record in records)] for key in ("step", "images"))
    x = (np.interp([step for step, _ in told], steps, images) / 1000).tolist()
    lines = [
        plotting.Line(FASHION_MNIST[int(name)], x, [shares[name] for _, shares in told], has_markers=False)
        for name in told[0][1]
    ]
    return [plotting.Panel(lines, "thousands of real images seen", "share of the fakes", is_stacked=True)]
