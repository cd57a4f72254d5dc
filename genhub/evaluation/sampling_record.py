"""How images are sampled, as `metrics.json` stores it."""

from typing import Any

from genhub.evaluation.sampling import Sampler
from genhub.repository.capabilities import capabilities_of, default_arguments, default_steps

EVERYWHERE = [0, 1]  # guidance in all steps


def sampling_record(sampler: Sampler, count: int, scheduler_arguments: dict[str, Any]) -> dict:
    """Returns how images are sampled, as `metrics.json` stores it; further arguments appear only if given."""
    pipeline = sampler.pipeline
    others = default_arguments(pipeline) | sampler.arguments
    guidance = pipeline.config.get("guidance_scale") if capabilities_of(pipeline).has_null_class else None
    guidance = others.pop("guidance_scale", guidance)
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
        "prompts": prompts,
        "arguments": others,
        "scheduler_arguments": scheduler_arguments,
    }
    return record | {name: values for name, values in further.items() if values}
