"""The metrics of the protocol, made quick."""

from dataclasses import replace

from genhub.evaluation.generation_metrics import METRICS, FrechetDistanceAtInfinity, GenerationMetric, KernelDistance


def quick_metrics(*sizes: int, subsets: int = 5) -> tuple[GenerationMetric, ...]:
    """Returns all metrics, with other numbers of images to extrapolate from, and fewer subsets."""
    metrics = (replace(x, sizes=sizes) if isinstance(x, FrechetDistanceAtInfinity) else x for x in METRICS)
    return tuple(replace(x, subsets=subsets) if isinstance(x, KernelDistance) else x for x in metrics)
