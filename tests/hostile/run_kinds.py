"""Runs: recipes, checkpoints, records, `metrics.json`, the shares of time.

A checkpoint whose manifest does not fit is set aside, and the one before it is read; one with a right manifest is read
as it is, or refused. A recipe and a record may say anything that is valid, but no code of theirs is run.
"""

import functools
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from worlds import same_bits

import genhub
from genhub import recipes
from genhub.commands.figure import figure
from genhub.repository.card_results import with_results
from genhub.repository.metrics import read_metrics as metrics_of
from genhub.training.checkpoint import MANIFEST, load_newest
from genhub.training.run_folder import RunFolder, truncate_log
from genhub.utils.files import sha256
from hostile.kind import Kind, Value, always, equal
from hostile.mutate import Mutation, mutate_bytes, mutate_json, mutate_place, mutate_yaml

GAN = "gan"
TINY = {
    "data.source": "sample",
    "data.labelled": 20,
    "training.batch_size": 4,
    "training.epochs": 1,
    "training.max_steps": 3,
    "training.num_samples": 2,
    "training.validate_every": 0,
    "training.sample_every": 1,
    "training.checkpoint_every": 1,
    "training.log_every": 1,
    "training.keep_checkpoints": 2,
    "evaluation.every": 0,
}
RECIPES = (
    "ddpm-quick",
    "progressive-gan",
    "text-to-image",
    "stacked-ae",
    "vae-best",
    "latent-ddpm",
    "conditional-dcgan",
)
MARK = "hostile_module"  # a module of the working folder, which nothing may import
OVERRIDES = [f"--{key}={json.dumps(value)}" for key, value in TINY.items()]


@functools.cache
def trained() -> tempfile.TemporaryDirectory:
    """Trains a tiny GAN, once for all kinds of files of a run."""
    folder = tempfile.TemporaryDirectory(prefix="hostile-")
    genhub.train(GAN, Path(folder.name) / "run", overrides=TINY)
    return folder


def make_run(folder: Path):
    shutil.copytree(trained().name, folder)


def make_recipes(folder: Path):
    folder.mkdir(parents=True)
    for name in RECIPES:
        shutil.copy(recipes.path(name), folder)


def read_recipes(folder: Path) -> Value:
    """Reads every recipe; what it read it writes, and reads as the same."""
    found = {}
    for path in sorted(folder.iterdir()):
        recipe = recipes.load(path)
        if MARK in sys.modules:
            raise AssertionError("a module of the working folder was imported")
        again = path.with_name("again.yaml")
        again.write_text(recipe.text)
        if recipes.load(again).sections != recipe.sections:
            raise AssertionError("written and read, the recipe is another one")
        again.unlink()
        found[path.name] = recipe.sections
    return found


def read_checkpoint(folder: Path) -> Value:
    """Loads the state that a resumed run goes on from."""
    state = load_newest(folder / "run/training/checkpoints")
    if state is None:
        raise ValueError("There is no checkpoint: the run begins anew.")
    return {"state": state}


def permits_earlier(found: Value, original: Value, folder: Path) -> bool:
    """Of a damaged checkpoint: the state of the one before it."""
    _, before = sorted(Path(trained().name, "run/training/checkpoints").glob("step-*"), reverse=True)
    return equal(found["state"], torch.load(before / "state.pt", weights_only=True))


def rehashed(mutation: Mutation) -> Mutation:
    """Returns the mutation of one who writes a right manifest of what he changed."""

    def mutate(rng: random.Random, folder: Path, file: Path) -> str:
        what = mutation(rng, folder, file)
        path = file.parent / MANIFEST
        manifest = json.loads(path.read_text())
        for name in manifest["files"]:
            if (file.parent / name).is_file():
                size = (file.parent / name).stat().st_size
                manifest["files"][name] = {"bytes": size, "sha256": sha256(file.parent / name)}
        path.write_text(json.dumps(manifest))
        return f"{what}, with its manifest"

    return mutate


def mutate_state(rng: random.Random, folder: Path, file: Path) -> str:
    """Writes another state: evil pickles, other types, parts that are missing."""
    state = torch.load(file, weights_only=True)
    name = rng.choice(sorted(state))
    way = rng.choice(("pickle", "none", "list", "missing", "nested", "empty", "tensor"))
    if way == "pickle":
        state[name] = Evil()
    elif way == "missing":
        del state[name]
    else:
        state[name] = {"none": None, "list": [1], "nested": {"a": {}}, "empty": {}, "tensor": torch.ones(3)}[way]
    torch.save([] if way == "list" and rng.random() < 0.3 else state, file)
    return f"{name}: {way}"


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return (exec, (f"import sys; sys.modules[{MARK!r}] = None",))


def read_records(folder: Path) -> Value:
    """Reads the records as a resumed run and as a figure do."""
    run = folder / "run"
    figure("game", str(run), output=str(folder.parent / "game.png"))
    truncate_log(run / "training/metrics.jsonl", 2)
    return {"records": (run / "training/metrics.jsonl").read_text()}


def read_metrics(folder: Path) -> Value:
    """Reads what an evaluation and a card need of `metrics.json`."""
    run = folder / "run"
    figure_of_times(run, folder.parent / "times.png")
    metrics = metrics_of(run / "metrics.json")
    return {"card": with_results((run / "README.md").read_text(), metrics), "metrics": metrics}


def figure_of_times(run: Path, output: Path):
    figure("sampling-time", str(run), output=str(output))


def make_metrics(folder: Path):
    """Writes a run with the evaluations of a published model."""
    published = Path(genhub.__file__).parent.parent / "model_cards/ddpm-quick"
    shutil.copytree(published, folder / "run", ignore=shutil.ignore_patterns("*.png", "*.gif"))


def make_shares(folder: Path):
    folder.mkdir(parents=True)
    np.save(folder / "shares.npy", np.linspace(0, 1, 9))


def read_shares(folder: Path) -> Value:
    return {"shares": RunFolder.read_shares(folder / "shares.npy")}


def permits_shares(found: Value, original: Value, folder: Path) -> bool:
    """Of an array without a checksum: any shares from 0 to 1."""
    return all(0 <= share <= 1 for share in found["shares"])


def resume(folder: Path) -> list[str]:
    return ["train", "--resume", str(folder / "run")]


def leaves_same(folder: Path) -> bool:
    """Whether a resumed run has the weights of an undisturbed one."""
    return same_bits(Path(trained().name, "run"), folder / "run")


def draw(name: str):
    return lambda folder: ["figure", name, str(folder / "run"), "--output", str(folder.parent / f"{name}.png")]


def train_recipes(folder: Path) -> list[str]:
    """Trains the recipe that was changed, for one step on few images."""
    changed = max(folder.glob("*.yaml"), key=lambda path: path.lstat().st_mtime_ns, default=folder / "none.yaml")
    few = ["--training.max_steps=1", "--training.max_minutes=null", "--training.batch_size=2"]
    few += ["--data.source=sample", "--data.labelled=10", "--evaluation.every=0", "--training.num_samples=1"]
    few += ["--training.sample_every=0", "--training.validate_every=0", "--training.mixed_precision=no"]
    return ["train", str(changed), "--output_dir", str(folder.parent / "out"), *few]


CHECKPOINTS = "run/training/checkpoints/step-00000003"
KINDS = {
    "recipe": Kind(
        make_recipes,
        ("*.yaml",),
        (mutate_yaml,) * 6 + (mutate_bytes, mutate_place),
        read_recipes,
        always,
        (train_recipes,),
        follows_links=True,
    ),
    "checkpoint": Kind(
        make_run,
        (f"{CHECKPOINTS}/*",),
        (mutate_bytes, mutate_bytes, mutate_place),
        read_checkpoint,
        permits_earlier,
        (resume,),
        leaves_same,
        follows_links=True,
    ),
    "checkpoint, manifest": Kind(
        make_run,
        (f"{CHECKPOINTS}/{MANIFEST}",),
        (mutate_json,),
        read_checkpoint,
        permits_earlier,
        (resume,),
        leaves_same,
        True,
    ),
    "checkpoint, hashed anew": Kind(
        make_run,
        (f"{CHECKPOINTS}/state.pt",),
        (rehashed(mutate_bytes), rehashed(mutate_state)),
        read_checkpoint,
        always,
        (resume,),
        follows_links=True,
    ),
    "metrics.jsonl": Kind(
        make_run,
        ("run/training/metrics.jsonl",),
        (mutate_json, mutate_json, mutate_bytes, mutate_place),
        read_records,
        always,
        (resume, draw("game")),
        leaves_same,
        follows_links=True,
    ),
    "metrics.json": Kind(
        make_metrics,
        ("run/metrics.json",),
        (mutate_json,) * 5 + (mutate_bytes, mutate_place),
        read_metrics,
        always,
        (draw("sampling-time"),),
        follows_links=True,
    ),
    "recipe.yaml of a run": Kind(
        make_run,
        ("run/recipe.yaml",),
        (mutate_yaml,) * 3 + (mutate_bytes, mutate_place),
        lambda folder: {"sections": recipes.load(folder / "run").sections},
        always,
        (resume, draw("milestones")),
        follows_links=True,
    ),
    "shares.npy": Kind(
        make_shares, ("*.npy",), (mutate_bytes, mutate_place), read_shares, permits_shares, follows_links=True
    ),
}
