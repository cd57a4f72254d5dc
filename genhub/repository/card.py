"""The model card: what was trained, how, and how to use it, as Markdown with YAML metadata."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from huggingface_hub import ModelCard, ModelCardData

from genhub.repository.capabilities import capabilities_of, default_arguments
from genhub.repository.card_results import BEGIN, END, FIGURES_BEGIN, FIGURES_END, is_local, with_results
from genhub.repository.save import carries_source, saved_form
from genhub.version import VERSION

TEMPLATE = Path(__file__).with_name("card.md.jinja")
WRITTEN = ("model-index", "metrics", "datasets")  # metadata of genhub that a card may lack
AUTHOR_BEGIN, AUTHOR_END = "<!-- words of the author, kept by later writes -->", "<!-- /words -->"
FASHION_MNIST = "zalando-datasets/fashion_mnist"


@dataclass(frozen=True)
class Experiment:
    """What a card says about a run's recipe, beside what its metrics record.

    Args:
        description: what is trained, after which paper.
        planned_steps: number of training steps that the recipe asks for.
        images: what the training images are, such as "28x28, grey, 10 classes".
        notes: sentences about how they differ from their files.
        networks: name and code of each network that was built.
        planned_minutes: time that training took its schedules from, if it did.
        overrides: dotted key -> value, over a published recipe; None for a recipe that is not published.
    """

    description: str
    batch_size: int
    mixed_precision: str
    planned_steps: int
    images: str = ""
    notes: Sequence[str] = ()
    networks: Sequence[tuple[str, str]] = ()
    planned_minutes: float | None = None
    overrides: Mapping[str, Any] | None = None


def write(pipeline: DiffusionPipeline, metrics: dict[str, Any], experiment: Experiment, earlier: str = "") -> str:
    """Returns the card of a trained pipeline.

    Args:
        metrics: content of metrics.json.
        earlier: card of which the author's words are kept, and the fields of metadata that genhub does not write.
    """
    name, source, hardware, training = (metrics[key] for key in ("recipe", "data", "hardware", "training"))
    datasets = [FASHION_MNIST if source == "sample" else source]
    kept, words = ModelCard(earlier).data.to_dict() if earlier else {}, _between(earlier, AUTHOR_BEGIN, AUTHOR_END)
    header = _header(pipeline, name, datasets=None if is_local(datasets[0]) else datasets).to_dict()
    text = _render(
        pipeline,
        ModelCardData(**{key: value for key, value in kept.items() if key not in WRITTEN} | header),
        name=name,
        author=f"{AUTHOR_BEGIN}{words or chr(10)}{AUTHOR_END}",
        description=experiment.description,
        experiment=experiment,
        source=source,
        commands="\n".join(_commands(name, experiment.overrides, hardware["processes"])),
        parameters=", ".join(f"{key} {count:,}" for key, count in training["parameters"].items()),
        devices=_devices(training, hardware),
        kind=_kind(pipeline),
        results_marks=f"{BEGIN}\n{END}",
        figures_marks=f"{FIGURES_BEGIN}\n{FIGURES_END}",
        **{key: metrics.get(key) for key in ("training", "hardware", "sampling", "versions")},
    )
    return with_results(text, metrics)


def minimal(pipeline: DiffusionPipeline, repo_id: str) -> str:
    """Returns the card of a pipeline of which nothing is known but its classes."""
    name = repo_id.rpartition("/")[2]
    return _render(pipeline, _header(pipeline, name), name=name, description="A pipeline of genhub.")


def of_results(name: str) -> str:
    """Returns a page for the results of what genhub did not train: images, or another's pipeline."""
    header = ModelCardData(model_name=name, tags=["genhub"])
    return f"---\n{header.to_yaml()}\n---\n\n# {name}\n\nEvaluated by genhub {VERSION}.\n\n{BEGIN}\n{END}\n"


def _render(pipeline: DiffusionPipeline, header: ModelCardData, **fields: Any) -> str:
    """Fills in the template, with the fields that depend on nothing but the pipeline."""
    saved, call = saved_form(pipeline), _call(pipeline)
    steps = (dict(pipeline.config) | default_arguments(pipeline)).get("num_inference_steps")
    has_own_class = type(saved).__module__.partition(".")[0] == "genhub"
    parts = [part for part in pipeline.components.values() if part is not None]
    card = ModelCard.from_template(
        header,
        template_path=str(TEMPLATE),
        article="An" if type(pipeline).__name__[0] in "AEIOU" else "A",
        pipeline=type(pipeline).__name__,
        components=", ".join(f"`{type(part).__name__}`" for part in parts),
        version=VERSION,
        steps=steps,
        call=call,
        carries_source=carries_source(pipeline),
        loader="DiffusionPipeline" if has_own_class else type(saved).__name__,
        plain_call=call if saved is pipeline else f"images = pipe(batch_size=16, num_inference_steps={steps}).images",
        **fields,
    )
    return str(card)


def _header(pipeline: DiffusionPipeline, name: str, **fields: Any) -> ModelCardData:
    """Returns the metadata of the card."""
    is_prompted = "prompt" in capabilities_of(pipeline).inputs
    task = "text-to-image" if is_prompted else getattr(pipeline, "pipeline_tag", "unconditional-image-generation")
    tags = ["genhub", name, task.removeprefix("unconditional-")]
    return ModelCardData(library_name="diffusers", pipeline_tag=task, tags=tags, model_name=f"genhub {name}", **fields)


def _between(text: str, begin: str, end: str) -> str:
    """Returns what stands between two marks, "" where they are not."""
    inside, found, _ = text.partition(begin)[2].partition(end)
    return inside if found else ""


def _call(pipeline: DiffusionPipeline) -> str:
    """Returns code that uses the pipeline `pipe`."""
    example = getattr(pipeline, "example", None)
    if example is not None:
        return example
    capabilities = capabilities_of(pipeline)
    if "prompt" in capabilities.inputs:
        options = "".join(f", {name}={value!r}" for name, value in default_arguments(pipeline).items())
        prompt = getattr(pipeline, "example_prompt", "a prompt")
        return f"images = pipe({json.dumps(prompt, ensure_ascii=False)}, num_images_per_prompt=16{options}).images"
    labels = "" if capabilities.num_classes is None else ", class_labels=[0] * 16"
    return f"images = pipe(batch_size=16{labels}).images"


def _commands(name: str, overrides: Mapping[str, Any] | None, processes: int) -> list[str]:
    """Returns the commands that train this model again: by the recipe's name and by the file beside the card."""
    launch = "genhub train" if processes == 1 else f"accelerate launch --num_processes {processes} scripts/train.py"
    by_file = f"{launch} recipe.yaml  # the file beside this card"
    if overrides is None:
        return [by_file]
    options = [f"--{key} {shlex.quote(json.dumps(value).strip(chr(34)))}" for key, value in overrides.items()]
    return [" ".join([launch, name, *options]), by_file]


def _devices(training: Mapping[str, Any], hardware: Mapping[str, Any]) -> str:
    """Returns the devices that a run was on, with the steps on each if there were several."""
    steps_on = training.get("steps_on") or {hardware["device"]: training["steps"]}
    if len(steps_on) == 1:
        return next(iter(steps_on))
    return " and ".join(f"{name} ({steps:,} steps)" for name, steps in steps_on.items())


def _kind(pipeline: DiffusionPipeline) -> str:
    """Returns what the model's data are."""
    if capabilities_of(pipeline).output == "points":
        return "Points"
    configs = [getattr(part, "config", None) for part in pipeline.components.values()]  # a tokenizer has none
    known = [config for config in configs if isinstance(config, dict)]
    for config in sorted(known, key=lambda config: "latent_channels" not in config):  # not the size of latents
        if config.get("sample_size") is not None:
            size = config["sample_size"]
            height, width = (size, size) if isinstance(size, int) else size
            return f"Images of {width}x{height} pixels"
    return "Images"
