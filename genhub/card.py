"""The model card: written from what a run was and measured, nothing else."""

import json
import shlex

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from genhub.training.recipe import Recipe


def write(recipe: Recipe, pipeline, metrics: dict) -> str:
    """Returns the card of a trained pipeline as Markdown with YAML metadata; it parses back with `ModelCard`."""
    precision = recipe.training.mixed_precision
    training, hardware, versions = metrics["training"], metrics["hardware"], metrics["versions"]
    source = recipe.data.source
    hub_data = None if _is_local(source) else [source]
    results = [
        EvalResult(
            task_type="unconditional-image-generation",
            dataset_type=source if hub_data else "local",
            dataset_name=source,
            dataset_split=f"{row['split']}, {row['images']} images",
            metric_type=row["name"],
            metric_value=round(row["value"], 6),
            metric_name=row["name"],
        )
        for row in metrics["results"]
    ]
    header = ModelCardData(
        license="apache-2.0",
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",
        tags=["genhub", recipe.name, "image-generation"],
        datasets=["zalando-datasets/fashion_mnist"] if source == "sample" else hub_data,
        metrics=sorted({row["name"] for row in metrics["results"]}) or None,
        model_name=f"genhub {recipe.name}",
        eval_results=results or None,
    )
    plain = pipeline.to_diffusers()
    call = "pipe(batch_size=16" + (", class_labels=[0] * 16" if _is_conditional(pipeline) else "") + ")"
    steps = pipeline.config.get("num_inference_steps")
    if plain is not None:
        load, trust = type(plain).__name__, ""
        plain_call = f"pipe(batch_size=16, num_inference_steps={steps})"
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
        f"A `{type(pipeline).__name__}` of {classes} ({parameters} parameters), trained and saved by "
        f"[genhub](https://pypi.org/project/genhub) {versions['genhub']}.",
        "",
        "![64 samples, not selected](samples.png)",
        "",
        f"{metrics['sampling']['images']} samples of one fixed seed, not selected"
        + (f", {steps} steps each, {metrics['sampling']['seconds']} s in all." if steps else "."),
        "",
        "## Use",
        "",
        "With genhub (no code of the repository is run):",
        "",
        "```python",
        "import genhub",
        "",
        'pipe = genhub.AutoPipeline.from_pretrained("path/or/user/name")',
        f"images = {call}.images",
        "```",
        "",
        "With diffusers alone"
        + (" (the repository carries the source of its classes):" if trust else ", whose own classes these are:"),
        "",
        "```python",
        f"from diffusers import {load}",
        "",
        f'pipe = {load}.from_pretrained("path/or/user/name"{trust})',
        f"images = {plain_call}.images",
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
        *_results_table(metrics),
        "",
        "## Limits",
        "",
        f"Images of {_size(pipeline)} pixels like those of the training set, and nothing else. One training run with "
        "one seed. The quality of the samples has not been measured, only what the table says; whether training "
        "images were memorised has not been examined.",
        "",
        "## Sources",
        "",
        "The first lines of this card name the experiment and its papers. Fashion MNIST: Xiao, Rasul & Vollgraf "
        "(2017), arXiv 1708.07747, MIT."
        if "fashion" in source or source == "sample"
        else "The first lines of this card name the experiment and its papers.",
        "",
    ]
    return str(ModelCard(f"---\n{header.to_yaml()}\n---\n\n" + "\n".join(lines)))


def _commands(recipe: Recipe, processes: int) -> list[str]:
    """Returns what trains this model again: the command that was given, with its overrides, and that for the file."""
    launch = "genhub train" if processes == 1 else f"accelerate launch --num_processes {processes} scripts/train.py"
    again = f"{launch} recipe.yaml  # the file beside this card"
    if not recipe.is_published:
        return [again]
    options = [f"--{key} {shlex.quote(json.dumps(value).strip(chr(34)))}" for key, value in recipe.overrides.items()]
    return [" ".join([launch, recipe.name, *options]), again]


def _results_table(metrics: dict) -> list[str]:
    if not metrics["results"]:
        return ["No held-out images were set aside, so nothing was measured."]
    rows = [
        f"| {row['name']} | {row['value']:.5f} | {row['images']:,} images of {row['split']}, "
        f"the same random numbers every time, {row['seeds']} run |"
        for row in metrics["results"]
    ]
    return ["| figure | value | how measured |", "|---|---|---|", *rows]


def _size(pipeline) -> str:
    for part in pipeline.components.values():
        if (size := part.config.get("sample_size")) is not None:
            height, width = (size, size) if isinstance(size, int) else size
            return f"{width}x{height}"
    return "the training images'"


def _is_conditional(pipeline) -> bool:
    return any(part.config.get("num_class_embeds") for part in pipeline.components.values())


def _is_local(source: str) -> bool:
    return source == "sample" or source.startswith((".", "/", "~")) or source.count("/") != 1
