"""Computes the reference rows of the protocol: `python scripts/studies/reference_rows.py FASHION_MNIST OUTPUT`."""

import json
import sys
from pathlib import Path

from genhub.data import DataConfig, Images, load
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.references import compute


def load_split(split: str) -> Images:
    images = load(DataConfig(source=sys.argv[1]), split)
    assert isinstance(images, Images)  # Fashion MNIST fits into memory
    return images


if __name__ == "__main__":
    evaluator = Evaluator(load_split("train"), load_split("test"), list(pinned_spaces()), tell=print)
    Path(sys.argv[2]).write_text(json.dumps(compute(evaluator, load_split("val")), indent=1) + "\n")
