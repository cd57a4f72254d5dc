"""Exported networks equal PyTorch's, lie where others look for them, and are pushed; and what is refused before
anything is written."""

import json
import logging
import shutil
from pathlib import Path

import diffusers.schedulers.scheduling_lcm as lcm
import numpy as np
import pytest
import torch

import genhub
from genhub.cli import main
from genhub.graphs.graph import Graph, normal
from genhub.graphs.networks import graphs_of
from genhub.graphs.write import FILES, HALF, MODEL, PROGRAM, TOLERANCE, to_files
from genhub.repository.format import RepositoryError

PUBLISHED = Path(genhub.__file__).parents[1] / "model_cards"
NAMES = sorted(path.parent.name for path in PUBLISHED.glob("*/model_index.json"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--opset", "9"], "`opset` must lie in 18..23, got 9"),
        (["--format", "tflite"], "`format` must be one of onnx, pt2, got 'tflite'"),
        (["--dtype", "int8"], "`dtype` must be fp32 or fp16, got 'int8'"),
        (["--format", "pt2", "--dtype", "fp16"], "must be left out with the format pt2"),
        (["--format", "pt2", "--output", __file__], "`output` must be a folder, got the file"),
        (["--format", "pt2", "--output", "broken"], "export.json: `weights` must be set"),
    ],
)
def test_an_export_that_cannot_be_is_refused_in_one_line(words, message, tmp_path, capsys, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/export.json").write_text('{"graphs": {}}')
    monkeypatch.chdir(tmp_path)

    assert main(["export", str(PUBLISHED / "linear-ae-pca"), *words]) == 1

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (PUBLISHED / "linear-ae-pca/onnx").exists()
    assert len(list((tmp_path / "broken").iterdir())) == 1


def load(path):
    """What a file computes in a fresh session of its runtime: named tensors -> array."""
    if path.name == PROGRAM:
        program = torch.export.load(path).module()
        return lambda **inputs: program(*inputs.values()).detach().numpy()
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda **inputs: session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]


@pytest.mark.parametrize("file", [PROGRAM, pytest.param(MODEL, marks=pytest.mark.slow)])
def test_an_export_lies_in_its_repository_with_which_it_is_pushed(file, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO, "torch.onnx")  # the user's own
    repo = tmp_path / "points"
    shutil.copytree(PUBLISHED / "linear-ae-pca", repo)
    points = torch.rand(5, 1, 1, 3, generator=torch.Generator().manual_seed(0))

    assert main(["export", str(repo), "--format", "pt2" if file == PROGRAM else "onnx"]) == 0

    assert logging.getLogger("torch.onnx").level == logging.INFO
    assert f"encoder/{file}" in capsys.readouterr().out
    pipeline = genhub.AutoPipeline.from_pretrained(repo)
    codes = load(repo / "onnx/encoder" / file)(sample=2 * points - 1)
    np.testing.assert_allclose(codes, pipeline.encode(points).numpy(), atol=TOLERANCE)
    decoded = (load(repo / "onnx/decoder" / file)(latents=torch.from_numpy(codes)) + 1) / 2
    np.testing.assert_allclose(decoded, pipeline(points, output_type="pt").images.numpy(), atol=TOLERANCE)
    section = (repo / "README.md").read_text().partition("## ONNX")[2].partition("<!-- /export -->")[0]
    for part, graph in json.loads((repo / "onnx/export.json").read_text())["graphs"].items():
        line = next(line for line in section.split("\n") if line.startswith(f"| `{part}` |"))
        assert f" {graph['files'][file]['difference']:.1e} |" in line

    assert main(["push", str(repo), "user/points", "--dry_run"]) == 0
    pushed = capsys.readouterr().err
    files = {"export.json", *(f"{part}/{name}" for part in ("encoder", "decoder") for name in (file, "config.json"))}
    assert {name for name in files if f" onnx/{name}\n" in pushed} == files

    (repo / "onnx/export.json").write_text(
        (repo / "onnx/export.json").read_text().replace('safetensors": "', 'safetensors": "0')
    )
    assert main(["push", str(repo), "user/points", "--dry_run"]) == 1
    error = capsys.readouterr().err
    assert "was exported from other weights" in error
    assert f"remove it, or repeat `genhub export {repo}`" in error
    shutil.rmtree(repo / "onnx")
    assert main(["push", str(repo), "user/points", "--dry_run"]) == 0


@pytest.mark.slow
def test_an_operator_without_a_graph_is_named():
    pytest.importorskip("onnxscript")
    pipeline = genhub.AutoPipeline.from_pretrained(PUBLISHED / "linear-ae-pca")
    graph = Graph(lambda x: torch.linalg.eigvalsh(x), {"sample": normal(3, 3)}, "values", ("autoencoder",))

    with pytest.raises(
        RepositoryError, match=r"^encoder cannot be exported: its operator aten\.\S*eigh\S* has no graph"
    ):
        to_files("encoder", graph, pipeline)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 23])
def test_graphs_have_the_opset_asked_for_and_no_operator_but_those_of_onnx(opset, tmp_path):
    onnx = pytest.importorskip("onnx")
    folder = genhub.export(PUBLISHED / "ddpm-few-step", opset=opset, output=tmp_path)

    for path in folder.rglob(MODEL):
        model = onnx.load(path)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
        assert not model.functions
        onnx.checker.check_model(model, full_check=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_every_published_network_equals_pytorch(name, tmp_path):
    pytest.importorskip("onnxruntime")
    pipeline = genhub.AutoPipeline.from_pretrained(PUBLISHED / name)
    graphs = graphs_of(name, pipeline)
    networks = {part for part, network in pipeline.components.items() if isinstance(network, torch.nn.Module)}

    assert {part for graph in graphs.values() for part in graph.parts} == networks
    for part, graph in graphs.items():
        files = to_files(part, graph, pipeline, FILES)
        assert max(files[file][1] for file in (MODEL, PROGRAM)) < TOLERANCE
        assert files[HALF][1] <= 1
        if part == "pipeline":
            inputs = {name: make(2) for name, make in graph.inputs.items()}
            path = tmp_path / MODEL
            path.write_bytes(files[MODEL][0])
            np.testing.assert_allclose(load(path)(**inputs), call(pipeline, **inputs), atol=TOLERANCE)


def call(pipeline, latents, noise=None, **labels):
    """The images of a pipeline's own call, whose scheduler draws the given noise."""
    labels = {name: value.tolist() for name, value in labels.items()}
    with pytest.MonkeyPatch.context() as patch:
        if noise is not None:
            draws = iter(noise.unbind(1))
            patch.setattr(lcm, "randn_tensor", lambda *arguments, **named: next(draws))
        return pipeline(latents=latents, batch_size=len(latents), output_type="pt", **labels).images.numpy()
