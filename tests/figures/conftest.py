"""Tiny repositories to draw, and what was drawn of them."""

import inspect
import json
from pathlib import Path

import pytest
import torch
import yaml
from tiny import tiny_model

import genhub
from genhub import GANPipeline, data, plotting, recipes, train

RECIPES = Path(genhub.__file__).parent / "recipes"
DIFFUSION = ("ddpm-quick",)  # saved at tiny size
POINTS = ("linear-ae-pca",)  # of their own data
TRAINED = ("stacked-ae", "vae")  # with a training folder; the others are saved with random weights
GENERATORS = {  # recipe -> class, variant and changes of the generator that its repository holds here
    "gan": ("DenseGenerator", "plain", {}),
    "gan-best": ("DenseGenerator", "plain", {"sample_size": 28, "hidden_sizes": [8]}),  # of Fashion MNIST's size
    "dcgan": ("DCGANGenerator", "colour", {}),
    "conditional-dcgan": ("DCGANGenerator", "conditional", {"num_class_embeds": 10}),
    "progressive-gan": ("ProgressiveGenerator", "margin", {}),
    "stylegan": ("StyleGANGenerator", "plain", {"block_out_channels": [4, 4, 8], "sample_size": 16}),
}


def game_log(count=8, warnings=()) -> str:
    """The log of a game: 100 images a step, and numbers that rise by 1 from one record to the next."""
    keys = ["D(real)", "D(fake)", "spread", "real_spread", "grad_norm"]
    keys = [*(f"discriminator/{key}" for key in keys), "generator/grad_norm"]
    records = [
        {"step": 10 * step, "images": 1000 * step} | {key: float(step + number) for number, key in enumerate(keys)}
        for step in range(1, count + 1)
    ]
    records += [{"step": step, "warning": name, "message": "Try another."} for step, name in warnings]
    return "".join(json.dumps(record) + "\n" for record in sorted(records, key=lambda record: record["step"]))


def save_gan(name: str, folder: Path, source: str):
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    recipe["data"] = {"source": "sample" if name == "gan-best" else source, "val_size": 16}
    model, variant, changes = GENERATORS[name]
    pipeline = GANPipeline(tiny_model(model, variant, **changes))
    genhub.save_repo(pipeline, folder, {"recipe.yaml": yaml.safe_dump(recipe)})
    (folder / "training").mkdir()
    (folder / "training/metrics.jsonl").write_text(game_log(warnings=[(35, "mode collapse"), (35, "oscillation")]))


def save_untrained(name: str, folder: Path, overrides: dict):
    recipe = recipes.load(name, overrides)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = recipe.build_pipeline(recipe.build_components(data.load(recipe.data).shape))
    genhub.save_repo(pipeline, folder, {"recipe.yaml": recipe.text})


@pytest.fixture(scope="session")
def repos(tmp_path_factory, tiny_always):
    """Returns a function: name of a recipe -> its tiny repository, made when it is first asked for. Read only."""
    root, source = tmp_path_factory.mktemp("repos"), tiny_always["data.source"]
    overrides = {"data.source": source, "data.val_size": 16}
    training = {"batch_size": 16, "max_steps": 3, "num_samples": 4, "sample_every": 1, "validate_every": 0}
    training = {f"training.{key}": value for key, value in training.items()}

    def repo(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            if name in GENERATORS:
                save_gan(name, folder, source)
            elif name in TRAINED:
                train(name, folder, overrides=overrides | training)
            else:
                save_untrained(name, folder, tiny_always if name in DIFFUSION else {} if name in POINTS else overrides)
        return folder

    return repo


@pytest.fixture(name="game_log")
def _game_log():
    return game_log


@pytest.fixture
def drawing(monkeypatch):
    """What the functions that draw were last called with: function -> argument -> value."""
    seen = {}
    names = (
        *("image_rows", "image_plane", "image_map", "point_maps", "histograms", "chart", "chart_png", "gif"),
        *("space", "diagram"),
    )
    for name in names:
        draw = getattr(plotting, name)

        def spy(*args, name=name, draw=draw, **kwargs):
            seen[name] = inspect.signature(draw).bind(*args, **kwargs).arguments
            return draw(*args, **kwargs)

        monkeypatch.setattr(plotting, name, spy)
    return seen


@pytest.fixture
def held_out(tiny_always):
    """The validation images of the tiny repositories."""
    return data.load(data.DataConfig(source=tiny_always["data.source"], val_size=16), "val")
