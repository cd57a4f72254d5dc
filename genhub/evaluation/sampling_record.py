"""How images are sampled, as `metrics.json` stores it."""

import inspect
from typing import Any

from diffusers import DiffusionPipeline

from genhub.evaluation.sampling import Sampler
from genhub.repository.capabilities import capabilities_of, default_arguments, default_steps

EVERYWHERE = [0, 1]  # guidance in all steps


def sampling_record(sampler: Sampler, count: int, scheduler_arguments: dict[str, Any]) -> dict:
    """Returns how images are sampled, as `metrics.json` stores it; further arguments appear only if given."""
    pipeline = sampler.pipeline
    others = default_arguments(pipeline) | sampler.arguments
    has_guide = pipeline.components.get("guide") is not None
    guidance = others.pop("guidance_scale", _default_guidance(pipeline, has_guide))
    interval = [*(others.pop("guidance_interval", None) or pipeline.config.get("guidance_interval") or EVERYWHERE)]
    steps = others.pop("num_inference_steps", None) or default_steps(pipeline)
    if "timesteps" in others:
        steps = len(others["timesteps"])
    record = {
        "images": count,
        "seed": sampler.seed,
        "batch_size": sampler.batch_size,
        "classes": sampler.classes,
        "sampler": type(pipeline.scheduler).__name__ if "scheduler" in pipeline.components else None,
        "steps": steps,
        "guidance_scale": guidance,
        "dtype": str(pipeline.dtype).removeprefix("torch."),
    }
    prompts = None if sampler.captions is None else "captions of the test images"
    further = {
        "guidance_interval": None if guidance in (None, 1) or interval == EVERYWHERE else interval,
        "autoguidance": has_guide,
        "prompts": prompts,
        "arguments": others,
        "scheduler_arguments": scheduler_arguments,
    }
    return record | {name: values for name, values in further.items() if values}


def _default_guidance(pipeline: DiffusionPipeline, has_guide: bool) -> float | None:
    """Returns the guidance of a call that names none: of the config, or of the signature; None if there is none."""
    if capabilities_of(pipeline).has_null_class or has_guide:
        return pipeline.config.get("guidance_scale")
    parameters = inspect.signature(type(pipeline).__call__).parameters
    is_guided = "prompt" in capabilities_of(pipeline).inputs and "guidance_scale" in parameters
    return parameters["guidance_scale"].default if is_guided else None
