"""The time to decode a data set: by `datasets`, by genhub, and from genhub's cache."""

import time
from typing import Any

import numpy as np
from benchmarks.turns import in_turns

from genhub import data
from genhub.data.sources import open_splits
from genhub.utils.cache import cache_folder


def benchmark_data(source: str, rounds: int):
    """Prints how long it takes to decode a data set by `datasets`, by us, and from our cache."""
    config = data.DataConfig(source=source, val_size=0)
    dataset: Any = open_splits(config)["train"]

    def one_by_one() -> float:
        start = time.perf_counter()
        for row in dataset:
            np.asarray(row["image"])
        return time.perf_counter() - start

    def decoded() -> float:
        for path in (cache_folder() / "images").glob("*.safetensors"):
            path.unlink()
        start = time.perf_counter()
        data.load(config)
        return time.perf_counter() - start

    def cached() -> float:
        start = time.perf_counter()
        data.load(config)
        return time.perf_counter() - start

    seconds = in_turns({"one by one": one_by_one, "decoded": decoded, "cached": cached}, rounds)
    base = seconds["one by one"]
    print(f"\nData: {len(dataset):,} images of {source}")
    print(f"  `for row in datasets`   {base:6.2f} s")
    print(f"  load, first time        {seconds['decoded']:6.2f} s   {seconds.times('one by one', 'decoded'):5.1f} x")
    print(f"  load, from the cache    {seconds['cached']:6.2f} s   {seconds.times('one by one', 'cached'):5.1f} x")
