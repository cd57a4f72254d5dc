"""What a pipeline can do."""

import inspect
from collections.abc import Iterable

from diffusers import DiffusionPipeline


def generates(pipeline: DiffusionPipeline) -> bool:
    """Whether a pipeline makes images of nothing: it is called with how many, and in which form."""
    return {"batch_size", "output_type"} <= inspect.signature(pipeline.__call__).parameters.keys()


def is_conditional(pipeline: DiffusionPipeline) -> bool:
    """Whether a pipeline is asked for images of classes."""
    return num_classes(pipeline.components.values()) > 0


def num_classes(parts: Iterable) -> int:
    """Returns how many classes the parts of a pipeline know, one that stands for none among them; 0 for no classes."""
    return max(part.config.get("num_class_embeds") or 0 for part in parts)
