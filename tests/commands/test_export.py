"""Exported networks equal PyTorch's, and what is refused before anything is written."""

import json
from pathlib import Path

import pytest

import genhub
from genhub.cli import main
from genhub.repository.format import repo_files

PUBLISHED = Path(genhub.__file__).parents[1] / "model_cards"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--opset", "9"], "`opset` must lie in 18..23, got 9"),
        (["--format", "tflite"], "`format` must be one of onnx, pt2, got 'tflite'"),
        (["--dtype", "int8"], "`dtype` must be fp32 or fp16, got 'int8'"),
        (["--format", "pt2", "--dtype", "fp16"], "must be left out with the format pt2"),
    ],
)
def test_an_export_that_cannot_be_is_refused_in_one_line(words, message, tmp_path, capsys):
    assert main(["export", str(tmp_path), *words]) == 1

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_exported_files_belong_to_a_repository(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "model_index.json").write_text('{"_class_name": "X"}')
    for name in ("export.json", "decoder.onnx", "decoder.pt2", "notes.txt"):
        (tmp_path / "onnx" / name).write_bytes(b"")

    assert {*repo_files(tmp_path)} == {
        "model_index.json",
        "onnx/decoder.onnx",
        "onnx/decoder.pt2",
        "onnx/export.json",
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in PUBLISHED.iterdir()))
def test_every_published_network_equals_pytorch(name, tmp_path):
    folder = genhub.export(PUBLISHED / name, output=tmp_path)

    about = json.loads((folder / "export.json").read_text())
    assert about
    assert all(graph["largest_difference"] <= 1e-4 for graph in about.values())
