"""Exports every network of the published models to ONNX and `torch.export`, and measures how far each file is from
PyTorch: `python scripts/studies/exports.py MODEL...`, or `--all`, into docs/export.json and the cards."""

import json
import sys
from pathlib import Path

from stored import CARDS

from genhub.graphs.networks import graphs_of
from genhub.graphs.write import FILES, record, to_files
from genhub.repository.exported import with_export
from genhub.repository.load import AutoPipeline
from genhub.utils.files import atomic_write

STORED = Path(__file__).parents[2] / "docs/export.json"


def measure(name: str) -> dict[str, dict]:
    """Returns what is known of each graph of a published model: inputs, output, sizes and differences."""
    pipeline = AutoPipeline.from_pretrained(CARDS / name)
    graphs = graphs_of(name, pipeline)
    return {part: record(graph, to_files(part, graph, pipeline, FILES)) for part, graph in graphs.items()}


def write_card(name: str, graphs: dict[str, dict]) -> None:
    """Renews the section of a card."""
    card = CARDS / name / "README.md"
    card.write_text(with_export(card.read_text(encoding="utf-8"), graphs), encoding="utf-8")


if __name__ == "__main__":
    names = sorted(path.parent.name for path in CARDS.glob("*/model_index.json"))
    known = json.loads(STORED.read_text(encoding="utf-8")) if STORED.is_file() else {}
    for model in names if sys.argv[1:] == ["--all"] else sys.argv[1:]:
        known[model] = measure(model)
        atomic_write(STORED, json.dumps(known, indent=1) + "\n")
        write_card(model, known[model])
