"""What a pipeline can do, as its class declares it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diffusers import DiffusionPipeline

DIFFUSERS = {  # declarations for diffusers' own pipelines, by class name
    "DDPMPipeline": {"sampling_arguments": ("num_inference_steps",)},
    "DDIMPipeline": {"sampling_arguments": ("eta", "num_inference_steps")},
    "StableDiffusionPipeline": {
        "inputs": ("prompt",),
        "sampling_arguments": ("eta", "guidance_scale", "height", "negative_prompt", "num_inference_steps", "width"),
    },
}


@dataclass(frozen=True)
class Capabilities:
    """What a pipeline can do.

    Args:
        tasks: verbs such as "generate", "reconstruct", "encode", "interpolate", "classify".
        inputs: inputs of a call beside the number of images: "class_labels", "prompt", "image".
        output: "images", "points" or "labels".
        sampling_arguments: further arguments of a call, such as `num_inference_steps`.
        num_classes: number of classes that can be asked for, without the null class; None if unconditional.
        has_null_class: whether the network also knows an extra class that stands for no class.
    """

    tasks: frozenset[str]
    inputs: frozenset[str] = frozenset()
    output: str = "images"
    sampling_arguments: frozenset[str] = frozenset()
    num_classes: int | None = None
    has_null_class: bool = False

    def can(self, task: str) -> bool:
        """Returns whether the pipeline performs `task`."""
        return task in self.tasks


def capabilities_of(pipeline: DiffusionPipeline | type[DiffusionPipeline]) -> Capabilities:
    """Returns the capabilities of a pipeline; those of a class lack what depends on its components."""
    cls = pipeline if isinstance(pipeline, type) else type(pipeline)
    declared: Any = DIFFUSERS.get(cls.__name__) if cls.__module__.startswith("diffusers.") else vars_of(pipeline)
    if declared is None:
        return Capabilities(frozenset())
    num_classes, has_null_class = (None, False) if isinstance(pipeline, type) else classes_of(pipeline)
    inputs = set(declared.get("inputs", ())) - (set() if num_classes or cls is pipeline else {"class_labels"})
    return Capabilities(
        tasks=frozenset(declared.get("tasks", ("generate",))),
        inputs=frozenset(inputs),
        output=declared.get("output", "images"),
        sampling_arguments=frozenset(declared.get("sampling_arguments", ())),
        num_classes=num_classes,
        has_null_class=has_null_class,
    )


def vars_of(pipeline: DiffusionPipeline | type[DiffusionPipeline]) -> dict[str, Any] | None:
    """Returns the declarations of a pipeline's class, None if it declares nothing."""
    if not hasattr(pipeline, "tasks"):
        return None
    names = ("tasks", "inputs", "output", "sampling_arguments")
    return {name: getattr(pipeline, name) for name in names if hasattr(pipeline, name)}


def classes_of(pipeline: DiffusionPipeline) -> tuple[int | None, bool]:
    """Returns how many classes a pipeline can be asked for, and whether its network has a null class too."""
    configs = [part.config for part in pipeline.components.values() if hasattr(part, "config")]
    known = max((config.get("num_class_embeds") or 0 for config in configs if hasattr(config, "get")), default=0)
    num_classes = pipeline.config.get("num_classes") or known
    return num_classes or None, known > num_classes


def call_arguments(
    pipeline: DiffusionPipeline, count: int, labels: Sequence[int] | None = None, prompts: Sequence[str] | None = None
) -> dict[str, Any]:
    """Returns the arguments by which `pipeline` is asked for `count` images, of the classes or prompts if given."""
    if "prompt" in capabilities_of(pipeline).inputs:
        return {"prompt": list(prompts) if prompts is not None else [""] * count}
    return {"batch_size": count} | ({} if labels is None else {"class_labels": list(labels)})


def generates(pipeline: DiffusionPipeline | type[DiffusionPipeline]) -> bool:
    """Returns whether a pipeline generates images from noise."""
    return capabilities_of(pipeline).can("generate")


def is_conditional(pipeline: DiffusionPipeline) -> bool:
    """Returns whether a pipeline can be asked for images of a class."""
    return capabilities_of(pipeline).num_classes is not None
