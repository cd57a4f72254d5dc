"""A repository is loaded by its names, without its code and without pickles; damage is refused."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_pipelines import PIPELINES

import genhub
from genhub.repository.format import RepositoryError
from genhub.repository.load import find_class, find_transformers_class, loading
from genhub.repository.save import record_digests

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
both_ways = pytest.mark.parametrize("load", ["AutoPipeline", "CosineDDPMPipeline"])


@pytest.fixture
def folder(tiny_repo, tmp_path) -> Path:
    """A copy of a repository, to be damaged."""
    return shutil.copytree(tiny_repo, tmp_path / "repo", ignore=shutil.ignore_patterns("training"))


@pytest.fixture
def text_folder(tmp_path) -> Path:
    """A repository with parts of transformers."""
    return genhub.save_repo(PIPELINES["StableDiffusionPipeline"].make(), tmp_path / "text")


def change_index(folder: Path, change):
    """Rewrites model_index.json after `change(index)`."""
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@both_ways
def test_no_code_of_a_folder_is_run(load, folder):
    for path in folder.rglob("*.py"):
        path.write_text("raise RuntimeError('code of the repository was run')")
    record_digests(folder)

    pipeline = getattr(genhub, load).from_pretrained(folder)

    assert type(pipeline) is genhub.CosineDDPMPipeline
    assert type(pipeline.unet) is genhub.LeanUNet2DModel
    assert type(pipeline.scheduler) is genhub.CosineDDPMScheduler


@pytest.mark.parametrize("name", ["genhub", "diffusers", "transformers"])
def test_no_code_of_a_component_is_run_that_bears_the_name_of_a_library(name, text_folder):
    for component in ("unet", "text_encoder", "tokenizer", "scheduler"):
        (text_folder / component / f"{name}.py").write_text("raise RuntimeError('code of the repository was run')")
    record_digests(text_folder)

    is_recorded = name != "genhub"
    refused = pytest.raises(ValueError, match="trust_remote_code") if is_recorded else contextlib.nullcontext()
    with refused:  # diffusers' own words
        genhub.AutoPipeline.from_pretrained(text_folder)


@both_ways
def test_other_arguments_are_those_of_diffusers(load, folder):
    pipeline = getattr(genhub, load).from_pretrained(folder, dtype=torch.bfloat16, use_safetensors=False)

    assert pipeline.unet.dtype == torch.bfloat16


@pytest.mark.parametrize("renewed", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "wrong shape", "missing tensor", "pickle", "missing"])
def test_damaged_weights_are_refused(folder, damage, renewed):
    path = folder / WEIGHTS
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-1000])
    elif damage == "flipped":
        content[-100] ^= 1
        path.write_bytes(content)
    elif damage in ("wrong shape", "missing tensor"):
        tensors = load_file(path)
        del tensors["conv_in.weight"]
        if damage == "wrong shape":
            tensors["conv_in.weight"] = torch.zeros(3)
        save_file(tensors, path, {"format": "pt"})
    else:
        path.unlink()
        if damage == "pickle":
            torch.save({}, folder / "unet/diffusion_pytorch_model.bin")
    if renewed:
        record_digests(folder)
        if damage == "flipped":
            pytest.skip("with a digest of the damage nobody can tell")

    for load in (genhub.AutoPipeline, genhub.CosineDDPMPipeline):
        with pytest.raises(RepositoryError, match=r"diffusion_pytorch_model.safetensors"):
            load.from_pretrained(folder)


@pytest.mark.parametrize("renewed", [False, True])
def test_pickled_weights_of_transformers_are_refused(text_folder, renewed):
    pipeline = PIPELINES["StableDiffusionPipeline"].make()
    (text_folder / "text_encoder/model.safetensors").unlink()
    torch.save(pipeline.text_encoder.state_dict(), text_folder / "text_encoder/pytorch_model.bin")
    if renewed:
        record_digests(text_folder)

    with pytest.raises(RepositoryError, match=r"model\.safetensors"):
        genhub.AutoPipeline.from_pretrained(text_folder)


def test_damaged_weights_of_transformers_are_refused(text_folder):
    path = text_folder / "text_encoder/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)

    with pytest.raises(RepositoryError, match="text_encoder/model.safetensors is damaged"):
        genhub.AutoPipeline.from_pretrained(text_folder)


@both_ways
def test_a_pickle_is_not_loaded_even_beside_other_safetensors(folder, load):
    (folder / WEIGHTS).rename(folder / "unet/diffusion_pytorch_model.other.safetensors")
    torch.save({}, folder / "unet/diffusion_pytorch_model.bin")
    record_digests(folder)

    with pytest.raises(OSError, match="no file named diffusion_pytorch_model.safetensors"):
        getattr(genhub, load).from_pretrained(folder)


def test_a_newer_repository_is_refused(folder):
    change_index(folder, lambda index: index["_genhub"].update(format=2))

    with pytest.raises(RepositoryError, match="newer genhub"):
        genhub.AutoPipeline.from_pretrained(folder)


def test_a_newer_config_is_refused(folder):
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps(config | {"holographic": True}))
    record_digests(folder)

    with pytest.raises(RepositoryError, match="sets holographic, which LeanUNet2DModel as installed does not know"):
        genhub.AutoPipeline.from_pretrained(folder)


@pytest.mark.parametrize("name", ["HolographicUNet", "logging", "utils", "__version__", "DDIMPipeline", "train"])
def test_a_name_that_is_no_model_or_scheduler_is_refused(folder, name):
    change_index(folder, lambda index: index["_genhub"]["components"].update(unet=name))

    with pytest.raises(RepositoryError, match=f"such a class: {name}"):
        genhub.AutoPipeline.from_pretrained(folder)


@pytest.mark.parametrize("name", ["Holographic", "pipeline", "AutoTokenizer", "CLIPTextConfig", "Trainer"])
def test_a_name_that_is_no_model_or_tokenizer_of_transformers_is_refused(text_folder, name):
    change_index(text_folder, lambda index: index["_genhub"]["components"].update(tokenizer=name))

    with pytest.raises(RepositoryError, match=f"no such model or tokenizer: {name}"):
        genhub.AutoPipeline.from_pretrained(text_folder)
    with pytest.raises(RepositoryError, match=f"no such model or tokenizer: {name}"):
        find_transformers_class(name)


def test_a_class_is_found_by_its_public_name_and_kind():
    assert find_class("GANPipeline", genhub.DiffusionPipeline) is genhub.GANPipeline
    assert find_class("DDIMScheduler", genhub.SchedulerMixin).__module__.startswith("diffusers.")
    with pytest.raises(RepositoryError, match="such a class: GANPipeline"):
        find_class("GANPipeline", genhub.SchedulerMixin)


@pytest.mark.parametrize("load", ["AutoPipeline", "GANPipeline"])
def test_a_folder_without_a_pipeline_is_refused(load, tmp_path):
    with pytest.raises(RepositoryError, match="holds no model_index.json"):
        getattr(genhub, load).from_pretrained(tmp_path)


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError, OSError, RepositoryError])
def test_too_little_memory_is_not_the_fault_of_a_repository(error):
    with pytest.raises(error, match="^why$"), loading("user/name"):
        raise error("why")
    with pytest.raises(RepositoryError, match="^user/name cannot be loaded: why$"), loading("user/name"):
        raise RuntimeError("why")
