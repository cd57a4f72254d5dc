"""What a page is made of, and what is refused before any of it is written."""

import base64
import hashlib
import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genhub
from genhub.browser import app
from genhub.browser import runtime as registry
from genhub.browser.write import examples
from genhub.cli import main
from genhub.commands.page import BLIND_FILES, blind
from genhub.graphs.samplers import tables_of
from genhub.repository.format import RepositoryError

PUBLISHED = Path(genhub.__file__).parents[1] / "model_cards"


@pytest.mark.parametrize(
    "name", ["ddpm-few-step", "ddpm-best"]
)  # LCM, which draws noise, and DPM-Solver++, which does not
def test_a_table_of_steps_leads_where_the_pipeline_does(name):
    pipeline = genhub.AutoPipeline.from_pretrained(str(PUBLISHED / name))
    labels = {"class_labels": 3} if pipeline.config["num_classes"] else {}
    (rows,) = tables_of(name, pipeline, [2]).values()
    latents = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    images = pipeline(
        latents=latents,
        num_inference_steps=2,
        output_type="pt",
        generator=[torch.Generator().manual_seed(1)],
        **labels,
    ).images

    source, sample, before = torch.Generator().manual_seed(1), latents, torch.zeros_like(latents)
    for t, _, _, alpha, sigma, bound, a, b, c, d in rows:
        classes = torch.tensor([3]) if labels else None
        with torch.no_grad():
            v = pipeline.unet(sample, torch.tensor(int(t)), classes).sample
        x_0 = (alpha * sample - sigma * v).clamp(-bound, bound)
        z = torch.randn(latents.shape, generator=source) if d else 0
        sample, before = a * sample + b * x_0 + c * before + d * z, x_0
    torch.testing.assert_close(((sample + 1) / 2).clamp(0, 1), images, atol=1e-4, rtol=0)


def test_a_scheduler_that_is_no_table_is_refused():
    pipeline = genhub.AutoPipeline.from_pretrained(str(PUBLISHED / "ddpm-quick"))
    from diffusers import HeunDiscreteScheduler

    pipeline.register_modules(scheduler=HeunDiscreteScheduler.from_config(pipeline.scheduler.config))
    with pytest.raises(RepositoryError, match="HeunDiscreteScheduler is no table of steps"):
        tables_of("x", pipeline, [2])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "`repos` must be at least one repository"),
        (["{cards}/gan", "{cards}/gan"], "each with a name of its own"),
        (["{cards}/gan", "--output", "{tmp}/full"], "`output` must be an empty folder"),
        (["{cards}/gan", "--runtime", "{tmp}/full"], "`runtime` must be a folder with"),
        (["{cards}/gan"], "ONNX Runtime Web is not in the cache"),
        (["{cards}/gan", "--blind", "sample", "{cards}/gan"], "`blind` must be given without"),
        (["--blind", "sample", "{cards}/latent-ddpm"], "must have one size"),
    ],
)
def test_a_page_that_cannot_be_made_ends_in_one_line_and_leaves_nothing(words, reason, tmp_path, capsys, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("genhub.commands.page.check_packages", lambda *what: None)

    assert main(["page", *(word.format(cards=PUBLISHED, tmp=tmp_path) for word in words)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("genhub:")]
    assert len(lines) == 1
    assert reason in lines[0]
    assert not (tmp_path / "page").exists()


def test_the_runtime_option_that_is_advised_takes_an_unpacked_package(tmp_path):
    (tmp_path / "dist").mkdir()
    for name in registry.FILES:
        (tmp_path / "dist" / name).write_text(name)

    assert registry.runtime(tmp_path) == {name: name.encode() for name in registry.FILES}


def test_an_archive_with_another_hash_is_refused(tmp_path, monkeypatch):
    (tmp_path / "other.tgz").write_bytes(b"other")
    monkeypatch.setenv("GENHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "URL", (tmp_path / "other.tgz").as_uri())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    with pytest.raises(ValueError, match="must have the SHA-512 that is known of it"):
        registry.runtime()
    assert not (tmp_path / "cache").exists()
    assert len(base64.b64decode(registry.SHA512)) == hashlib.sha512().digest_size


@pytest.mark.parametrize("words", [["page", "{gan}", "--serve", "{port}"], ["demo", "{gan}", "--port", "{port}"]])
def test_a_port_in_use_is_one_line_before_any_work(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([word.format(gan=PUBLISHED / "gan", port=port) for word in words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"genhub: error: `port` must be free, got {port} (")
    assert list(tmp_path.iterdir()) == []


def test_a_blind_test_shows_test_images_beside_generated_ones(tmp_path):
    folder = blind("sample", str(PUBLISHED / "gan"), tmp_path / "quiz")

    quiz = json.loads((folder / "pairs.json").read_text())
    real = genhub.data.load(genhub.data.DataConfig(source="sample"), "test").images
    known = {image.numpy().tobytes() for image in real}
    shown = [[base64.b64decode(image) in known for image in pair] for pair in quiz["pairs"]]
    assert [pair.index(True) for pair in shown] == quiz["real"]
    assert all(sum(pair) == 1 for pair in shown)
    assert {*quiz["real"]} == {0, 1}
    assert {path.name for path in folder.iterdir()} == {*BLIND_FILES, "index.html", "pairs.json"} - {"blind.html"}


def test_a_demo_searches_by_what_the_pipeline_makes_of_images():
    pipeline = genhub.AutoPipeline.from_pretrained(str(PUBLISHED / "stacked-ae"))
    images = [Image.fromarray(image.numpy()) for image in examples()[:20]]
    codes = pipeline.encode(examples()[:20, None] / 255)
    distances, indices = (codes - codes[3]).norm(dim=1).sort()

    found = app.search(pipeline, images, images[3])

    assert [text for _, text in found] == [f"distance {distance:.2f}" for distance in distances[: app.FOUND]]
    shown = [np.asarray(image.resize((28, 28), Image.Resampling.NEAREST)) for image, _ in found]
    assert np.array_equal(shown, examples()[indices[: app.FOUND]].numpy())


def test_a_demo_generates_what_the_pipeline_does():
    pipeline = genhub.AutoPipeline.from_pretrained(str(PUBLISHED / "gan-best"))
    expected = pipeline(
        batch_size=2, class_labels=1, truncation=0.5, generator=torch.Generator().manual_seed(3)
    ).images

    images = app.generate(pipeline, 2, 3, "Trouser", truncation=0.5)

    small = [np.asarray(image.resize(expected[0].size, Image.Resampling.NEAREST)) for image in images]
    assert all(np.array_equal(got, image) for got, image in zip(small, expected, strict=True))
