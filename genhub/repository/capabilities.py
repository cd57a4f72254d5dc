"""What a pipeline can do, as its class declares it.

A pipeline class declares `tasks`, and where they differ from the defaults of `Capabilities`, `inputs`, `output` and
`sampling_arguments`. These are read as attributes, so a compiled or wrapped `__call__` is no obstacle. Diffusers' own
pipelines declare nothing: `DIFFUSERS` does it for the ones that we know.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class Capabilities:
    """What a pipeline can do.

    Args:
        tasks: "generate" and "classify" are calls of the pipeline; any other one, such as "reconstruct", "encode" or
            "interpolate", is its method of that name.
        inputs: what a call takes beside the number of images: "class_labels", "prompt", "image".
        output: kind of data that a call returns: "images", "points" or "labels".
        sampling_arguments: further arguments of a call, such as `num_inference_steps`.
        num_classes: number of real classes, without the null class; None if unconditional.
        has_null_class: whether the network also has a class that stands for no class.
    """

    tasks: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()
    output: str = "images"
    sampling_arguments: frozenset[str] = frozenset()
    num_classes: int | None = None
    has_null_class: bool = False

    def can(self, task: str) -> bool:
        """Returns whether the pipeline performs `task`."""
        return task in self.tasks


DIFFUSERS = {
    "DDIMPipeline": Capabilities(
        tasks=frozenset({"generate"}), sampling_arguments=frozenset({"eta", "num_inference_steps"})
    ),
    "DDPMPipeline": Capabilities(tasks=frozenset({"generate"}), sampling_arguments=frozenset({"num_inference_steps"})),
    "StableDiffusionPipeline": Capabilities(
        tasks=frozenset({"generate"}),
        inputs=frozenset({"prompt"}),
        sampling_arguments=frozenset(
            {"eta", "guidance_scale", "height", "negative_prompt", "num_inference_steps", "timesteps", "width"}
        ),
    ),
}


def capabilities_of(pipeline: DiffusionPipeline | type[DiffusionPipeline]) -> Capabilities:
    """Returns the capabilities of a pipeline or, without what depends on its components, of a pipeline class."""
    declared = declared_capabilities(pipeline)
    if isinstance(pipeline, type) or "class_labels" not in declared.inputs:
        return declared
    num_classes, has_null_class = classes_of(pipeline)
    inputs = declared.inputs if num_classes else declared.inputs - {"class_labels"}
    return dataclasses.replace(declared, inputs=inputs, num_classes=num_classes, has_null_class=has_null_class)


def declared_capabilities(pipeline: DiffusionPipeline | type[DiffusionPipeline]) -> Capabilities:
    """Returns what a pipeline declares by its attributes or, for diffusers' own classes, what `DIFFUSERS` does."""
    tasks = getattr(pipeline, "tasks", None)
    if tasks is not None:
        output = getattr(pipeline, "output", "images")
        return Capabilities(
            tasks=frozenset(tasks),
            inputs=frozenset(getattr(pipeline, "inputs", ())),
            output=output if isinstance(output, str) else "images",  # of a class, a property depends on its config
            sampling_arguments=frozenset(getattr(pipeline, "sampling_arguments", ())),
        )
    for cls in (pipeline if isinstance(pipeline, type) else type(pipeline)).__mro__:
        if cls.__module__.startswith("diffusers.") and cls.__name__ in DIFFUSERS:
            return DIFFUSERS[cls.__name__]
    return Capabilities()


def classes_of(pipeline: DiffusionPipeline) -> tuple[int | None, bool]:
    """Returns the number of real classes, None if unconditional, and whether the network has a null class too."""
    configs = [getattr(part, "config", None) for part in pipeline.components.values()]  # a tokenizer has none
    embeds = [
        config["num_class_embeds"] for config in configs if isinstance(config, dict) and "num_class_embeds" in config
    ]
    num_embeds = max((count or 0 for count in embeds), default=0)
    num_classes = pipeline.config.get("num_classes") or num_embeds
    return num_classes or None, num_embeds > num_classes


def call_arguments(
    pipeline: DiffusionPipeline, count: int, labels: Sequence[int] | None = None, prompts: Sequence[str] | None = None
) -> dict[str, Any]:
    """Returns the arguments of a call that generates `count` images, of the given classes or prompts if any.

    Without prompts, a pipeline that needs them gets empty ones.
    """
    if "prompt" in capabilities_of(pipeline).inputs:
        return {"prompt": [""] * count if prompts is None else list(prompts)}
    if labels is None:
        return {"batch_size": count}
    return {"batch_size": count, "class_labels": list(labels)}


def is_conditional(pipeline: DiffusionPipeline) -> bool:
    """Returns whether a pipeline generates images of a given class."""
    return capabilities_of(pipeline).num_classes is not None
