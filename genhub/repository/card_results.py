"""What a card says of measurements: results and figures, between marks, renewed whenever something is measured."""

import re

from huggingface_hub import EvalResult, ModelCard

BEGIN, END = "<!-- results -->", "<!-- /results -->"  # what is between is renewed by every evaluation
FIGURES_BEGIN, FIGURES_END = "<!-- figures -->", "<!-- /figures -->"  # and here by every figure
TOO_SMOOTH = 1.3  # density above which samples are called too smooth (protocol, section 8.4)


def with_results(text: str, metrics: dict) -> str:
    """Returns the card `text` with the results of `metrics` in its metadata and between its two marks.

    Nothing else changes; and nothing at all in a card without the marks, which someone wrote anew.
    """
    card = ModelCard(text)
    before, mark, rest = card.text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (mark and end):
        return text
    shown, source = to_show(metrics), metrics.get("data", "local")
    rows = [
        (row["name"], row["value"], source, f"{row['split']}, {row['images']} images")
        for row in metrics.get("results", [])
    ]
    if shown is not None:
        split = f"{shown['reference']['split']}, {shown['reference']['images']} images; {_protocol(shown)}"
        data = shown["reference"]["data"]
        rows += [(_full_name(figure), figure["value"], data, split) for figure in shown["figures"]]
    card.data.eval_results = [
        EvalResult(
            task_type=card.data.pipeline_tag,
            dataset_type="local" if is_local(data) else data,
            dataset_name=data,
            dataset_split=split,
            metric_type=name,
            metric_value=float(f"{value:.6g}"),
            metric_name=name,
        )
        for name, value, data, split in rows
    ] or None
    card.data.metrics = sorted({name for name, *_ in rows}) or None
    quality = _evaluation(shown, metrics.get("reported", {})) if shown else _not_evaluated(card.data.pipeline_tag)
    compared = [one for one in metrics.get("evaluations", []) if one["reference"] == (shown or one)["reference"]]
    others = [one for one in compared if one is not shown]
    card.text = before + "\n".join([BEGIN, "", *_results(metrics), *quality, *_others(others), "", END]) + after
    return str(card)


def with_figure(text: str, file: str) -> str:
    """Returns the card `text` with the picture `file`, which lies beside it, among those between its two marks;
    unchanged in a card without these."""
    before, mark, rest = text.partition(FIGURES_BEGIN)
    inside, end, after = rest.partition(FIGURES_END)
    if not (mark and end):
        return text
    files = sorted({file, *re.findall(r"\]\((.+?)\)", inside)})
    shown = [line for one in files for line in (f"![{one.rpartition('.')[0]}]({one})", "")]
    return before + "\n".join([FIGURES_BEGIN, "", "## Figures", "", *shown, FIGURES_END]) + after


def to_show(metrics: dict) -> dict | None:
    """Returns the evaluation that a card shows in full: the newest that follows the protocol, else the newest."""
    evaluations = metrics.get("evaluations", [])
    complete = [one for one in evaluations if one["complete"]]
    return (complete or evaluations or [None])[-1]


def _protocol(found: dict) -> str:
    return found["protocol"] + ("" if found["complete"] else ", reduced")


def _full_name(figure: dict) -> str:
    return f"{figure['name']} ({figure['space']})" if figure["space"] else figure["name"]


def _results(metrics: dict) -> list[str]:
    if not metrics.get("results"):
        return ["No held-out images were set aside, so no loss was measured."]
    reported = metrics.get("reported", {})
    rows = [
        f"| {row['name']} | {row['value']:.5f} | {reported.get(row['name'], '')} | {row['images']:,} images of "
        f"{row['split']}, the same random numbers every time, {row['seeds']} run |"
        for row in metrics["results"]
    ]
    return ["| figure | value | reported by the source, on its data | how measured |", "|---|---|---|---|", *rows]


def _not_evaluated(task: str) -> list[str]:
    if task == "image-classification":
        return []
    if task == "image-feature-extraction":
        return ["", "How well it copies test images has not been measured: `genhub evaluate` does that."]
    return [
        "",
        "The quality of what it makes has not been measured, and whether training images were memorised has not been "
        "examined: `genhub evaluate` does both.",
    ]


def _evaluation(found: dict, reported: dict) -> list[str]:
    """Returns the part of a card about one evaluation."""
    samples, reference = found["samples"], found["reference"]
    of = f"the {reference['images']:,} images of {reference['split']} of `{reference['data']}`"
    if samples:
        sampler = f"{samples['steps']} steps of {samples['sampler']}" if samples["sampler"] else None
        guidance = f"guidance {samples['guidance_scale']}" if samples["guidance_scale"] is not None else None
        how = [f"{samples['images']:,} images", sampler, guidance, samples["dtype"], f"seed {samples['seed']}"]
        of = ", ".join(filter(None, how)) + ", against " + of
    lines = [
        "",
        f"### Quality, protocol {_protocol(found)}",
        "",
        f"{of[0].upper()}{of[1:]}; measured on {found['date']}.",
    ]
    if not found["complete"]:
        lines.append(
            "The number of images, the real images, the feature net or the arithmetic is not the protocol's: "
            "these figures are not to be compared with those that follow it, nor with those of other numbers."
        )
    lines += ["", "| figure | value | spread |", "|---|---|---|"]
    for figure in found["figures"]:
        spread = f"{figure['spread']:.2g}, {figure['spread_is']}" if figure["spread"] is not None else ""
        name = _full_name(figure)
        beside = f" ({reported[name]:g} reported by the source)" if name in reported else ""
        shown = name.replace("|", r"\|")  # of a conditional probability, not of the table
        lines.append(f"| {shown} | {figure['value']:.4g}{beside} | {spread} |")
    if (accuracy := found.get("feature_net_accuracy")) is not None:
        lines += ["", f"The classifier of `clf` names {accuracy:.2%} of the test images right."]
    return lines + (_samples_evaluated(found) if samples else [])


def _others(evaluations: list[dict]) -> list[str]:
    """Returns a table of the evaluations with other settings."""
    rows = []
    for one in evaluations:
        if samples := one["samples"]:
            distance, kernel = (
                next(f for f in one["figures"] if f["name"].startswith(name) and f["space"] == "clf")
                for name in ("FD", "KID")
            )
            rows.append(
                f"| {samples['images']:,} | {samples['sampler'] or ''} | {samples['steps'] or ''} "
                f"| {samples['seed']} | {distance['value']:.4g} | {kernel['value']:.4g} |"
            )
    if not rows:
        return []
    head = [
        "| images | sampler | steps | seed | FD (clf) | KID x 1000 (clf) |",
        "|---|---|---|---|---|---|",
    ]
    return ["", "Evaluations with other settings:", "", *head, *rows]


def _samples_evaluated(found: dict) -> list[str]:
    """Returns what a card says of generated images only: smoothness, speed, memorisation."""
    lines = []
    density = next(f["value"] for f in found["figures"] if (f["name"], f["space"]) == ("density", "clf"))
    if density > TOO_SMOOTH:
        lines += ["", f"The density of {density:.2f} is no win: samples are smoother than real images."]
    named = {key.replace("images_per_second_", "images/s, ").replace("_", " "): v for key, v in found["speed"].items()}
    speed = [f"| {name} | {value:,} |" for name, value in named.items() if value]
    hardware = found["hardware"]
    lines += [
        "",
        f"| each of {hardware['processes']} process(es), {hardware['threads']} thread(s) on {hardware['device']} | |",
        "|---|---|",
        *speed,
    ]
    if not found["memorisation"]:
        return [*lines, "", "Whether training images were memorised has not been examined: they were not at hand."]
    lines += [
        "",
        "### Memorisation",
        "",
        "![the closest pairs](closest.png)",
        "",
        "*The generated images that are nearest to a training image in their pixels, each above that image.*",
        "",
        "| distance in | nearer than 99 % of test images (1 % expected) "
        "| nearer than the training image's own nearest (of test images) | equal images |",
        "|---|---|---|---|",
    ]
    for space, report in found["memorisation"].items():
        duplicates = "" if report["duplicates"] is None else report["duplicates"]
        lines.append(
            f"| {space} | {report['near']:.2%}{' **suspect**' if report['suspect'] else ''} | "
            f"{report['copies']:.2%} ({report['test_copies']:.2%}) | {duplicates} |"
        )
    return lines


def is_local(source: str) -> bool:
    """Whether `data.source` is no data set of the Hub."""
    return source == "sample" or source.startswith((".", "/", "~")) or source.count("/") != 1
