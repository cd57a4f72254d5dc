"""Computes the reference rows of the protocol: `python scripts/studies/reference_rows.py FASHION_MNIST OUTPUT`."""

import json
import sys
from pathlib import Path

from genhub.data import DataConfig, load
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.references import compute

if __name__ == "__main__":
    config = DataConfig(source=sys.argv[1])
    yardstick = Evaluator(load(config, "train"), load(config, "test"), list(pinned_spaces()), tell=print)
    Path(sys.argv[2]).write_text(json.dumps(compute(yardstick, load(config, "val")), indent=1) + "\n")
