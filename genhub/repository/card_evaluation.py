"""The section of a model card on one evaluation: quality, speed, memorisation."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

TOO_SMOOTH = 1.3  # density above which samples are smoother than real images (protocol, section 8.4)


def quality(evaluation: dict[str, Any], reported: dict[str, float]) -> list[str]:
    """Returns the lines of the section on one evaluation."""
    conditions = _conditions(evaluation)
    lines = [
        "",
        f"### Quality, protocol {protocol_of(evaluation)}",
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
        lines += [*_effective_ranks(evaluation), *_smoothness(evaluation), *_speed(evaluation)]
        lines += _memorisation(evaluation.get("memorisation"))
    return lines


def _conditions(evaluation: dict[str, Any]) -> str:
    """Returns which images were measured, and against which."""
    samples, reference = evaluation["samples"], evaluation["reference"]
    real = f"the {reference['images']:,} images of {reference['split']} of `{reference['data']}`"
    if not samples:
        return real
    if "sampler" not in samples:
        return f"{samples['images']:,} images that were already there, against {real}"
    sampler = f"{samples.get('steps')} steps of {samples['sampler']}" if samples["sampler"] else None
    parts = [
        f"{samples['images']:,} images",
        sampler,
        guidance_of(samples),
        samples.get("dtype"),
        f"seed {samples.get('seed')}",
    ]
    return f"{', '.join(filter(None, parts))}, against {real}"


def guidance_of(samples: dict[str, Any]) -> str | None:
    """Returns how the images of an evaluation were guided, if their pipeline can be."""
    if samples.get("guidance_scale") is None:
        return None
    start, stop = samples.get("guidance_interval", (0, 1))  # recorded if not everywhere
    where = "" if (start, stop) == (0, 1) else f" from {start:g} to {stop:g} of the steps"
    kind = "autoguidance" if samples.get("autoguidance") else "guidance"
    return f"{kind} {samples['guidance_scale']:g}{where}"


def _metric_row(metric: dict[str, Any], reported: dict[str, float]) -> tuple[str, str, str]:
    """Returns name, value and spread of a metric."""
    name, value, spread = full_name(metric), f"{metric['value']:.4g}", ""
    if name in reported:
        value += f" ({reported[name]:g} reported by the source)"
    if metric["spread"] is not None:
        spread = f"{metric['spread']:.2g}, {metric['spread_is']}"
    return name.replace("|", r"\|"), value, spread  # the bar of a conditional probability is not the table's


def _effective_ranks(evaluation: dict[str, Any]) -> list[str]:
    """Returns how many directions the features of the real images vary in."""
    ranks = evaluation.get("effective_rank")  # of evaluations since it is measured
    if ranks is None:
        return []
    return ["", f"Effective rank of the real images' features: {', '.join(f'{ranks[s]:.1f} ({s})' for s in ranks)}."]


def _smoothness(evaluation: dict[str, Any]) -> list[str]:
    """Returns a warning if the samples are smoother than real images."""
    density = value_of(evaluation, "density")
    if not density > TOO_SMOOTH:
        return []
    return ["", f"The density of {density:.2f} is no win: samples are smoother than real images."]


def _speed(evaluation: dict[str, Any]) -> list[str]:
    """Returns the table of what an image costs, if any was generated."""
    if "speed" not in evaluation:
        return []
    hardware = evaluation["hardware"]
    rows = [
        (key.replace("images_per_second_", "images/s, ").replace("_", " "), f"{value:,}")
        for key, value in evaluation["speed"].items()
        if value
    ]
    head = f"each of {hardware['processes']} process(es), {hardware['threads']} thread(s) on {hardware['device']}"
    return ["", f"| {head} | |", *table(["", ""], rows)[1:]]


def _memorisation(memorisation: dict[str, Any] | None) -> list[str]:
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


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def value_of(evaluation: dict[str, Any], prefix: str) -> float:
    """Returns the first metric in classifier features whose name begins with `prefix`, NaN if there is none."""
    metrics = (metric for metric in evaluation["figures"] if metric["space"] == "clf")
    return next((metric["value"] for metric in metrics if metric["name"].startswith(prefix)), math.nan)


def protocol_of(evaluation: dict[str, Any]) -> str:
    return evaluation["protocol"] if evaluation["complete"] else f"{evaluation['protocol']}, reduced"


def full_name(metric: dict[str, Any]) -> str:
    return f"{metric['name']} ({metric['space']})" if metric["space"] else metric["name"]


def value_and_spread(metric: dict[str, Any]) -> str:
    """Returns "value ± spread" of a metric, or its value."""
    spread = "" if metric["spread"] is None else f" ± {metric['spread']:.2g}"
    return f"{metric['value']:.4g}{spread}"
