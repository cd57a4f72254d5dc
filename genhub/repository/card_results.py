"""The measured part of a model card, between two marks: results, quality, memorisation, and figures.

It is renewed from metrics.json after each evaluation; the rest of the card stays as it is.
"""

import re
from collections.abc import Iterable
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from genhub.repository.card_evaluation import full_name, protocol_of, quality, table, value_of
from genhub.repository.card_seeds import seeds_table
from genhub.repository.format import RepositoryError
from genhub.utils.reading import one_line

BEGIN, END = "<!-- results -->", "<!-- /results -->"  # renewed by every evaluation
FIGURES_BEGIN, FIGURES_END = "<!-- figures -->", "<!-- /figures -->"  # renewed by every figure


def with_results(text: str, metrics: dict[str, Any]) -> str:
    """Returns the card `text` with the results of `metrics` in its metadata and between its marks.

    A card without the marks is returned unchanged.
    """
    card = parse_card(text)
    before, begin, rest = card.text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return text
    data: Any = card.data  # ModelCardData
    results, shown = _eval_results(metrics, data.pipeline_tag), to_show(metrics)
    data.eval_results = results or None
    data.metrics = sorted({str(result.metric_name) for result in results}) or None
    if shown is None:
        section, comparable = _not_evaluated(data.pipeline_tag), metrics.get("evaluations", [])
    else:
        section = quality(shown, metrics.get("reported", {}))
        comparable = [other for other in metrics["evaluations"] if other["reference"] == shown["reference"]]
    others = seeds_table(metrics) + _other_evaluations(entry for entry in comparable if entry is not shown)
    card.text = before + "\n".join([BEGIN, "", *_losses(metrics), *section, *others, "", END]) + after
    return str(card)


def parse_card(text: str) -> ModelCard:
    """Reads a card.

    Raises:
        RepositoryError: its metadata are no YAML, or not those of a model.
    """
    try:
        return ModelCard(text)
    except Exception as error:  # of a YAML library, and of the client's own checks
        raise RepositoryError(f"The metadata of README.md cannot be read: {one_line(error)}.") from error


def with_figure(text: str, file: str) -> str:
    """Returns the card `text` with the picture `file` among its figures.

    A card without the marks is returned unchanged.
    """
    before, begin, rest = text.partition(FIGURES_BEGIN)
    inside, end, after = rest.partition(FIGURES_END)
    if not (begin and end):
        return text
    files = sorted({file, *re.findall(r"\]\(([^][()\n]+)\)", inside)})
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


def _eval_results(metrics: dict[str, Any], task: str) -> list[EvalResult]:
    """Returns the results for the metadata: losses, and the metrics of the evaluation shown."""
    source, shown = metrics.get("data", "local"), to_show(metrics)
    rows = [
        (row["name"], row["value"], source, f"{row['split']}, {row['images']} images")
        for row in metrics.get("results", [])
    ]
    if shown is not None:
        reference = shown["reference"]
        split = f"{reference['split']}, {reference['images']} images; {protocol_of(shown)}"
        rows += [(full_name(metric), metric["value"], reference["data"], split) for metric in shown["figures"]]
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
    """Returns the table of the losses on held-out images, nothing of what genhub did not train."""
    if "results" not in metrics:
        return []
    if not metrics["results"]:
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


def _other_evaluations(evaluations: Iterable[dict[str, Any]]) -> list[str]:
    """Returns a table of the evaluations of samples with other settings."""
    rows = []
    for evaluation in evaluations:
        samples = evaluation["samples"]
        if samples:
            scores = [f"{value_of(evaluation, name):.4g}" for name in ("FD", "KID")]
            settings = [samples.get(name) for name in ("sampler", "steps", "seed")]
            rows.append((f"{samples['images']:,}", *("" if x is None else x for x in settings), *scores))
    if not rows:
        return []
    head = ["images", "sampler", "steps", "seed", "FD (clf)", "KID x 1000 (clf)"]
    return ["", "Evaluations with other settings:", "", *table(head, rows)]
