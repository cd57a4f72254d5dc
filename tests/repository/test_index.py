"""What a stranger's index may say, and where the files of a repository may lie."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from changes import DELETE, changed
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from tiny_pipelines import PIPELINES

import genhub
from genhub.cli import main
from genhub.repository.format import RepositoryError
from genhub.repository.index import check_files, check_integers, read_index
from genhub.repository.push import files_to_push
from genhub.repository.save import record_digests

WEIGHTS, CONFIG = "generator/diffusion_pytorch_model.safetensors", "generator/config.json"
NESTED = {}
for _ in range(100):
    NESTED = {"a": NESTED}
HOSTILE = [  # keys that lead to a value of the index, and what is put there
    *(((key,), value) for key in ("_class_name", "generator", "_genhub") for value in (None, 1, {}, [[]], ["a"], " ")),
    *((("_genhub", key), value) for key in ("format", "sha256", "texts") for value in (None, "1", [], [1], DELETE)),
    *((("_genhub", key), value) for key in ("class_name", "version", "components") for value in (1, [], DELETE)),
    *((("_genhub", "arguments"), value) for value in (1, [], DELETE)),
    (("_genhub", "format"), True),
    (("_genhub", "format"), 0),
    (("_genhub", "call"), []),
    (("_genhub", "components", "generator"), None),
    (("_genhub", "components", "generator"), DELETE),
    (("_genhub", "components", "other"), "DenseGenerator"),
    (("_genhub", "sha256", WEIGHTS), None),
    (("_genhub", "sha256", WEIGHTS), "0" * 63),
    (("_genhub", "sha256", WEIGHTS), DELETE),
    (("_genhub", "texts", CONFIG), DELETE),
    (("_genhub", "texts", CONFIG), "0" * 64),
    *((("_genhub", "sha256", name), "0" * 64) for name in ("../x", "/etc/passwd", "a/../../x", ".env", "a\0b", "")),
    (("generator",), ["gan_dense", 10**6 * "x"]),
    (("generator",), ["../gan_dense", "DenseGenerator"]),
    (("other",), ["gan_dense", "DenseGenerator"]),
    (("../generator",), ["gan_dense", "DenseGenerator"]),
    (("/",), ["gan_dense", "DenseGenerator"]),
    (("truncation",), NESTED),
    (("truncation",), 10**12),
    (("_genhub", "arguments", "truncation"), 10**30),
    (("_genhub", "arguments", "generator"), 1),
    (("_genhub", "call"), {"num_inference_steps": 10**10}),
]  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return genhub.save_repo(PIPELINES["GANPipeline"].make(), tmp_path_factory.mktemp("saved") / "repo")


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy of a repository, to be damaged."""
    return shutil.copytree(saved, tmp_path / "repo")


@pytest.mark.parametrize(("keys", "value"), HOSTILE, ids=range(len(HOSTILE)))
def test_an_index_that_is_not_what_its_format_says_is_one_line(keys, value, folder):
    path = folder / "model_index.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), keys, value)))

    with pytest.raises(RepositoryError, match=f"^{folder}[^\n]*$"):
        genhub.AutoPipeline.from_pretrained(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"a": ' * 10**5, '{"_class_name": "GANPipeline", "a": NaN'])
def test_an_index_that_is_no_json_object_is_one_line(text, folder):
    (folder / "model_index.json").write_text(text)

    with pytest.raises(RepositoryError, match="^[^\n]*model_index.json cannot be read: [^\n]*$"):
        genhub.AutoPipeline.from_pretrained(folder)


def test_the_index_of_plain_diffusers_is_read_as_it_is(tmp_path):
    unet = UNet2DModel(8, 1, 1, block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",),
                       up_block_types=("UpBlock2D",), layers_per_block=1)  # fmt: skip
    pipeline = DDIMPipeline(unet, DDIMScheduler())
    pipeline.save_pretrained(tmp_path)

    loaded = genhub.AutoPipeline.from_pretrained(tmp_path)

    assert "_genhub" not in read_index(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(loaded.unet.parameters(), unet.parameters(), strict=True))


STRAY = ("Thumbs.db", "notes.txt", "config.json.orig", "model.onnx", "secret.json", "sub/config.json")


def test_what_no_loader_reads_may_lie_beside_what_is_loaded(folder):
    expected = files_to_push(folder)
    for name in STRAY:
        (folder / "generator" / name).parent.mkdir(exist_ok=True)
        (folder / "generator" / name).write_text("{")

    assert isinstance(genhub.AutoPipeline.from_pretrained(folder), genhub.GANPipeline)
    assert files_to_push(folder) == expected


READ = ("own.py", "other.safetensors", "model.safetensors.index.json", "adapter_config.json", "tokenizer.json",
        "diffusion_pytorch_model.safetensors.index.fp16.json", "sentencepiece.bpe.model", "vocab.txt")  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_what_a_loader_could_read_is_recorded(name, folder):
    (folder / "generator" / name).write_text("{}")

    with pytest.raises(RepositoryError, match=f"records no SHA-256 of generator/{name}"):
        genhub.AutoPipeline.from_pretrained(folder)


def without_texts(folder: Path) -> Path:
    """A repository as genhub saved it before it recorded the digests of configs."""
    path = folder / "model_index.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), ("_genhub", "texts"), DELETE)))
    return folder


def test_the_remedy_for_a_repository_of_an_older_genhub_works_as_it_is_printed(folder):
    with pytest.raises(RepositoryError, match="^[^\n]*was saved by an older genhub [^\n]*$") as caught:
        genhub.AutoPipeline.from_pretrained(without_texts(folder))

    eval(re.search("`(genhub.record_digests.*)`", str(caught.value))[1])

    assert isinstance(genhub.AutoPipeline.from_pretrained(folder), genhub.GANPipeline)
    (folder / "model_index.json").write_text(json.dumps(changed(read_index(folder), ("_genhub",), DELETE)))
    with pytest.raises(RepositoryError, match="was not saved by genhub"):
        genhub.record_digests(folder)


def test_the_remedy_for_a_run_of_an_older_genhub_works_as_it_is_printed(tiny_repo, tmp_path):
    run = without_texts(shutil.copytree(tiny_repo, tmp_path / "run"))
    with pytest.raises(RepositoryError, match="^[^\n]*was saved by an older genhub [^\n]*$") as caught:
        genhub.AutoPipeline.from_pretrained(run)

    assert main(re.search("`genhub (train --resume .*)`", str(caught.value))[1].split()) == 0
    assert isinstance(genhub.AutoPipeline.from_pretrained(run), genhub.CosineDDPMPipeline)


# ---- where files lie


def outside(folder: Path, name: str) -> Path:
    target = folder.parent / "outside"
    shutil.move(folder / name, target)
    return target


STRANGE = {
    "link out": lambda folder, name: (folder / name).symlink_to(outside(folder, name)),
    "link round": lambda folder, name: (folder / name).symlink_to(folder / name),
    "link nowhere": lambda folder, name: (folder / name).symlink_to("nowhere"),
    "device": lambda folder, name: (folder / name).symlink_to("/dev/zero"),
    "fifo": lambda folder, name: os.mkfifo(folder / name),
    "folder": lambda folder, name: (folder / name).mkdir(),
}


@pytest.mark.parametrize("name", ["model_index.json", CONFIG, WEIGHTS, "generator/stray.safetensors"])
@pytest.mark.parametrize("kind", STRANGE)
def test_a_file_that_is_none_or_leads_out_is_refused_at_once(kind, name, folder):
    if "stray" in name:
        (folder / name).write_text("")
        record_digests(folder)
    if kind != "link out":
        (folder / name).unlink()
    STRANGE[kind](folder, name)

    with pytest.raises(RepositoryError, match=f"^[^\n]*{folder}[^\n]*{name}[^\n]*$"):
        genhub.GANPipeline.from_pretrained(folder)


def test_a_folder_of_a_component_that_leads_out_is_refused(folder):
    (folder / "generator").symlink_to(outside(folder, "generator"))

    with pytest.raises(RepositoryError, match="generator must be a regular file of the repository"):
        genhub.AutoPipeline.from_pretrained(folder)


def snapshot(saved: Path, cache: Path, blobs: str = "blobs") -> Path:
    """A repository as the Hub's client downloads it: links to files named by their content."""
    folder = cache / "models--user--name/snapshots/0123"
    for path in (path for path in saved.rglob("*") if path.is_file()):
        blob = cache / "models--user--name" / blobs / f"{path.parent.name}-{path.name}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link = folder / path.relative_to(saved)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return folder


def test_the_links_of_the_hubs_client_lead_to_the_blobs_of_the_same_repository(saved, tmp_path):
    own, others = snapshot(saved, tmp_path / "own"), snapshot(saved, tmp_path / "others", "../other/blobs")

    assert isinstance(genhub.AutoPipeline.from_pretrained(own), genhub.GANPipeline)
    with pytest.raises(RepositoryError, match="must be a regular file of the repository"):
        genhub.AutoPipeline.from_pretrained(others)


def test_the_blobs_of_the_hubs_client_may_lie_on_another_disk(saved, tmp_path):
    folder = snapshot(saved, tmp_path / "hub")
    blobs = folder.parents[1] / "blobs"
    blobs.symlink_to(shutil.move(blobs, tmp_path / "other"))

    assert isinstance(genhub.AutoPipeline.from_pretrained(folder), genhub.GANPipeline)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_files_that_are_longer_than_they_may_be_are_refused_before_they_are_read(name, folder, monkeypatch):
    os.truncate(folder / name, 2**33)  # takes no room
    index, digest = read_index(folder), genhub.repository.index.sha256
    read = lambda path: digest(path) if path.stat().st_size < 2**30 else pytest.fail(f"{path} was read")  # noqa: E731
    monkeypatch.setattr("genhub.repository.index.sha256", read)

    with pytest.raises(RepositoryError, match=r"is damaged: .* cannot be read: it (is no whole|has more than)"):
        check_files(folder, index)


def test_a_convolution_has_the_geometry_of_one(tmp_path):
    for name, value in (("downsample_padding", 65), ("kernel_size", [3, 10**5]), ("stride", -100)):
        with pytest.raises(RepositoryError, match=f"`{name}.*` must be at most 64, got"):
            check_integers({name: value}, tmp_path / "config.json", 10**6)
    check_integers({"downsample_padding": 1, "sample_size": 1024}, tmp_path / "config.json", 10**6)
