"""The model card: written from what a run was and measured, nothing else."""

import json
import shlex

from huggingface_hub import ModelCardData

from genhub.recipes.recipe import Recipe
from genhub.repository.capabilities import is_conditional
from genhub.repository.card_results import BEGIN, END, FIGURES_BEGIN, FIGURES_END, is_local, with_results


def write(recipe: Recipe, pipeline, metrics: dict) -> str:
    """Returns the card of a trained pipeline as Markdown with YAML metadata; it parses back with `ModelCard`."""
    precision = recipe.training.mixed_precision
    training, hardware, versions = metrics["training"], metrics["hardware"], metrics["versions"]
    source, task = recipe.data.source, getattr(pipeline, "pipeline_tag", "unconditional-image-generation")
    hub_data = None if is_local(source) else [source]
    header = ModelCardData(
        license="apache-2.0",
        library_name="diffusers",
        pipeline_tag=task,
        tags=["genhub", recipe.name, task.removeprefix("unconditional-")],
        datasets=["zalando-datasets/fashion_mnist"] if source == "sample" else hub_data,
        model_name=f"genhub {recipe.name}",
    )
    devices = training.get("steps_on") or {hardware["device"]: training["steps"]}
    devices = " and ".join(
        f"{name} ({steps:,} steps)" if len(devices) > 1 else name for name, steps in devices.items()
    )
    planned = sum(stage.training.steps(training["train_images"]) for stage in recipe.stages)
    early = f", stopped before the recipe's {planned:,}," if training["steps"] < planned else ""
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
        f"| steps | {training['steps']:,}{early} of {recipe.training.batch_size} images: "
        f"{training['images']:,} images, {seen:.1f} epochs |",
        f"| time | {training['seconds'] / 60:.1f} minutes, {training['images_per_second']} images/s |",
        f"| hardware | {devices}, {hardware['processes']} process(es) of {hardware['threads']} thread(s) |",
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
