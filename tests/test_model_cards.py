"""The published models: each loads with genhub and without it, and its card tells the truth about what lies beside
it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from huggingface_hub import ModelCard
from safetensors import safe_open

import genhub
from genhub import recipes
from genhub.cli import split_overrides
from genhub.commands.subject import load_subject
from genhub.recipes.sections import resume_conflicts
from genhub.repository.card_results import to_show, with_results
from genhub.repository.index import read_index
from genhub.repository.push import repo_files
from genhub.utils.files import sha256

CARDS = Path(__file__).parent.parent / "model_cards"
PACKAGE = Path(genhub.__file__).parent
FOLDERS = sorted(path for path in CARDS.iterdir() if path.is_dir())
every_card = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
UNPUBLISHED = (  # nor evaluated
    *("conv-ae-cifar10", "conv-vae-cifar10", "ddpm", "feature-classifier"),
)

MADE = """
import math, torch

def made(pipe):
    generator = torch.Generator().manual_seed(0)
    if "text_encoder" in pipe.components:
        call = {"num_inference_steps": 3, "generator": generator, "output_type": "np"}
        return pipe(["a bag", "a dark ankle boot"], **call).images
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    part = parts.get("unet") or next(iter(parts.values()))
    size = part.config.get("sample_size") or 28
    channels = part.config.get("in_channels") or part.config.out_channels
    shape = (channels, *((size, size) if isinstance(size, int) else size))
    images = torch.linspace(0, 1, 4 * math.prod(shape)).reshape(4, *shape)
    if "autoencoder" in pipe.components:
        return pipe.encode(images).numpy()
    if "classifier" in pipe.components:
        return pipe(images).probabilities.numpy()
    asked = {"class_labels": [0, 1, 2, 3]} if part.config.get("num_class_embeds") else {}
    return pipe(batch_size=4, generator=generator, output_type="pt", **asked).images.numpy()
"""
PLAIN = """
import sys
sys.modules["genhub"] = None  # an import of it fails
import numpy, pathlib
from diffusers import AutoModel, DiffusionPipeline

for folder in map(pathlib.Path, sys.argv[2:]):
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    if "auto_map" in (folder / "model_index.json").read_text():
        (name,) = (name for name, part in pipe.components.items() if isinstance(part, torch.nn.Module))
        AutoModel.from_pretrained(str(folder), subfolder=name, trust_remote_code=True)
    numpy.save(pathlib.Path(sys.argv[1]) / f"{folder.name}.npy", made(pipe))
"""


def test_every_recipe_that_was_trained_in_full_is_published():
    assert sorted(folder.name for folder in FOLDERS) == sorted({*recipes.names()} - {*UNPUBLISHED})


@every_card
def test_weights_are_small_float32_safetensors(folder):
    limits = {"generator": 5, "unet": 8, "text_encoder": 12}  # MB
    weights, most = list(folder.rglob("*.safetensors")), max(limits.get(part.name, 3) for part in folder.iterdir())

    assert 0 < sum(path.stat().st_size for path in weights) < most * 10**6
    for path in weights:
        with safe_open(path, "pt") as file:
            tensors = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118
        assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float32}


@every_card
def test_configs_and_sources_are_those_that_the_index_records(folder):
    own = read_index(folder)["_genhub"]
    sources = [path.relative_to(folder).as_posix() for path in folder.rglob("*.py")]

    changed = [name for name, digest in (own["sha256"] | own["texts"]).items() if sha256(folder / name) != digest]

    renew = f"genhub.repository.save.record_digests(Path('model_cards/{folder.name}')) renews what was meant to change"
    assert changed == [], renew
    assert {*sources} <= own["texts"].keys(), renew


@every_card
def test_another_scheduler_of_the_same_config_clips_no_latents(folder):
    pipeline = genhub.AutoPipeline.from_pretrained(folder)
    if {"vae", "scheduler"} <= {name for name, part in pipeline.components.items() if part is not None}:
        for cls in (DDIMScheduler, DDPMScheduler, genhub.CosineDDPMScheduler):
            assert cls.from_config(pipeline.scheduler.config).config.clip_sample is False


@every_card
def test_the_card_parses_and_its_results_are_those_of_its_metrics(folder):
    text, metrics = (folder / "README.md").read_text(), json.loads((folder / "metrics.json").read_text())

    assert ModelCard(text).data.to_dict()["library_name"] == "diffusers"
    assert with_results(text, metrics) == text
    assert to_show(metrics) or {"val_accuracy"} <= {row["name"] for row in metrics["results"]}
    assert [name for name in re.findall(r"\]\(([^)/:]+)\)", text) if not (folder / name).is_file()] == []
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == repo_files(folder)


@every_card
def test_its_evaluations_are_of_the_weights_and_configs_that_are_published(folder):
    evaluations = json.loads((folder / "metrics.json").read_text()).get("evaluations", [])

    key = load_subject(str(folder), "cpu").key

    assert {evaluation["repository"] for evaluation in evaluations} <= {key}


@every_card
def test_the_recipe_beside_the_weights_builds_the_model_that_they_are_of(folder):
    recipe, pipeline = recipes.load(folder), genhub.AutoPipeline.from_pretrained(folder)

    for name, part in pipeline.components.items():  # a discriminator stays behind
        if part is None or name not in recipe.components:  # loaded whole, or a tokenizer, which is learnt
            continue
        spec = recipe.components[name]
        assert spec.cls is type(part)
        built = spec.build()
        if hasattr(part, "to_json_string"):  # what a recipe does not name has its value by default
            wanted, found = (json.loads(each.to_json_string()) for each in (built, part))
            told = {key for key in wanted if key[0] != "_" and key != "level"}  # at which a growing one begins
            assert {key: wanted[key] for key in told} == {key: found[key] for key in told}
        if not isinstance(part, torch.nn.Module):
            continue
        assert {k: v.shape for k, v in built.state_dict().items()} == {
            k: v.shape for k, v in part.state_dict().items()
        }


@every_card
def test_the_command_of_the_card_trains_the_recipe_beside_it(folder):
    command = re.search(r"^genhub train (.+)$", (folder / "README.md").read_text(), re.MULTILINE)[1]
    name, *words = command.split("  #")[0].split()
    own = recipes.load(folder)

    told = recipes.load(folder / name if name == "recipe.yaml" else name, split_overrides(words)[1])

    assert resume_conflicts(told.sections, own.sections) == []
    assert [stage.training for stage in told.stages] == [stage.training for stage in own.stages]


def test_plain_diffusers_loads_every_model_and_makes_the_same(tmp_path):
    env = dict(os.environ) | {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    env.pop("PYTHONPATH", None)
    exec(MADE, scope := {})

    command = [sys.executable, "-c", MADE + PLAIN, tmp_path, *FOLDERS]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd="/", timeout=500)

    assert done.returncode == 0, done.stderr
    assert "not expected" not in done.stderr
    for folder in FOLDERS:
        ours = scope["made"](genhub.AutoPipeline.from_pretrained(folder))
        theirs = np.load(tmp_path / f"{folder.name}.npy")
        assert ours.std() > 0
        np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.slow
@every_card
def test_the_command_of_the_card_trains(folder, tmp_path):
    recipe = recipes.load(folder)
    overrides = {"training.max_steps": 2, **{f"components.{name}.weights": None for name in recipe.weights}}
    if recipe.data.source != "points":
        overrides |= {"data.source": "sample", "data.val_size": 500}

    run = genhub.train(folder / "recipe.yaml", tmp_path / "run", overrides=overrides)

    assert (run / "model_index.json").is_file()


@every_card
def test_every_row_of_a_table_has_as_many_cells_as_its_head(folder):
    rows = [line for line in (folder / "README.md").read_text().split("\n") if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]

    heads = [place for place, row in enumerate(rows) if place + 1 < len(rows) and set(rows[place + 1]) <= set("|-")]
    for head, after in zip(heads, [*heads[1:], len(rows)], strict=True):
        assert set(cells[head:after]) == {cells[head]}
