"""The published recipes as files: listed without PyTorch, read, written, built."""

import inspect
import subprocess
import sys
import time

import pytest
import torch
from diffusers import AutoencoderKL
from tiny import MODELS, tiny_model

from genhub import recipes
from genhub.data import Shape, train_tokenizer
from genhub.objectives import Step
from genhub.recipes.recipe import FROM_DATA
from genhub.utils.randomness import BatchRandom

SHAPE = Shape(1, 8, 8, tuple("0123456789"))
LATENT_SHAPE = Shape(4, 4, 4, SHAPE.class_names)


def tiny(name):
    """A published recipe with tiny models, that leaves to the data what the data decide."""
    sections, overrides = recipes.load(name).sections, {}
    for part, entry in sections["components"].items():
        if (model := MODELS.get(entry.get("class", "").split(".")[-1])) is not None:
            overrides |= {f"components.{part}.{k}": v for k, v in model.arguments.items() if k not in FROM_DATA}
    for number, stage in enumerate(sections.get("stages") or []):  # tiny networks grow once
        if stage.get("objective", {}).get("level", 0) > 1:
            overrides[f"stages.{number}.objective.level"] = 1
    return recipes.load(name, overrides)


def loaded(recipe):
    """Tiny parts in place of those that a recipe loads or learns: autoencoders whose latents have LATENT_SHAPE, and
    networks that denoise images of ten classes."""
    parts = {}
    for part in recipe.pretrained:
        is_encoder = part == recipe.data.encode
        parts[part] = autoencoder() if is_encoder else tiny_model("PatchUNet2DModel", num_class_embeds=11)
    return parts | ({"tokenizer": train_tokenizer(["a bag", "a coat"], 8)} if recipe.data.captions else {})


def autoencoder() -> AutoencoderKL:
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    sizes = {"block_out_channels": [4, 4], "latent_channels": 4, "norm_num_groups": 2, "sample_size": 8}
    return AutoencoderKL(in_channels=1, out_channels=1, **blocks, **sizes)


def test_recipes_are_listed_and_described_by_the_standard_library_alone():
    script = """
import sys
before = set(sys.modules)
from genhub import recipes
print(*[f"{name}: {recipes.describe(name)}" for name in recipes.names()], sep="\\n")
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert new - sys.stdlib_module_names == {"genhub"}, new
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name}: {recipes.describe(name)}" for name in recipes.names()]


def test_a_recipe_is_checked_in_a_twentieth_of_the_time_of_a_training_run():
    recipes.load("stylegan")

    start = time.process_time()
    recipes.load("stylegan")

    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("name", recipes.names())
def test_a_published_recipe_says_what_it_is_and_survives_writing_and_reading(name, tmp_path):
    recipe = recipes.load(name)

    (tmp_path / "again.yaml").write_text(recipe.text)
    again = recipes.load(tmp_path / "again.yaml")

    assert (again.sections, again.text, recipe.name) == (recipe.sections, recipe.text, name)
    assert (recipe.is_published, again.is_published) == (True, False)
    described, whole = recipes.describe(name), recipe.comment.replace("\n# ", " ").removeprefix("# ")
    assert whole.startswith(described)
    assert described.endswith(".")
    for part, spec in recipe.components.items():  # in full size, which takes no memory there
        with torch.device("meta" if issubclass(spec.cls, torch.nn.Module) else "cpu"):
            assert isinstance(recipe.build_component(part, Shape(1, 28, 28, SHAPE.class_names, 10)), spec.cls)


@pytest.mark.parametrize("name", recipes.names())
def test_a_published_recipe_builds_parts_that_can_be_trained_and_a_pipeline_that_works(name):
    recipe = tiny(name)
    shape = SHAPE if recipe.data.encode is None else LATENT_SHAPE
    sample = torch.zeros(2, shape.channels, shape.height, shape.width)
    batch = {
        "sample": sample,
        "labels": torch.tensor([0, 1]),
        "input_ids": torch.tensor([[0, 2, *[1] * 6], [0, *[1] * 7]]),
    }

    components = recipe.build_components(SHAPE, LATENT_SHAPE, loaded(recipe))
    configs = [getattr(part, "config", None) for part in components.values()]
    conditional = any(getattr(config, "num_class_embeds", None) for config in configs)
    pipe = recipe.build_pipeline(components)
    pipe.set_progress_bar_config(disable=True)

    for stage in recipe.stages:
        objective = stage.objective.build(**components)
        assert set(stage.optimizers) == {phase.trains for phase in objective.phases}
        for phase in objective.phases:
            terms = phase.loss(batch, Step(0, 0.0, BatchRandom(0, rows=range(2), total=2)))
            assert all(term.isfinite() for term in terms.values())
    arguments = {"image": torch.zeros(2, 1, 8, 8), "batch_size": 2, "num_inference_steps": 2, "output_type": "pt"}
    arguments |= {"class_labels": [0, 1]} if conditional else {}
    arguments |= {"prompt": ["a bag", "a coat"], "height": 8, "width": 8} if recipe.data.captions else {}
    known = inspect.signature(pipe.__call__).parameters
    output = pipe(**{key: value for key, value in arguments.items() if key in known})
    assert output.images.shape == (2, 1, 8, 8) if "images" in output else output.labels.shape == (2,)
