"""The model card: written from what a run was and measured, nothing else."""

import json
import re
import shlex

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from genhub.hub import is_conditional
from genhub.training.recipe import Recipe

BEGIN, END = "<!-- results -->", "<!-- /results -->"  # what is between is renewed by every evaluation
FIGURES_BEGIN, FIGURES_END = "<!-- figures -->", "<!-- /figures -->"  # and here by every figure
TOO_SMOOTH = 1.3  # density above which samples are called too smooth (protocol, section 8.4)


def write(recipe: Recipe, pipeline, metrics: dict) -> str:
    """Returns the card of a trained pipeline as Markdown with YAML metadata; it parses back with `ModelCard`."""
    precision = recipe.training.mixed_precision
    training, hardware, versions = metrics["training"], metrics["hardware"], metrics["versions"]
    source, task = recipe.data.source, getattr(pipeline, "pipeline_tag", "unconditional-image-generation")
    hub_data = None if _is_local(source) else [source]
    header = ModelCardData(
        license="apache-2.0",
        library_name="diffusers",
        pipeline_tag=task,
        tags=["genhub", recipe.name, task.removeprefix("unconditional-")],
        datasets=["zalando-datasets/fashion_mnist"] if source == "sample" else hub_data,
        model_name=f"genhub {recipe.name}",
    )
    plain = pipeline.to_diffusers()
    sampling = metrics.get("sampling")
    call = "images = pipe(batch_size=16" + (", class_labels=[0] * 16" if is_conditional(pipeline) else "") + ").images"
    if not sampling:
        call = "labels = pipe(image).labels  # `image`: a PIL image, or a list of them"
    call = getattr(pipeline, "example", call)
    steps = pipeline.config.get("num_inference_steps")
    if plain is not None:
        load, trust = type(plain).__name__, ""
        plain_call = f"images = pipe(batch_size=16, num_inference_steps={steps}).images"
    else:
        load, trust, plain_call = "DiffusionPipeline", ", trust_remote_code=True", call
    classes = ", ".join(f"`{type(part).__name__}`" for part in pipeline.components.values())
    parameters = ", ".join(f"{name} {count:,}" for name, count in training["parameters"].items())
    seen = training["images"] / training["train_images"]
    lines = [
        f"# {recipe.name}",
        "",
        *(line.lstrip("# ").rstrip() for line in recipe.comment.splitlines()),
        "",
        f"{'An' if task == 'image-feature-extraction' else 'A'} `{type(pipeline).__name__}` of {classes} "
        f"({parameters} parameters), trained and saved by "
        f"[genhub](https://pypi.org/project/genhub) {versions['genhub']}.",
        "",
        *(_samples(sampling, steps) if sampling else []),
        "## Use",
        "",
        "With genhub (no code of the repository is run):",
        "",
        "```python",
        "import genhub",
        "",
        'pipe = genhub.AutoPipeline.from_pretrained("path/or/user/name")',
        call,
        "```",
        "",
        "With diffusers alone"
        + (" (the repository carries the source of its classes):" if trust else ", whose own classes these are:"),
        "",
        "```python",
        f"from diffusers import {load}",
        "",
        f'pipe = {load}.from_pretrained("path/or/user/name"{trust})',
        plain_call,
        "```",
        "",
        "## Training",
        "",
        "```bash",
        *_commands(recipe, hardware["processes"]),
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| data | `{source}`, {training['train_images']:,} training images |",
        f"| seed | {training['seed']} |",
        f"| steps | {training['steps']:,} of {recipe.training.batch_size} images: "
        f"{training['images']:,} images, {seen:.1f} epochs |",
        f"| time | {training['seconds'] / 60:.1f} minutes, {training['images_per_second']} images/s |",
        f"| hardware | {hardware['device']}, {hardware['processes']} process(es) of {hardware['threads']} thread(s) |",
        f"| arithmetic | {'float32' if precision == 'no' else precision} |",
        "| versions | " + ", ".join(f"{name} {version}" for name, version in versions.items()) + " |",
        "",
        "## Results",
        "",
        BEGIN,
        END,
        "",
        FIGURES_BEGIN,
        FIGURES_END,
        "",
        "## Limits",
        "",
        f"{_kind(pipeline)} like those of the training set, and nothing else. One training run with one seed.",
        "",
        "## Sources",
        "",
        "The first lines of this card name the experiment and its papers. Fashion MNIST: Xiao, Rasul & Vollgraf "
        "(2017), arXiv 1708.07747, MIT."
        if "fashion" in source or source == "sample"
        else "The first lines of this card name the experiment and its papers.",
        "",
    ]
    text = f"---\n{header.to_yaml()}\n---\n\n" + "\n".join(lines)
    return with_results(text, metrics)


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
            dataset_type="local" if _is_local(data) else data,
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
        lines.append(f"| {name} | {figure['value']:.4g}{beside} | {spread} |")
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
                f"| {samples['seed']} | `{one['reference']['data']}` "
                f"| {distance['value']:.4g} | {kernel['value']:.4g} |"
            )
    if not rows:
        return []
    head = [
        "| images | sampler | steps | seed | against | FD (clf) | KID x 1000 (clf) |",
        "|---|---|---|---|---|---|---|",
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


def _commands(recipe: Recipe, processes: int) -> list[str]:
    """Returns what trains this model again: the command that was given, with its overrides, and that for the file."""
    launch = "genhub train" if processes == 1 else f"accelerate launch --num_processes {processes} scripts/train.py"
    again = f"{launch} recipe.yaml  # the file beside this card"
    if not recipe.is_published:
        return [again]
    options = [f"--{key} {shlex.quote(json.dumps(value).strip(chr(34)))}" for key, value in recipe.overrides.items()]
    return [" ".join([launch, recipe.name, *options]), again]


def _samples(sampling: dict, steps: int | None) -> list[str]:
    if count := sampling.get("reconstructions"):
        return [
            "![held-out images above their reconstructions](samples.png)",
            "",
            f"The first {count} held-out images, each row above its reconstructions; not selected.",
            "",
        ]
    how = f", {steps} steps each, {sampling['seconds']} s in all." if steps else "."
    return [
        "![samples, not selected](samples.png)",
        "",
        f"{sampling['images']} samples of one fixed seed, not selected{how}",
        "",
    ]


def _kind(pipeline) -> str:
    if not pipeline.config.get("clip_sample", True):
        return "Points"
    for part in pipeline.components.values():
        if (size := part.config.get("sample_size")) is not None:
            height, width = (size, size) if isinstance(size, int) else size
            return f"Images of {width}x{height} pixels"
    return "Images"


def _is_local(source: str) -> bool:
    return source == "sample" or source.startswith((".", "/", "~")) or source.count("/") != 1
