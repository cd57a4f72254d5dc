"""Runs the notebooks of docs/notebooks, each in an empty folder, and stores their outputs without progress bars.

python scripts/notebooks.py [NOTEBOOK...]
"""

import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
MINUTES = 30  # of the slowest cell


def execute(path: Path) -> nbformat.NotebookNode:
    """Returns a notebook with the outputs of a fresh run of all its cells.

    Raises:
        CellExecutionError: a cell raised an error.
    """
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(book, timeout=60 * MINUTES, resources={"metadata": {"path": folder}}).execute()
    for number, cell in enumerate(book.cells):
        cell.id = str(number)
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [with_small_chart(output) for output in results(cell.outputs)]
    book.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return book


def results(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Returns the outputs of a cell but for progress: bars, and all text beside a bar or a picture."""
    is_rich = [bool(output.get("data", {}).keys() - {"text/plain"}) for output in outputs]
    has_bar = any("\r" in output.get("text", "") for output in outputs)
    kept = [output for output in outputs if "application/vnd.jupyter.widget-view+json" not in output.get("data", {})]
    return [output for output in kept if output.output_type != "stream" or not (has_bar or any(is_rich))]


def with_small_chart(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Returns an output whose chart has 256 colours, of which one sees no difference; pictures of pixels stay."""
    if "image/png" in output.get("data", {}):
        image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
        if image.mode == "RGBA":
            file = io.BytesIO()
            image.convert("RGB").quantize(256).save(file, "png", optimize=True)
            output.data["image/png"] = base64.b64encode(file.getvalue()).decode()
    return output


def children_minutes() -> float:
    """Returns the CPU minutes of the processes that this one started and that have ended; 0 on Windows."""
    times = os.times()
    return (times.children_user + times.children_system) / 60


if __name__ == "__main__":
    for path in [*map(Path, sys.argv[1:])] or sorted(NOTEBOOKS.glob("*.ipynb")):
        before = children_minutes()
        nbformat.write(execute(path), path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, {children_minutes() - before:.1f} CPU minutes")
