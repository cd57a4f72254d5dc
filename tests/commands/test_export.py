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
from genhub.repository.exported import read_export, with_export
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


@pytest.mark.parametrize("file", [PROGRAM, MODEL])
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

    changed = (repo / "onnx/encoder" / file).read_bytes()
    (repo / "onnx/encoder" / file).write_bytes(changed + b"0")
    assert main(["push", str(repo), "user/points", "--dry_run"]) == 1
    assert f"is not what was written: repeat `genhub export {repo}`" in capsys.readouterr().err
    shutil.rmtree(repo / "onnx")
    assert main(["push", str(repo), "user/points", "--dry_run"]) == 0


def test_an_export_of_other_weights_is_neither_pushed_nor_kept_nor_are_files_of_others(tmp_path, capsys):
    repo = tmp_path / "points"
    shutil.copytree(PUBLISHED / "linear-ae-pca", repo)
    folder = genhub.export(repo, format="pt2")
    stale, foreign = folder / "encoder" / HALF, folder / "notes/token.json"
    foreign.parent.mkdir()
    for path in (stale, foreign):
        path.write_bytes(b"{}")
    assert main(["push", str(repo), "user/points", "--dry_run"]) == 0
    pushed = capsys.readouterr().err
    assert f"encoder/{PROGRAM}" in pushed
    assert HALF not in pushed
    assert "token.json" not in pushed
    told = json.loads((folder / "export.json").read_text())
    told["weights"] = dict.fromkeys(told["weights"], "0" * 64)
    (folder / "export.json").write_text(json.dumps(told))
    assert main(["push", str(repo), "user/points", "--dry_run"]) == 1
    assert f"was exported from other weights: remove it, or repeat `genhub export {repo}`" in capsys.readouterr().err

    genhub.export(repo, format="pt2")

    assert not stale.exists()
    assert foreign.exists()
    assert main(["push", str(repo), "user/points", "--dry_run"]) == 0
    (folder / "export.json").unlink()
    capsys.readouterr()
    assert main(["push", str(repo), "user/points", "--dry_run"]) == 0
    assert "onnx/" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["onnx", "onnx/encoder"])
def test_a_link_in_the_folder_of_an_export_is_not_followed(name, tmp_path, capsys):
    repo, elsewhere = tmp_path / "points", tmp_path / "elsewhere"
    shutil.copytree(PUBLISHED / "linear-ae-pca", repo)
    elsewhere.mkdir()
    (repo / name).parent.mkdir(exist_ok=True)
    (repo / name).symlink_to(elsewhere)

    assert main(["export", str(repo), "--format", "pt2"]) == 1

    assert "must be no link" in capsys.readouterr().err
    assert not [*elsewhere.iterdir()]


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["graphs"]["encoder"]["files"].update({"\x1b[31m.onnx": {"bytes": 1, "difference": 0.0}}),
        lambda told: told["files"].update({"../README.md": "0" * 64}),
        lambda told: told["weights"].update({"encoder": "no digest"}),
    ],
)
def test_what_a_stranger_says_of_an_export_is_checked(change, tmp_path):
    told = {"weights": {}, "files": {}, "graphs": {"encoder": {"inputs": {}, "output": "latents", "files": {}}}}
    (tmp_path / "export.json").write_text(json.dumps(told))
    assert read_export(tmp_path) == told
    change(told)
    (tmp_path / "export.json").write_text(json.dumps(told))

    with pytest.raises(RepositoryError, match=r"export\.json"):
        read_export(tmp_path)


def test_the_section_about_an_export_leaves_the_words_of_the_author():
    words = "<!-- words of the author, kept by later writes -->\n## Limits\n<!-- export -->\nmine\n<!-- /words -->"
    card = f"# Card\n{words}\n## Limits\n"

    once = with_export(card, {})

    assert once.startswith(f"# Card\n{words}")
    assert once.endswith("## Limits\n")
    assert with_export(once, {}) == once


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
        assert files[HALF][1] < 0.2  # of a style-based generator; of others below 0.01
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
