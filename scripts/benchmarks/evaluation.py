"""The time of an evaluation, and of measuring quality while training."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import cast

from benchmarks.loop import Contestant

from genhub import data
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.monitor import QualityMonitor
from genhub.evaluation.references import add_noise


def benchmark_evaluation(source: str, name: str, rounds: int):
    """Prints how long the metrics of 10,000 generated images take, and what quality costs the training of a recipe."""
    config = data.DataConfig(source=source, val_size=500)
    train, held_out, test = (cast(data.Images, data.load(config, split)) for split in ("train", "val", "test"))
    images = add_noise(train.choose(10_000, 0).images, 5)
    spaces = list(pinned_spaces())
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        spaces[0](images)
        rates.append(len(images) / (time.perf_counter() - start))
    print(f"\nEvaluation: {len(images):,} images against {len(test):,} test and {len(train):,} training images")
    print(f"  features                {statistics.median(rates):8,.0f} images/s (best {max(rates):,.0f})")
    for turn in ("first time", "reference cached"):
        start = time.perf_counter()
        evaluator = Evaluator(train, test, spaces)
        evaluator.evaluate(images)
        evaluator.memorisation(images)
        print(f"  all metrics but CAS     {time.perf_counter() - start:8.1f} s, {turn}")
    benchmark_monitor(source, name, train, held_out)


def benchmark_monitor(source: str, name: str, train: data.Images, held_out: data.Images):
    """Prints the share of training that its measure of quality takes."""
    with tempfile.TemporaryDirectory() as folder:
        contestant = Contestant(name, source, Path(folder) / "run", compiled=False)
        step, config, exporter = contestant.by_loop(), contestant.run.recipe.evaluation, contestant.run.exporter
        every = config.every or 2000
        monitor = QualityMonitor(train, held_out)
        start = time.perf_counter()
        monitor(exporter.generate(config.count, config.arguments))
        seconds = time.perf_counter() - start
    print(
        f"  while training          {seconds:8.1f} s for {config.count} images every {every} steps of {step:.2f} s: "
        f"{100 * seconds / (every * step):.1f} % of `{name}`"
    )
