"""What a pipeline can do, as its class declares it.

A pipeline class declares `tasks`, and where they differ from the defaults of `Capabilities`, `inputs`, `output` and
`sampling_arguments`. These are read as attributes, so a compiled or wrapped `__call__` is no obstacle. Diffusers' own
pipelines declare nothing: `DIFFUSERS` does it for the ones that we know, and the signature of their call for others
that take a number of images or classes.
"""

import dataclasses
import inspect
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
        inputs: what a call takes beside the number of images: "class_labels", "prompt", "image", "mask_image".
        output: kind of data that a call returns: "images", "points" or "labels".
        sampling_arguments: further arguments of a call, such as `num_inference_steps`.
        num_classes: number of real classes, without the null class; None if unconditional.
        has_null_class: whether the network also has a class that stands for no class.
        takes_batch_size: whether a call takes the number of images; otherwise it is that of the labels or prompts.
    """

    tasks: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()
    output: str = "images"
    sampling_arguments: frozenset[str] = frozenset()
    num_classes: int | None = None
    has_null_class: bool = False
    takes_batch_size: bool = True

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
        takes_batch_size=False,
        sampling_arguments=frozenset({"eta", "guidance_scale", "height", "num_inference_steps", "timesteps", "width"}),
    ),
}
NOT_SAMPLING = {"self", "batch_size", "class_labels", "generator", "output_type", "return_dict"}
NOT_SAMPLING |= {"callback", "callback_steps", "latents"}


def capabilities_of(pipeline: DiffusionPipeline | type[DiffusionPipeline]) -> Capabilities:
    """Returns the capabilities of a pipeline or, without what depends on its components, of a pipeline class."""
    declared = declared_capabilities(pipeline)
    if isinstance(pipeline, type) or "class_labels" not in declared.inputs:
        return declared
    num_classes, has_null_class = classes_of(pipeline)
    inputs = declared.inputs if num_classes else declared.inputs - {"class_labels"}
    return dataclasses.replace(declared, inputs=inputs, num_classes=num_classes, has_null_class=has_null_class)


def declared_capabilities(pipeline: DiffusionPipeline | type[DiffusionPipeline]) -> Capabilities:
    """Returns what a pipeline declares by its attributes or, for diffusers' own classes, what `DIFFUSERS` or the
    signature of their call does."""
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
        if cls.__module__.startswith("diffusers.") and "__call__" in vars(cls):
            return _read_signature(cls)
    return Capabilities()


def _read_signature(cls: type[DiffusionPipeline]) -> Capabilities:
    """Returns what the call of a class of diffusers takes: it generates if it needs a number of images or classes and
    nothing else."""
    parameters = inspect.signature(cls.__call__).parameters
    required = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    required -= {"self", "batch_size", "class_labels", "kwargs"}
    conditions = {"image", "prompt", "output_type"} & parameters.keys()
    if required or conditions != {"output_type"} or not {"batch_size", "class_labels"} & parameters.keys():
        return Capabilities()
    return Capabilities(
        tasks=frozenset({"generate"}),
        inputs=frozenset({"class_labels"} & parameters.keys()),
        sampling_arguments=frozenset(parameters.keys() - NOT_SAMPLING - {"kwargs"}),
        takes_batch_size="batch_size" in parameters,
    )


def classes_of(pipeline: DiffusionPipeline) -> tuple[int | None, bool]:
    """Returns the number of real classes, None if unconditional, and whether the network has a null class too."""
    configs = [getattr(part, "config", None) for part in pipeline.components.values()]  # a tokenizer has none
    names = ("num_class_embeds", "num_embeds_ada_norm")  # of a U-Net or a GAN; of a diffusion transformer
    embeds = [config.get(name) or 0 for config in configs if isinstance(config, dict) for name in names]
    num_embeds = max(embeds, default=0)
    num_classes = pipeline.config.get("num_classes") or num_embeds
    return num_classes or None, num_embeds > num_classes


def call_arguments(
    pipeline: DiffusionPipeline, count: int, labels: Sequence[int] | None = None, prompts: Sequence[str] | None = None
) -> dict[str, Any]:
    """Returns the arguments of a call that generates `count` images, of the given classes or prompts if any, with
    those that its repository records for calls that name none.

    Without prompts, a pipeline that needs them gets empty ones. A prompt of all images is encoded once.
    """
    capabilities, call = capabilities_of(pipeline), default_arguments(pipeline)
    if "prompt" in capabilities.inputs:
        texts = [""] * count if prompts is None else list(prompts)
        if len({*texts}) == 1 and "num_images_per_prompt" in inspect.signature(type(pipeline).__call__).parameters:
            return call | {"prompt": texts[0], "num_images_per_prompt": count}
        return call | {"prompt": texts}
    if capabilities.takes_batch_size:
        call["batch_size"] = count
    return call if labels is None else call | {"class_labels": list(labels)}


def default_arguments(pipeline: DiffusionPipeline) -> dict[str, Any]:
    """Returns the arguments of calls that name none, of a pipeline whose config has no place for them."""
    return dict(getattr(pipeline, "default_arguments", {}))


def default_steps(pipeline: DiffusionPipeline) -> int | None:
    """Returns the number of sampling steps of a call that names none: that of the repository, or of the signature."""
    parameter = inspect.signature(type(pipeline).__call__).parameters.get("num_inference_steps")
    default = None if parameter is None else parameter.default
    recorded = default_arguments(pipeline).get("num_inference_steps")
    return recorded or pipeline.config.get("num_inference_steps") or default


def is_conditional(pipeline: DiffusionPipeline) -> bool:
    """Returns whether a pipeline generates images of a given class."""
    return capabilities_of(pipeline).num_classes is not None
