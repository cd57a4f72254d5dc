"""The measured part of a model card, between two marks: results, quality, memorisation, and figures.

It is renewed from metrics.json after each evaluation; the rest of the card stays as it is.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from genhub.repository.card_seeds import seeds_table

BEGIN, END = "<!-- results -->", "<!-- /results -->"  # renewed by every evaluation
FIGURES_BEGIN, FIGURES_END = "<!-- figures -->", "<!-- /figures -->"  # renewed by every figure
TOO_SMOOTH = 1.3  # density above which samples are smoother than real images (protocol, section 8.4)


def with_results(text: str, metrics: dict[str, Any]) -> str:
    """Returns the card `text` with the results of `metrics` in its metadata and between its marks.

    A card without the marks is returned unchanged.
    """
    card = ModelCard(text)
    before, begin, rest = card.text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return text
    data: Any = card.data  # ModelCardData
    results, shown = _eval_results(metrics, data.pipeline_tag), to_show(metrics)
    data.eval_results = results or None
    data.metrics = sorted({str(result.metric_name) for result in results}) or None
    if shown is None:
        quality, comparable = _not_evaluated(data.pipeline_tag), metrics.get("evaluations", [])
    else:
        quality = _quality(shown, metrics.get("reported", {}))
        comparable = [other for other in metrics["evaluations"] if other["reference"] == shown["reference"]]
    others = _other_evaluations(evaluation for evaluation in comparable if evaluation is not shown)
    card.text = (
        before + "\n".join([BEGIN, "", *_losses(metrics), *quality, *seeds_table(metrics), *others, "", END]) + after
    )
    return str(card)


def with_figure(text: str, file: str) -> str:
    """Returns the card `text` with the picture `file` among its figures.

    A card without the marks is returned unchanged.
    """
    before, begin, rest = text.partition(FIGURES_BEGIN)
    inside, end, after = rest.partition(FIGURES_END)
    if not (begin and end):
        return text
    files = sorted({file, *re.findall(r"\]\((.+?)\)", inside)})
    links = [line for name in files for line in (f"![{name.rpartition('.')[0]}]({name})", "")]
    return before + "\n".join([FIGURES_BEGIN, "", "## Figures", "", *links, FIGURES_END]) + after


def to_show(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the evaluation that a card shows in full: the newest that follows the protocol, else the newest."""
    evaluations = metrics.get("evaluations", [])
    complete = [evaluation for evaluation in evaluations if evaluation["complete"]]
    return (complete or evaluations or [None])[-1]


def is_local(source: str) -> bool:
    """Returns whether `data.source` is no data set of the Hub."""
    return source == "sample" or source.startswith((".", "/", "~")) or source.count("/") != 1


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def _eval_results(metrics: dict[str, Any], task: str) -> list[EvalResult]:
    """Returns the results for the metadata: losses, and the metrics of the evaluation shown."""
    source, shown = metrics.get("data", "local"), to_show(metrics)
    rows = [
        (row["name"], row["value"], source, f"{row['split']}, {row['images']} images")
        for row in metrics.get("results", [])
    ]
    if shown is not None:
        reference = shown["reference"]
        split = f"{reference['split']}, {reference['images']} images; {_protocol(shown)}"
        rows += [(_full_name(metric), metric["value"], reference["data"], split) for metric in shown["figures"]]
    return [
        EvalResult(
            task_type=task,
            dataset_type="local" if is_local(data) else data,
            dataset_name=data,
            dataset_split=split,
            metric_type=name,
            metric_value=float(f"{value:.6g}"),
            metric_name=name,
        )
        for name, value, data, split in rows
    ]


def _losses(metrics: dict[str, Any]) -> list[str]:
    """Returns the table of the losses on held-out images."""
    if not metrics.get("results"):
        return ["No held-out images were set aside, so no loss was measured."]
    reported = metrics.get("reported", {})
    rows = [
        (
            row["name"],
            f"{row['value']:.5f}",
            reported.get(row["name"], ""),
            f"{row['images']:,} images of {row['split']}, the same random numbers every time, {row['seeds']} run",
        )
        for row in metrics["results"]
    ]
    return table(["figure", "value", "reported by the source, on its data", "how measured"], rows)


def _not_evaluated(task: str) -> list[str]:
    """Returns what a card says before any evaluation."""
    if task == "image-classification":
        return []
    if task == "image-feature-extraction":
        return ["", "How well it copies test images has not been measured: `genhub evaluate` does that."]
    return [
        "",
        "The quality of what it makes has not been measured, and whether training images were memorised has not been "
        "examined: `genhub evaluate` does both.",
    ]


def _quality(evaluation: dict[str, Any], reported: dict[str, float]) -> list[str]:
    """Returns the section on one evaluation."""
    conditions = _conditions(evaluation)
    lines = [
        "",
        f"### Quality, protocol {_protocol(evaluation)}",
        "",
        f"{conditions[0].upper()}{conditions[1:]}; measured on {evaluation['date']}.",
    ]
    if not evaluation["complete"]:
        lines.append(
            "The number of images, the real images, the feature net or the arithmetic is not the protocol's: "
            "these figures are not to be compared with those that follow it, nor with those of other numbers."
        )
    rows = [_metric_row(metric, reported) for metric in evaluation["figures"]]
    lines += ["", *table(["figure", "value", "spread"], rows)]
    accuracy = evaluation.get("feature_net_accuracy")
    if accuracy is not None:
        lines += ["", f"The classifier of `clf` names {accuracy:.2%} of the test images right."]
    if evaluation["samples"]:
        lines += [*_smoothness(evaluation), *_speed(evaluation), *_memorisation(evaluation["memorisation"])]
    return lines


def _conditions(evaluation: dict[str, Any]) -> str:
    """Returns which images were measured, and against which."""
    samples, reference = evaluation["samples"], evaluation["reference"]
    real = f"the {reference['images']:,} images of {reference['split']} of `{reference['data']}`"
    if not samples:
        return real
    sampler = f"{samples['steps']} steps of {samples['sampler']}" if samples["sampler"] else None
    guidance = f"guidance {samples['guidance_scale']}" if samples["guidance_scale"] is not None else None
    parts = [f"{samples['images']:,} images", sampler, guidance, samples["dtype"], f"seed {samples['seed']}"]
    return f"{', '.join(filter(None, parts))}, against {real}"


def _metric_row(metric: dict[str, Any], reported: dict[str, float]) -> tuple[str, str, str]:
    """Returns name, value and spread of a metric."""
    name, value, spread = _full_name(metric), f"{metric['value']:.4g}", ""
    if name in reported:
        value += f" ({reported[name]:g} reported by the source)"
    if metric["spread"] is not None:
        spread = f"{metric['spread']:.2g}, {metric['spread_is']}"
    return name.replace("|", r"\|"), value, spread  # the bar of a conditional probability is not the table's


def _smoothness(evaluation: dict[str, Any]) -> list[str]:
    """Returns a warning if the samples are smoother than real images."""
    density = _value(evaluation, "density")
    if density <= TOO_SMOOTH:
        return []
    return ["", f"The density of {density:.2f} is no win: samples are smoother than real images."]


def _speed(evaluation: dict[str, Any]) -> list[str]:
    """Returns the table of what an image costs."""
    hardware = evaluation["hardware"]
    rows = [
        (key.replace("images_per_second_", "images/s, ").replace("_", " "), f"{value:,}")
        for key, value in evaluation["speed"].items()
        if value
    ]
    head = f"each of {hardware['processes']} process(es), {hardware['threads']} thread(s) on {hardware['device']}"
    return ["", f"| {head} | |", *table(["", ""], rows)[1:]]


def _memorisation(memorisation: dict[str, Any]) -> list[str]:
    """Returns the section on copies of training images."""
    if not memorisation:
        return ["", "Whether training images were memorised has not been examined: they were not at hand."]
    rows = []
    for space, report in memorisation.items():
        suspect = " **suspect**" if report["suspect"] else ""
        duplicates = "" if report["duplicates"] is None else report["duplicates"]
        copies = f"{report['copies']:.2%} ({report['test_copies']:.2%})"
        rows.append((space, f"{report['near']:.2%}{suspect}", copies, duplicates))
    head = [
        "distance in",
        "nearer than 99 % of test images (1 % expected)",
        "nearer than the training image's own nearest (of test images)",
        "equal images",
    ]
    return [
        "",
        "### Memorisation",
        "",
        "![the closest pairs](closest.png)",
        "",
        "*The generated images that are nearest to a training image in their pixels, each above that image.*",
        "",
        *table(head, rows),
    ]


def _other_evaluations(evaluations: Iterable[dict[str, Any]]) -> list[str]:
    """Returns a table of the evaluations of samples with other settings."""
    rows = []
    for evaluation in evaluations:
        samples = evaluation["samples"]
        if samples:
            scores = [f"{_value(evaluation, name):.4g}" for name in ("FD", "KID")]
            steps = samples["steps"] or ""
            rows.append((f"{samples['images']:,}", samples["sampler"] or "", steps, samples["seed"], *scores))
    if not rows:
        return []
    head = ["images", "sampler", "steps", "seed", "FD (clf)", "KID x 1000 (clf)"]
    return ["", "Evaluations with other settings:", "", *table(head, rows)]


def _value(evaluation: dict[str, Any], prefix: str) -> float:
    """Returns the first metric in classifier features whose name begins with `prefix`."""
    metrics = (metric for metric in evaluation["figures"] if metric["space"] == "clf")
    return next(metric["value"] for metric in metrics if metric["name"].startswith(prefix))


def _protocol(evaluation: dict[str, Any]) -> str:
    return evaluation["protocol"] if evaluation["complete"] else f"{evaluation['protocol']}, reduced"


def _full_name(metric: dict[str, Any]) -> str:
    return f"{metric['name']} ({metric['space']})" if metric["space"] else metric["name"]
