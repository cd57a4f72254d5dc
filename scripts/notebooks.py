"""Runs the notebooks of docs/notebooks, each in an empty folder, and stores their outputs without progress bars.

python scripts/notebooks.py [NOTEBOOK...]
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
MINUTES = 15  # of the slowest cell


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
            cell.outputs = [output for output in cell.outputs if is_kept(output)]
    book.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return book


def is_kept(output: nbformat.NotebookNode) -> bool:
    """Returns whether an output is a result: no progress, which goes to stderr or into a widget."""
    is_widget = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return output.get("name") != "stderr" and not is_widget


if __name__ == "__main__":
    for path in [*map(Path, sys.argv[1:])] or sorted(NOTEBOOKS.glob("*.ipynb")):
        nbformat.write(execute(path), path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
