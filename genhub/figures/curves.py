"""Charts of what was measured: `sampling-time` and `training-time`."""

import bisect
import json
from pathlib import Path

from genhub import plotting
from genhub.evaluation import references
from genhub.repository.load import download

MEMORISER = "memoriser (real training images)"  # the reference row that no honest model beats
KERNEL_DISTANCES = {"val_kid_clf": "clf", "val_kid_pix": "pix"}  # records of a run -> the space that they are of


def sampling_time(repo: str) -> bytes:
    """Draws the Fréchet distance of each evaluation against the seconds that an image took."""
    return plotting.chart_png(plotting.chart(*quality_against_time(repo, read(repo, "metrics.json"))))


def quality_against_time(repo: str, text: str | None) -> tuple[list[plotting.Panel], str]:
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
        plotting.Line(
            name,
            x=[_seconds(one) for one in found],
            y=[_distance(one)["value"] for one in found],
            spread=[_distance(one)["spread"] for one in found],
            labels=[str(one["samples"]["steps"] or "") for one in found],
        )
        for name, found in sorted(points.items())
    ]
    distance, reference, hardware = _distance(newest)["name"], newest["reference"], newest["hardware"]
    panel = plotting.Panel(
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


def training_time(repo: str, against: str | None = None) -> bytes:
    """Draws the figure of quality and the validation loss that a run has logged against its minutes.

    Args:
        against: a second run, drawn beside it.
    """
    texts = {one: read(one, "training/metrics.jsonl") for one in (repo, against) if one is not None}
    return plotting.chart_png(plotting.chart(*quality_in_training(texts)))


def quality_in_training(texts: dict[str, str | None]) -> tuple[list[plotting.Panel], str]:
    """Returns the panels and the title of `training-time` from the text of each run's training/metrics.jsonl.

    Raises:
        ValueError: there is no such file, no record of quality in it, or none that tells the time.
    """
    lines: dict[str, list[plotting.Line]] = {key: [] for key in (*KERNEL_DISTANCES, "val_loss")}
    for repo, text in texts.items():
        if text is None:
            raise ValueError(f"{repo} has no training/metrics.jsonl: it stays where the model was trained.")
        records = [json.loads(line) for line in text.splitlines()]
        clock = {record["step"]: record["seconds"] for record in records if "seconds" in record}
        found = {key: {r["step"]: r[key] for r in records if key in r} for key in lines}
        if not any(found.values()):
            raise ValueError(
                f"{repo} has no record of {', '.join(KERNEL_DISTANCES)} or val_loss in training/metrics.jsonl: train "
                "with `--evaluation.every` above 0, or `--training.validate_every` if the objective has one loss."
            )
        if not clock:
            raise ValueError(f"{repo} has no record with `seconds` in training/metrics.jsonl: nothing tells the time.")
        for key, values in found.items():
            if values:
                best = min(values, key=values.get)
                x, y = [minutes(step, clock) for step in values], list(values.values())
                labels = [f"{value:.4g}" if step == best else "" for step, value in values.items()]
                lines[key].append(plotting.Line(key if len(texts) == 1 else Path(repo).name, x=x, y=y, labels=labels))
    panels = []
    for key, drawn in lines.items():
        if drawn:
            label = f"KID x 1000 ({KERNEL_DISTANCES[key]})" if key in KERNEL_DISTANCES else "validation loss"
            # unbiased, so it may fall below zero
            is_log = key in KERNEL_DISTANCES and all(min(line.y) > 0 for line in drawn)
            panels.append(plotting.Panel(drawn, "minutes of training", label, log_y=is_log, x_start=0))
    return panels, "Held-out images while training, lower is better; the number is the lowest value"


def minutes(step: int, clock: dict[int, float]) -> float:
    """Returns the minutes of training after `step`, on straight lines through `clock` (step -> seconds), which starts
    at 0 and goes on beyond its end as it ended."""
    known = sorted({0: 0.0, **clock}.items())
    after = min(max(bisect.bisect_left(known, (step,)), 1), len(known) - 1)
    (step_0, seconds_0), (step_1, seconds_1) = known[after - 1 : after + 1]
    return (seconds_0 + (seconds_1 - seconds_0) * (step - step_0) / (step_1 - step_0)) / 60


def read(repo: str, name: str) -> str | None:
    """Returns the text of a file of a repository, None where there is no such file; no weights are downloaded."""
    path = download(repo, allow_patterns=["model_index.json", name]) / name
    return path.read_text() if path.is_file() else None
