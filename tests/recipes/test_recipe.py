"""A recipe as a whole: every mistake is named before any work starts, and its parts fit the data and each other."""

import pytest
import torch
import yaml
from tiny import MODELS

from genhub import recipes
from genhub.data import Images, Shape
from genhub.recipes.recipe import FROM_DATA, Recipe
from genhub.recipes.sections import merge

QUICK = "ddpm-quick"
SHAPE = Shape(1, 8, 8, tuple("0123456789"), num_classes=10)
UNET = "components.unet"


def quick(key, value):
    return recipes.load(QUICK, {key: value})


def tiny(name, **changes):
    """A published recipe with a tiny network, that leaves to the data what the data decide."""
    ((part, entry),) = [item for item in recipes.load(name).sections["components"].items() if item[0] != "scheduler"]
    model = MODELS[entry["class"].split(".")[-1]]
    arguments = {key: value for key, value in model.arguments.items() if key not in FROM_DATA} | changes
    return recipes.load(name, {f"components.{part}.{key}": value for key, value in arguments.items()})


def unconditional(recipe):
    """The same experiment without classes."""
    changes = {"components": {"unet": {"num_class_embeds": None}}, "objective": {"label_dropout": 0.0}}
    sections = merge(recipe.sections, changes)
    for key in ("num_classes", "guidance_scale"):
        sections["pipeline"].pop(key, None)
    return Recipe(sections, "mine")


def test_a_number_may_be_written_as_yaml_1_1_does_not_know_it(tmp_path):
    (tmp_path / "mine.yaml").write_text(recipes.load(QUICK).text.replace("lr: 0.006", "lr: 1e-4"))

    ((optimizer, _),) = recipes.load(tmp_path / "mine.yaml").stages[0].optimizers.values()

    assert optimizer.arguments["lr"] == 1e-4


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (f"{UNET}.patch_sze", 1, "no `components.unet.patch_sze` .did you mean 'patch_size'"),
        ("pipeline.num_inference_step", 1, "no `pipeline.num_inference_step` .did you mean 'num_inference_steps'"),
        ("training.ema.unett", 0.5, "no `training.ema.unett` .did you mean 'unet'"),
        ("evaluation.arguments.num_inference_step", 1, "no `evaluation.arguments.num_inference_step` .did you mean"),
        ("evaluation.arguments.batch_size", 1, "no `evaluation.arguments.batch_size`"),
        (f"{UNET}.block_out_channels", [8, "a"], r"`components.unet.block_out_channels` must be .*, got \[8, 'a'\]"),
        (f"{UNET}.patch_size", None, "`components.unet.patch_size` must be a whole number, got None"),
        *((part, 5, f"`{part}` must .*, got 5") for part in ("name", "data", "components", "pipeline", UNET)),
        *((part, 5, f"`{part}` must .*, got 5") for part in ("training", "evaluation", "reported")),
        ("name", "../mine", "`name` must be letters, digits, .*, got '../mine'"),
        ("reported.fid", "low", "`reported.fid` must be a number, got 'low'"),
        ("reported.fid", True, "`reported.fid` must be a number, got True"),
        (
            "components",
            {"unet": recipes.load(QUICK).sections["components"]["unet"]},
            "must hold scheduler: genhub.Cosi",
        ),
        (UNET, {"patch_size": 2}, "`components.unet` must name a `class`"),
    ],
)
def test_a_mistake_is_refused_by_name_and_value_and_the_nearest_name_given(key, value, message):
    with pytest.raises(ValueError, match=message):
        quick(key, value)


@pytest.mark.parametrize("name", ["ddpm-quik", "DDPM_quick"])
def test_an_unknown_recipe_is_refused_and_the_nearest_name_given(name):
    with pytest.raises(ValueError, match=f"no recipe '{name}' .did you mean 'ddpm-quick'"):
        recipes.load(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "must be a mapping, got .'a', 'b'."),
        ("", "must be a mapping, got None"),
        ("just words", "must be a mapping, got 'just words'"),
        ("a: [1\n", "is not YAML"),
        ("a: !!python/object/apply:sys.exit []\n", "is not YAML"),
        ("components: {}\npipeline: {}\n", r"recipe mine must have the section\(s\) objective, optimizers"),
    ],
    ids=["list", "empty", "words", "broken", "code", "half"],
)
def test_a_file_that_is_no_recipe_is_refused(text, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)

    with pytest.raises(ValueError, match=message):
        recipes.load(tmp_path / "mine.yaml")


# ---- what the data decide


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (QUICK, {"in_channels": 3}, "`components.unet.in_channels` is 3, the images have 1 channel"),
        ("ddpm", {"out_channels": 3}, "`components.unet.out_channels` is 3, the images have 1 channel"),
        (QUICK, {"sample_size": 16}, "`components.unet.sample_size` is 16, the images are 8x8"),
        (QUICK, {"num_class_embeds": 9}, "`components.unet.num_class_embeds` is 9, the data set has 10 classes"),
        ("feature-classifier", {"in_channels": 3}, "`components.classifier.in_channels` is 3, the images have 1"),
        ("feature-classifier", {"num_classes": 9}, "`components.classifier.num_classes` is 9, .* has 10 classes"),
        (QUICK, {"patch_size": 3}, "`components.unet`: `sample_size` must be divisible by 6"),
        ("ddpm", {"norm_num_groups": 3}, "`components.unet`"),
    ],
)
def test_a_part_that_does_not_fit_the_images_is_refused_and_both_are_named(recipe, changes, message):
    recipe = tiny(recipe, **changes)

    labelled = Images(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), torch.arange(10), SHAPE.class_names)

    def build_and_check():
        objective = recipe.stages[0].objective.build(**recipe.build_components(SHAPE))
        objective.check(SHAPE)
        objective.check_labels(labelled)

    with pytest.raises(ValueError, match=message):
        build_and_check()


@pytest.mark.parametrize(("shape", "size"), [(Shape(3, 8, 8, mean=-0.1, std=0.3), 8), (Shape(1, 8, 16), [8, 16])])
def test_what_the_data_decide_is_filled_in_and_written_down(shape, size):
    recipe = unconditional(tiny(QUICK))

    unet = recipe.build_components(shape)["unet"]

    written = yaml.safe_load(recipe.text)["components"]["unet"]
    assert (written["in_channels"], written["sample_size"]) == (shape.channels, size)
    assert (written.get("data_mean"), written.get("data_std")) == (shape.mean, shape.std)
    assert unet(torch.zeros(1, shape.channels, shape.height, shape.width), 0).sample.shape[1] == shape.channels


@pytest.mark.parametrize(("num_classes", "embeds"), [(None, None), (2, 3), (10, 11)])
def test_automatic_classes_are_those_of_the_data_and_the_null_class(num_classes, embeds):
    recipe = tiny(QUICK, num_class_embeds="auto")
    shape = Shape(1, 8, 8, num_classes=num_classes)

    components = recipe.build_components(shape)
    pipeline = recipe.build_pipeline(components)

    assert components["unet"].config["num_class_embeds"] == embeds
    assert yaml.safe_load(recipe.text)["components"]["unet"]["num_class_embeds"] == embeds
    assert (pipeline.config["num_classes"], pipeline.has_null_class) == (num_classes, num_classes is not None)
    recipe.stages[0].objective.build(**components)  # nothing to drop is no mistake


OWN_PIPELINE = """
from diffusers import DiffusionPipeline
class Pipeline(DiffusionPipeline):
    def __init__(self, unet, scheduler, num_classes: int | None = None):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(num_classes=num_classes)
"""


@pytest.mark.parametrize(
    ("num_class_embeds", "written", "num_classes"), [(None, {}, None), (11, {}, 10), (11, {"num_classes": 9}, 9)]
)
def test_the_pipeline_of_a_conditional_network_is_told_the_number_of_classes(
    num_class_embeds, written, num_classes, tmp_path, monkeypatch
):
    (tmp_path / "own_pipeline.py").write_text(OWN_PIPELINE)
    monkeypatch.syspath_prepend(tmp_path)
    sections = unconditional(tiny(QUICK)).sections
    sections["components"]["unet"]["num_class_embeds"] = num_class_embeds
    sections["pipeline"] = {"class": "own_pipeline.Pipeline"} | written
    recipe = Recipe(sections, "mine", trust_code=True)

    pipeline = recipe.build_pipeline(recipe.build_components(SHAPE))

    assert pipeline.config.num_classes == num_classes
    assert recipe.sections["pipeline"].get("num_classes") == num_classes
