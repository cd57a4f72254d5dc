"""The files of an image column are the same bytes, however Arrow holds the column."""

import pyarrow as pa
import pytest

from genhub.data import DataConfig
from genhub.data.sources import read_column

BINARY = pa.binary()
CELLS = [{"bytes": bytes([i] * i), "path": f"{i}.png"} for i in range(6)]


def column(cells: list[dict | None], *cuts: int, kind: pa.DataType = BINARY) -> pa.ChunkedArray:
    chunks = [cells[start:stop] for start, stop in zip((0, *cuts), (*cuts, len(cells)), strict=True)]
    return pa.chunked_array(chunks, pa.struct({"bytes": kind, "path": pa.string()}))


@pytest.mark.parametrize("kind", [BINARY, pa.large_binary()])
@pytest.mark.parametrize(
    ("table", "expected"),
    {
        "one chunk": (lambda kind: column(CELLS, kind=kind), CELLS),
        "chunks, one of them empty": (lambda kind: column(CELLS, 2, 2, 5, kind=kind), CELLS),
        "a slice": (lambda kind: column(CELLS, kind=kind).slice(2, 3), CELLS[2:5]),
        "a slice over chunks": (lambda kind: column(CELLS, 2, 4, kind=kind).slice(1, 4), CELLS[1:5]),
        "only empty files": (lambda kind: column(CELLS[:1] * 3, kind=kind), CELLS[:1] * 3),
    }.values(),
)
def test_each_file_comes_out_as_it_went_in(table, expected, kind):
    assert [bytes(file) for file in read_column(table(kind), DataConfig())] == [cell["bytes"] for cell in expected]


def test_a_cell_without_bytes_is_read_from_its_path(tmp_path):
    (tmp_path / "a.png").write_bytes(b"abc")
    cells = [CELLS[2], {"bytes": None, "path": str(tmp_path / "a.png")}, {"bytes": None, "path": None}, None]

    files = read_column(column(cells, 1).slice(1), DataConfig(str(tmp_path)))

    assert [bytes(file) for file in files] == [b"abc", b"", b""]


def test_files_are_views_of_the_column_and_no_copies():
    table = column([{"bytes": bytes(10_000), "path": None}] * 100)
    before = pa.total_allocated_bytes()

    files = read_column(table, DataConfig())

    assert pa.total_allocated_bytes() == before
    assert all(isinstance(file, memoryview) for file in files)
