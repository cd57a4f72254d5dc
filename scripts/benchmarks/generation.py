"""Images per second of GAN generators."""

import statistics
import time
from typing import Any

from genhub import recipes
from genhub.data import Shape


def benchmark_generation(rounds: int, batch_size: int = 250):
    """Prints how many images a second GAN generators make, in batches."""
    print(f"\nGeneration in batches of {batch_size}, by `pipe(output_type='pt')`")
    for name in ("gan", "dcgan", "conditional-dcgan", "progressive-gan", "stylegan"):
        recipe = recipes.load(name)
        pipeline: Any = recipe.build_pipeline(recipe.build_components(Shape(1, 28, 28, tuple("0123456789"))))
        pipeline.generator.eval()
        labels = {"class_labels": 3} if "conditional" in name else {}
        rates = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            for _ in range(4):
                pipeline(batch_size=batch_size, output_type="pt", **labels)
            rates.append(4 * batch_size / (time.perf_counter() - start))
        print(f"  {name:18} {statistics.median(rates[1:]):10,.0f} images/s")
