"""What evaluations measured: `sampling-time` and `samplers`."""

import math

from genhub import plotting
from genhub.evaluation import references
from genhub.figures.subject import read_text
from genhub.repository.card_evaluation import guidance_of
from genhub.repository.metrics import parse_metrics
from genhub.utils.reading import parse_json

MEMORISER = "memoriser (real training images)"  # the reference row that no honest model beats


def sampling_time(repo: str) -> bytes:
    """Draws the Fréchet distance of each evaluation against the seconds per image.

    Only evaluations that are comparable with the newest one are drawn.
    """
    text = read_text(repo, "metrics.json")
    if text is not None:
        parse_metrics(text, f"{repo}/metrics.json")
    return plotting.chart_png(plotting.chart(*distance_panels(repo, text)))


def distance_panels(repo: str, text: str | None) -> tuple[list[plotting.Panel], str]:
    """Returns the panel and the title of `sampling-time`.

    Args:
        text: of metrics.json.

    Raises:
        ValueError: there is no evaluation of generated images, or the newest one measured no time.
    """
    stored = parse_json(text or "{}", f"{repo}/metrics.json").get("evaluations", [])
    evaluations = [entry for entry in stored if entry["samples"] and "speed" in entry and frechet_distance(entry)]
    if not evaluations:
        raise ValueError(f"{repo} has no evaluation of generated images to draw: run `genhub evaluate {repo}` first.")
    newest = evaluations[-1]
    comparable = [entry for entry in evaluations if settings(entry) == settings(newest)]
    size = newest["samples"].get("batch_size")
    if math.isnan(seconds_per_image(newest)):
        raise ValueError(
            f"The newest evaluation of {repo} made no full batch of {size} images, so it was not timed: run "
            f"`genhub evaluate {repo}` with a `--count` of at least the batch size."
        )
    by_sampler: dict[str, list[dict]] = {}
    for entry in sorted(comparable, key=seconds_per_image):
        by_sampler.setdefault(sampler_name(entry), []).append(entry)
    lines = [distance_line(name, entries) for name, entries in sorted(by_sampler.items())]
    distance = frechet_distance(newest)["name"]
    panel = plotting.Panel(
        lines,
        x_label=f"seconds per image, {size} at a time; {describe_hardware(newest['hardware'])}",
        y_label=f"{distance} (clf), lower is better",
        levels=memoriser_level() if distance == "FD-FM" and newest["complete"] else {},
        log_x=True,
        log_y=True,
    )
    return [panel], describe_chart(lines, newest, len(evaluations) - len(comparable))


def samplers(repo: str) -> bytes:
    """Draws the Fréchet distance of each sampler against the calls of the network.

    They are read from samplers.json, which scripts/studies/sampler_study.py writes.
    """
    return plotting.chart_png(plotting.chart(*sampler_panels(repo, read_text(repo, "samplers.json"))))


def sampler_panels(repo: str, text: str | None) -> tuple[list[plotting.Panel], str]:
    """Returns the panel and the title of `samplers`.

    Args:
        text: of samplers.json.

    Raises:
        ValueError: there is no such file, or nothing is measured yet.
    """
    study = parse_json(text or "{}", f"{repo}/samplers.json")
    if not study.get("cells"):
        raise ValueError(
            f"{repo} has no samplers.json to draw: run `python scripts/studies/sampler_study.py {repo} --data DATA` "
            "first."
        )
    by_sampler: dict[str, list[dict]] = {}
    for cell in sorted(study["cells"], key=lambda cell: cell["calls"]):
        by_sampler.setdefault(cell["sampler"], []).append(cell)
    lines = [
        plotting.Line(
            name,
            x=[cell["calls"] for cell in cells],
            y=[cell["FD"] for cell in cells],
            spread=[cell["spread"] for cell in cells],
        )
        for name, cells in by_sampler.items()
    ]
    panel = plotting.Panel(lines, "calls of the network", "FD (clf), lower is better", log_x=True, log_y=True)
    title = (
        f"Samplers, from the same initial noise\n{study['images']:,} images against {study['reference_images']:,} of "
        f"{study['data']}, test; error bars: sd over halves"
    )
    return [panel], title


def distance_line(name: str, evaluations: list[dict]) -> plotting.Line:
    """Returns the distances of evaluations against their seconds per image, labelled by their steps."""
    distances = [frechet_distance(entry) for entry in evaluations]
    return plotting.Line(
        name,
        x=[seconds_per_image(entry) for entry in evaluations],
        y=[distance["value"] for distance in distances],
        spread=[distance["spread"] for distance in distances],
        labels=[str(entry["samples"].get("steps") or "") for entry in evaluations],
    )


def describe_chart(lines: list[plotting.Line], newest: dict, left_out: int) -> str:
    """Returns the title of `sampling-time`: what is compared, and how many evaluations are left out."""
    first = "Quality against sampling time"
    if len(lines) == 1:
        first += f", {lines[0].name}"
    if any(label for line in lines for label in line.labels or ()):
        first += "; labels are steps"
    reference = newest["reference"]
    title = [
        first,
        f"{newest['protocol']}{'' if newest['complete'] else ', reduced'}: {newest['samples']['images']:,} images "
        f"against {reference['images']:,} of {reference['data']}, {reference['split']}",
    ]
    if left_out:
        noun = "evaluation" if left_out == 1 else "evaluations"
        title.append(f"not drawn: {left_out} {noun} with other settings, weights or hardware")
    return "\n".join(title)


def memoriser_level() -> dict[str, float]:
    """Returns the distance of real training images as a level, none if no reference rows are stored."""
    if not references.STORED.is_file():
        return {}
    rows = {row["name"]: row for row in references.stored()["rows"]}
    return {"real training images": frechet_distance(rows[MEMORISER])["value"]}


def settings(evaluation: dict) -> list:
    """Returns what two evaluations must share to be comparable."""
    samples = [evaluation["samples"].get(key) for key in ("images", "batch_size", "classes")]
    shared = [evaluation[key] for key in ("protocol", "complete", "repository", "reference", "hardware")]
    return [*samples, *shared, frechet_distance(evaluation)["name"], evaluation["spaces"].get("clf")]


def frechet_distance(entry: dict) -> dict:
    """Returns the Fréchet distance in the space clf of an evaluation or a reference row, {} if it has none."""
    metrics = {metric["name"]: metric for metric in entry["figures"] if metric["space"] == "clf"}
    return metrics.get("FD-FM") or metrics.get("FD", {})


def seconds_per_image(evaluation: dict) -> float:
    """Returns the seconds per image at the evaluation's batch size, NaN if it made no full batch."""
    speed = evaluation["speed"].get(f"images_per_second_batch_{evaluation['samples'].get('batch_size')}")
    return 1 / speed if speed else math.nan


def sampler_name(evaluation: dict) -> str:
    """Returns the scheduler of an evaluation, or "one pass", with its guidance and further arguments."""
    samples = evaluation["samples"]
    parts = [samples.get("sampler") or "one pass"]
    if (guidance := guidance_of(samples)) is not None:
        parts.append(guidance)
    for key in ("scheduler_arguments", "arguments"):  # recorded if there are any
        parts += [f"{name} {value}" for name, value in samples.get(key, {}).items()]
    return ", ".join(parts)


def describe_hardware(hardware: dict) -> str:
    """Returns words such as "Xeon, 2 processes, 1 thread"."""
    processes, threads = hardware["processes"], hardware["threads"]
    parts = [hardware["device"]]
    if processes > 1:
        parts.append(f"{processes} processes")
    parts.append("1 thread" if threads == 1 else f"{threads} threads")
    return ", ".join(parts)
