"""Figures of a repository by their names: `genhub figure NAME REPO`. What they show is read here, and drawn by
`genhub.figures`."""

import bisect
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from genhub import data, figures
from genhub.evaluation import references
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.protocol import PROTOCOL, is_fashion_mnist, to_bytes
from genhub.evaluation.sampling import Sampler
from genhub.files import write_whole
from genhub.generate import best_device
from genhub.hub import AutoPipeline, download, generates
from genhub.training.recipe import Recipe, load_recipe
from genhub.training.spec import nearest

EACH, MOST, BATCH_SIZE = 10, 500, 50  # images of a class in `classes`, drawn for them at most, drawn at a time
MEMORISER = "memoriser (real training images)"  # the reference row that no honest model beats
KERNEL_DISTANCES = {"val_kid_clf": "clf", "val_kid_pix": "pix"}  # records of a run -> the space that they are of


def figure(name: str, repo: str, output: str | None = None, steps: int | None = None, seed: int | None = None) -> Path:
    """Draws the figure `name` of `repo` into a PNG file; returns its path.

    Args:
        output: the file; `<name>.png` in a local repository, or in the working directory.
        steps, seed: how images are sampled, for a figure that shows them.

    Raises:
        ValueError: there is no such figure or repository, or the repository lacks what the figure shows.
    """
    if name not in FIGURES:
        raise ValueError(f"There is no figure {name!r}{nearest(name, list(FIGURES))}. Known: {', '.join(FIGURES)}.")
    path = Path(output or (Path(repo).expanduser() if Path(repo).expanduser().is_dir() else Path()) / f"{name}.png")
    if not path.parent.is_dir():
        raise ValueError(f"`output` must lie in an existing folder, got {path}.")
    if path.suffix.lower() != ".png":
        raise ValueError(f"`output` must be a .png file, got {path}.")
    options = {key: value for key, value in (("steps", steps), ("seed", seed)) if value is not None}
    for key in options:
        if key not in inspect.signature(FIGURES[name]).parameters:
            raise ValueError(f"`{key}` must be unset: the figure {name} samples no images.")
    write_whole(path, FIGURES[name](repo, **options))
    return path


def sampling_time(repo: str) -> bytes:
    """Draws the Fréchet distance of each evaluation against the seconds that an image took."""
    return figures.chart_png(figures.chart(*quality_against_time(repo, _read(repo, "metrics.json"))))


def quality_against_time(repo: str, text: str | None) -> tuple[list[figures.Panel], str]:
    """Returns the panel and the title of `sampling-time` from the `text` of metrics.json.

    Only what can be compared with the newest evaluation is drawn; the title says what that is, and how much is not.

    Raises:
        ValueError: there is no evaluation of generated images, or none that says how long they took.
    """
    everything = [one for one in json.loads(text or "{}").get("evaluations", []) if one["samples"]]
    if not everything:
        raise ValueError(f"{repo} has no evaluation of generated images to draw: run `genhub evaluate {repo}` first.")
    newest = everything[-1]
    alike = [one for one in everything if _settings(one) == _settings(newest)]
    size = newest["samples"]["batch_size"]
    if _seconds(newest) is None:
        raise ValueError(
            f"The newest evaluation of {repo} made no full batch of {size} images, so it was not timed: run "
            f"`genhub evaluate {repo}` with a `--count` of at least the batch size."
        )
    points: dict[str, list[dict]] = {}
    for one in sorted(alike, key=_seconds):
        points.setdefault(_sampler(one), []).append(one)
    lines = [
        figures.Line(
            name,
            x=[_seconds(one) for one in found],
            y=[_distance(one)["value"] for one in found],
            spread=[_distance(one)["spread"] for one in found],
            labels=[str(one["samples"]["steps"] or "") for one in found],
        )
        for name, found in sorted(points.items())
    ]
    distance, reference, hardware = _distance(newest)["name"], newest["reference"], newest["hardware"]
    panel = figures.Panel(
        lines,
        x_label=f"seconds per image, {size} at a time; {_hardware(hardware)}",
        y_label=f"{distance} (clf), lower is better",
        levels=floor() if distance == "FD-FM" and newest["complete"] else {},
        log_x=True,
        log_y=True,
    )
    title = [
        f"Quality against sampling time{'' if len(lines) > 1 else ', ' + lines[0].name}"
        + "; numbers are steps" * any(label for line in lines for label in line.labels),
        f"{newest['protocol']}{'' if newest['complete'] else ', reduced'}: "
        f"{newest['samples']['images']:,} images against {reference['images']:,} of {reference['data']}, "
        f"{reference['split']}",
    ]
    if rest := len(everything) - len(alike):
        title.append(f"not drawn: {rest} evaluation{'s' * (rest > 1)} of other settings, weights or hardware")
    return [panel], "\n".join(title)


def floor() -> dict[str, float]:
    """Returns the distance of real training images, as a level; nothing where no reference rows are stored."""
    if not references.STORED.is_file():
        return {}
    (row,) = (row for row in references.stored()["rows"] if row["name"] == MEMORISER)
    return {"real training images": _distance(row)["value"]}


def _settings(one: dict) -> list:
    """Returns what two evaluations must share to be drawn on one pair of axes."""
    samples = [one["samples"][part] for part in ("images", "batch_size", "classes")]
    shared = [one[part] for part in ("protocol", "complete", "repository", "reference", "hardware")]
    return [*samples, *shared, _distance(one)["name"], one["spaces"]["clf"]]


def _distance(one: dict) -> dict:
    """Returns the Fréchet distance in the space clf, of an evaluation or a reference row."""
    return next(part for part in one["figures"] if part["name"] in ("FD-FM", "FD") and part["space"] == "clf")


def _seconds(one: dict) -> float | None:
    """Returns the seconds per image at the evaluation's batch size; None where no full batch was made."""
    speed = one["speed"][f"images_per_second_batch_{one['samples']['batch_size']}"]
    return 1 / speed if speed else None


def _sampler(one: dict) -> str:
    samples = one["samples"]
    guidance = samples["guidance_scale"]
    return (samples["sampler"] or "one pass") + (f", guidance {guidance:g}" if guidance is not None else "")


def _hardware(found: dict) -> str:
    processes, threads = found["processes"], found["threads"]
    return f"{found['device']}, {f'{processes} processes, ' * (processes > 1)}{threads} thread{'s' * (threads > 1)}"


def training_time(repo: str) -> bytes:
    """Draws the figure of quality and the validation loss that a run has logged against its minutes."""
    return figures.chart_png(figures.chart(*quality_in_training(repo, _read(repo, "training/metrics.jsonl"))))


def quality_in_training(repo: str, text: str | None) -> tuple[list[figures.Panel], str]:
    """Returns the panels and the title of `training-time` from the `text` of training/metrics.jsonl.

    Raises:
        ValueError: there is no such file, no record of quality in it, or none that tells the time.
    """
    if text is None:
        raise ValueError(f"{repo} has no training/metrics.jsonl: it stays where the model was trained.")
    records = [json.loads(line) for line in text.splitlines()]
    clock = {record["step"]: record["seconds"] for record in records if "seconds" in record}
    panels = []
    for key in (*KERNEL_DISTANCES, "val_loss"):
        values = {record["step"]: record[key] for record in records if key in record}
        if not values:
            continue
        if not clock:
            raise ValueError(f"{repo} has no record with `seconds` in training/metrics.jsonl: nothing tells the time.")
        best = min(values, key=values.get)
        line = figures.Line(
            key,
            x=[minutes(step, clock) for step in values],
            y=list(values.values()),
            labels=[f"{value:.4g}" if step == best else "" for step, value in values.items()],
        )
        label = f"KID x 1000 ({KERNEL_DISTANCES[key]})" if key in KERNEL_DISTANCES else "validation loss"
        is_log = key in KERNEL_DISTANCES and values[best] > 0  # unbiased, so it may fall below zero
        panels.append(figures.Panel([line], "minutes of training", label, log_y=is_log, x_start=0))
    if not panels:
        raise ValueError(
            f"{repo} has no record of {', '.join(KERNEL_DISTANCES)} or val_loss in training/metrics.jsonl: train with "
            "`--evaluation.every` or `--training.validate_every` above 0."
        )
    return panels, "Held-out images while training, lower is better; the number is the lowest value"


def minutes(step: int, clock: dict[int, float]) -> float:
    """Returns the minutes of training after `step`, on straight lines through `clock` (step -> seconds), which starts
    at 0 and goes on beyond its end as it ended."""
    known = sorted({0: 0.0, **clock}.items())
    after = min(max(bisect.bisect_left(known, (step,)), 1), len(known) - 1)
    (step_0, seconds_0), (step_1, seconds_1) = known[after - 1 : after + 1]
    return (seconds_0 + (seconds_1 - seconds_0) * (step - step_0) / (step_1 - step_0)) / 60


def classes(repo: str, steps: int | None = None, seed: int = 0) -> bytes:
    """Draws a row of samples for each class; nothing is selected but by the class.

    A conditional model is asked for each class. Those of an unconditional one are sorted by the classifier of the
    protocol, which knows Fashion MNIST alone.
    """
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0, got {seed}.")
    folder = download(repo)
    pipeline = AutoPipeline.from_pretrained(folder)
    if not generates(pipeline):
        raise ValueError(f"{repo} must hold a pipeline that generates images, got {type(pipeline).__name__}.")
    arguments = {} if steps is None else {"num_inference_steps": steps}
    if not arguments.keys() <= inspect.signature(pipeline.__call__).parameters.keys():
        raise ValueError(f"`steps` must be unset: {type(pipeline).__name__} does not take it.")
    if not (folder / "recipe.yaml").is_file():
        raise ValueError(f"The repository {repo} has no recipe.yaml, which says what it was trained on.")
    recipe, device = load_recipe(folder), best_device()
    pipeline = pipeline.to(device)
    if known := max(part.config.get("num_class_embeds") or 0 for part in pipeline.components.values()):
        shape, names = _asked_for(recipe, pipeline, known)
        sampler = Sampler(pipeline, shape, seed, BATCH_SIZE, len(names), arguments)
        images, _ = sampler.draw(EACH * len(names))
        rows = [images[sampler.labels(len(images)) == label] for label in range(len(names))]
        title = f"{EACH} images asked for of each class"
    else:
        train = data.load(replace(recipe.data, streaming=False), "train")
        if not (isinstance(train, data.Images) and is_fashion_mnist(train.images)):
            raise ValueError(
                f"{repo} must be conditional or trained on Fashion MNIST, got an unconditional model of "
                f"{recipe.data.source}: there is no classifier to sort its images by."
            )
        space, shape = next(pinned_spaces(device)), tuple(train.images.shape[1:])
        sampler = Sampler(pipeline, shape, seed, BATCH_SIZE, arguments=arguments)
        names = train.class_names or _numbers(space.classifier.config.num_classes)

        def batches():
            for batch in range(MOST // BATCH_SIZE):
                images = to_bytes(sampler.call(batch, None, BATCH_SIZE), shape)
                yield images, space.probabilities(space(images)).argmax(1)

        rows, drawn = first_of_each(batches(), len(names))
        title = f"The first {EACH} images of each class, as the classifier of {PROTOCOL} names them, of {drawn} drawn"
    scale = max(1, round(84 / shape[2]))
    title += f"; seed {seed}, not selected"
    return figures.png(figures.named_rows([row.float() / 255 for row in rows], names, EACH, title, scale))


def _asked_for(recipe: Recipe, pipeline: DiffusionPipeline, known: int) -> tuple[tuple[int, int, int], Sequence[str]]:
    """Returns the shape of a conditional model's images and the names of its `known` classes: numbers where its data
    set cannot be loaded here, as one of someone else's folders."""
    try:
        train = data.load(replace(recipe.data, streaming=False), "train")
    except ValueError:
        (size,) = {part.config.sample_size for part in pipeline.components.values() if "sample_size" in part.config}
        (channels,) = {
            part.config.in_channels for part in pipeline.components.values() if "in_channels" in part.config
        }
        has_none = any(stage.objective.arguments.get("label_dropout") for stage in recipe.stages)
        height, width = (size, size) if isinstance(size, int) else size
        return (channels, height, width), _numbers(known - has_none)
    shape = train.shape
    return (shape.channels, shape.height, shape.width), shape.class_names


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def first_of_each(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]], count: int, each: int = EACH
) -> tuple[list[torch.Tensor], int]:
    """Returns the first `each` images of each of `count` classes, and how many images were drawn for them.

    Args:
        batches: images (B, C, H, W) and their classes (B,); no more are taken than are needed.
    """
    rows: list[list[torch.Tensor]] = [[] for _ in range(count)]
    drawn, nothing = 0, torch.empty(0)
    for images, labels in batches:
        nothing, drawn = images[:0], drawn + len(images)
        for image, label in zip(images, labels.tolist(), strict=True):
            if len(rows[label]) < each:
                rows[label].append(image)
        if all(len(row) == each for row in rows):
            break
    return [torch.stack(row) if row else nothing for row in rows], drawn


def _read(repo: str, name: str) -> str | None:
    """Returns the text of a file of a repository, None where there is no such file; no weights are downloaded."""
    path = download(repo, allow_patterns=["model_index.json", name]) / name
    return path.read_text() if path.is_file() else None


FIGURES: dict[str, Callable[..., bytes]] = {
    "classes": classes,
    "sampling-time": sampling_time,
    "training-time": training_time,
}
