"""Exports every network of the published models to ONNX and `torch.export`, and measures how far each file is from
PyTorch: `python scripts/studies/exports.py MODEL...` measures these, `--all` every one; then, or without a name,
the table of docs/export.md and the sections of the cards are renewed from docs/export.json."""

import json
import re
import sys
from pathlib import Path

from genhub.graphs.networks import graphs_of
from genhub.graphs.write import FILES, OPSET, record, to_files
from genhub.repository.card_evaluation import table
from genhub.repository.exported import differences, with_export
from genhub.repository.load import AutoPipeline
from genhub.utils.files import atomic_write

ROOT = Path(__file__).parents[2]
CARDS, STORED, PAGE = ROOT / "model_cards", ROOT / "docs/export.json", ROOT / "docs/export.md"


def measure(name: str) -> dict[str, dict]:
    """Returns what is known of each graph of a published model: inputs, output, sizes and differences."""
    pipeline = AutoPipeline.from_pretrained(CARDS / name)
    graphs = graphs_of(name, pipeline)
    return {part: record(graph, to_files(part, graph, pipeline, FILES), OPSET) for part, graph in graphs.items()}


def write_documents(stored: dict[str, dict]) -> None:
    """Renews the table and the sections."""
    head, rows = ["model", "graph", "MB", *(f"`{file}`" for file in FILES)], []
    for name, graphs in sorted(stored.items()):
        for part, graph in graphs.items():
            size = f"{graph['files'][FILES[0]]['bytes'] / 1e6:.2f}"
            rows.append((f"[`{name}`](../model_cards/{name}/README.md)", f"`{part}`", size, *differences(graph)))
        card = CARDS / name / "README.md"
        card.write_text(with_export(card.read_text(), graphs))
    block = "\n".join(["<!-- differences -->", *table(head, rows), "<!-- /differences -->"])
    text = PAGE.read_text()
    text, count = re.subn("<!-- differences -->.*?<!-- /differences -->", lambda _: block, text, flags=re.DOTALL)
    assert count == 1
    PAGE.write_text(text)


if __name__ == "__main__":
    names = sorted(path.parent.name for path in CARDS.glob("*/model_index.json"))
    known = json.loads(STORED.read_text()) if STORED.is_file() else {}
    for model in names if sys.argv[1:] == ["--all"] else sys.argv[1:]:
        known[model] = measure(model)
        atomic_write(STORED, json.dumps(known, indent=1) + "\n")
    write_documents(known)
