"""Computes the reference rows of the protocol: `python scripts/studies/reference_rows.py FASHION_MNIST OUTPUT`.

If OUTPUT exists, only the metrics that it lacks are computed and added.
"""

import json
import sys
from pathlib import Path

from genhub.data import DataConfig, Images, load
from genhub.evaluation.features import pinned_spaces
from genhub.evaluation.generation import Evaluator
from genhub.evaluation.generation_metrics import METRICS
from genhub.evaluation.references import add_metrics, compute


def load_split(split: str) -> Images:
    images = load(DataConfig(source=sys.argv[1]), split)
    assert isinstance(images, Images)  # Fashion MNIST fits into memory
    return images


if __name__ == "__main__":
    path = Path(sys.argv[2])
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    names = {figure["name"].replace("FD-FM", "FD") for figure in known["rows"][0]["figures"]} if known else set()
    metrics = [metric for metric in METRICS if not metric.needs_labels and not names.issuperset(metric.names)]
    evaluator = Evaluator(load_split("train"), load_split("test"), list(pinned_spaces()), print, metrics)
    held_out = load_split("val")
    computed = add_metrics(known, evaluator, held_out) if known else compute(evaluator, held_out)
    path.write_text(json.dumps(computed, indent=1) + "\n", encoding="utf-8")
