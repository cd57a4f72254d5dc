"""How fast training, data and evaluation are, as ratios measured in turns (A/B/A/B) in one run:
`python scripts/benchmark.py --help`."""

import argparse
import os
import tempfile

import torch
from benchmarks.conditioning import benchmark_conditioning
from benchmarks.data import benchmark_data
from benchmarks.evaluation import benchmark_evaluation
from benchmarks.example import benchmark_example
from benchmarks.generation import benchmark_generation
from benchmarks.loop import RECIPES, benchmark_loop

from genhub.utils.environment import device_name

PARTS = ("conditioning", "data", "evaluation", "example", "generation", "loop")


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="ddpm-quick", help="of the example, of the evaluation and of diffusion")
    parser.add_argument("--loop", nargs="+", default=RECIPES, help="recipes whose loop is measured")
    parser.add_argument("--data", default="sample", help="data set to train on and to decode")
    parser.add_argument("--rounds", type=int, default=9, help="how often each contestant runs (medians are printed)")
    parser.add_argument("--steps", type=int, default=4, help="training steps of the example in a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=PARTS, help="measure one thing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{device_name(torch.device('cpu'))}, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    parts = {
        "conditioning": lambda: benchmark_conditioning(options.rounds),
        "data": lambda: benchmark_data(options.data, options.rounds),
        "generation": lambda: benchmark_generation(options.rounds, options.recipe),
        "evaluation": lambda: benchmark_evaluation(options.data, options.recipe, options.rounds),
        "loop": lambda: benchmark_loop(options.data, options.rounds, tuple(options.loop)),
        "example": lambda: benchmark_example(options.data, options.recipe, options.rounds, options.steps),
    }
    with tempfile.TemporaryDirectory() as cache:
        os.environ["GENHUB_CACHE"] = cache
        for name in [options.only] if options.only else parts:
            parts[name]()


if __name__ == "__main__":
    main()
