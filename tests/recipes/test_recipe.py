"""Recipes: every published one can be read, written and built, and every mistake is named before any work starts."""

import inspect

import pytest
import torch
import yaml
from tiny import MODELS

from genhub.data import Shape
from genhub.objectives import Step
from genhub.recipes.recipe import FROM_DATA, FROM_LENGTH, describe, load_recipe, merge, recipe_names, same_experiment
from genhub.utils.randomness import BatchRandom

QUICK = "ddpm-quick"
SHAPE = Shape(1, 8, 8, tuple("0123456789"))
UNET, SCHEDULE = "components.unet", "optimizers.unet.schedule"
SECTIONS = load_recipe(QUICK).sections


def quick(key, value):
    return load_recipe(QUICK, {key: value})


def tiny(recipe, **changes):
    """The recipe with tiny models, that leaves to the data what the data decide."""
    overrides = {}
    for part, entry in load_recipe(recipe).sections["components"].items():
        if (found := MODELS.get(entry["class"].split(".")[-1])) is not None:
            small = {key: value for key, value in found.arguments.items() if key not in FROM_DATA}
            overrides |= {f"components.{part}.{key}": value for key, value in (small | changes).items()}
    stages = load_recipe(recipe).sections.get("stages") or []
    for number, stage in enumerate(stages):  # tiny networks grow once
        if stage.get("objective", {}).get("level", 0) > 1:
            overrides[f"stages.{number}.objective.level"] = 1
    return load_recipe(recipe, overrides)


def leaves(sections, prefix=""):
    for key, value in sections.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


@pytest.mark.parametrize("name", recipe_names())
def test_a_published_recipe_says_what_it_is_and_survives_writing_and_reading(name, tmp_path):
    recipe = load_recipe(name)

    (tmp_path / "again.yaml").write_text(recipe.text)
    again = load_recipe(tmp_path / "again.yaml")

    assert (again.sections, again.text, recipe.name) == (recipe.sections, recipe.text, name)
    assert describe(name)
    assert recipe.text.startswith(f"# {describe(name)}\n")
    with torch.device("meta"):
        assert recipe.build_components(Shape(1, 28, 28, SHAPE.class_names)).keys() == recipe.components.keys()


@pytest.mark.parametrize("name", recipe_names())
def test_a_published_recipe_builds_parts_that_can_be_trained_and_a_pipeline_that_works(name):
    recipe = tiny(name)
    batch = {"sample": torch.zeros(2, 1, 8, 8), "labels": torch.tensor([0, 1])}

    components = recipe.build_components(SHAPE)
    conditional = any(part.config.get("num_class_embeds") for part in components.values())
    pipe = recipe.build_pipeline(components)
    pipe.set_progress_bar_config(disable=True)

    for stage in recipe.stages:
        objective = stage.objective.build(**components)
        assert set(stage.optimizers) == {phase.trains for phase in objective.phases}
        for phase in objective.phases:
            terms = phase.loss(batch, Step(0, 0.0, BatchRandom(0, rows=range(2), total=2)))
            assert all(term.isfinite() for term in terms.values())
    offered = {"image": torch.zeros(2, 1, 8, 8), "batch_size": 2, "num_inference_steps": 2, "output_type": "pt"}
    offered |= {"class_labels": [0, 1]} if conditional else {}
    made = pipe(**{key: value for key, value in offered.items() if key in inspect.signature(pipe.__call__).parameters})
    assert made.images.shape == (2, 1, 8, 8) if "images" in made else made.labels.shape == (2,)


@pytest.mark.parametrize(("key", "value"), leaves(SECTIONS))
def test_every_value_of_a_recipe_can_be_overridden_and_nothing_else_changes(key, value):
    new = {int: 7, float: 0.5, bool: False, str: value, list: value[::-1] if isinstance(value, list) else None}
    new = new[type(value)]

    recipe = quick(key, new)

    assert dict(leaves(recipe.sections)) == dict(leaves(SECTIONS)) | {key: new}


def test_an_override_changes_one_of_two_entries_that_the_recipe_writes_once():
    recipe = load_recipe("gan", {"optimizers.generator.lr": 0.5})

    rates = {name: spec.arguments["lr"] for name, (spec, _) in recipe.stages[0].optimizers.items()}
    assert rates == {"generator": 0.5, "discriminator": 1e-3}
    assert "&" not in recipe.text.partition("data:")[2]


def test_an_override_may_name_what_the_recipe_leaves_out_and_one_entry_of_a_list():
    new = {"training.max_steps": 3, "training.ema.unet": 0.5, f"{UNET}.block_out_channels.0": 32}

    recipe = load_recipe(QUICK, new)

    assert (recipe.training.max_steps, recipe.training.ema) == (3, {"unet": 0.5})
    assert recipe.components["unet"].arguments["block_out_channels"] == (32, 128)


def test_a_number_may_be_written_as_yaml_does_not_know_it(tmp_path):
    (tmp_path / "mine.yaml").write_text(load_recipe(QUICK).text.replace("lr: 0.001", "lr: 1e-4"))

    ((optimizer, _),) = load_recipe(tmp_path / "mine.yaml").stages[0].optimizers.values()

    assert optimizer.arguments["lr"] == 1e-4


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("componets.unet", 1, "no section 'componets' .did you mean 'components'"),
        ("training.batch_sise", 1, "no `training.batch_sise` .did you mean 'batch_size'"),
        ("data.sauce", 1, "no `data.sauce` .did you mean 'source'"),
        (f"{UNET}.patch_sze", 1, "no `components.unet.patch_sze` .did you mean 'patch_size'"),
        ("components.unett.patch_size", 1, "no `components.unett` .did you mean 'unet'"),
        ("optimizers.unett.lr", 1, "no `optimizers.unett` .did you mean 'unet'"),
        ("objective.lable_dropout", 0.1, "no `objective.lable_dropout` .did you mean 'label_dropout'"),
        ("pipeline.num_inference_step", 1, "no `pipeline.num_inference_step` .did you mean 'num_inference_steps'"),
        ("training.ema.unett", 0.5, "no `training.ema.unett` .did you mean 'unet'"),
        (f"{SCHEDULE}.num_warmup_step", 1, "no `optimizers.unet.schedule.num_warmup_step` .did you mean"),
        ("stages", [{"optimizer": {}}], "no `stages.0.optimizer` .did you mean 'optimizers'"),
        ("stages", [{"training": {"seed": 1}}], "no `stages.0.training.seed`"),
        (f"{UNET}.class", "genhub.PatchUNet2DModl", "has no 'PatchUNet2DModl' .did you mean 'PatchUNet2DModel'"),
        ("optimizers.unet.class", "torch.optim.AdamV", "torch.optim has no 'AdamV' .did you mean 'Adam"),
        (f"{UNET}.class", "nowhere.Model", "there is no package 'nowhere'"),
        (f"{UNET}.class", "Model", "must be a dotted path such as torch.optim.AdamW, got 'Model'"),
        ("training.batch_size.x", 1, "`training.batch_size` is a value, so `training.batch_size.x` does not exist"),
        # Another kind of value
        ("training.batch_size", "many", "`training.batch_size` must be int, got 'many'"),
        ("training.batch_size", 2.5, "`training.batch_size` must be int, got 2.5"),
        ("training.batch_size", True, "`training.batch_size` must be int, got True"),
        ("training.batch_size", None, "`training.batch_size` must be int, got None"),
        ("training.epochs", None, "`training.epochs` must be float, got None"),
        ("training.compile", 3, "`training.compile` must be bool, got 3"),
        ("training.trackers", "wandb", r"`training.trackers` must be list\[str\], got 'wandb'"),
        ("training.ema", {"unet": "x"}, r"`training.ema` must be dict\[str, float\]"),
        ("optimizers.unet.lr", "big", "`optimizers.unet.lr` must be float.*, got 'big'"),
        (f"{UNET}.block_out_channels", [8, "a"], r"`components.unet.block_out_channels` must be .*, got \[8, 'a'\]"),
        (f"{UNET}.patch_size", None, "`components.unet.patch_size` must be int, got None"),
        *((part, 5, f"`{part}` must .*, got 5") for part in (*SECTIONS, "stages", UNET, SCHEDULE)),
        ("stages", [5], "`stages.0` must be a mapping, got 5"),
        ("stages", [{"training": 5}], "`stages.0.training` must be a mapping, got 5"),
        ("stages", [{"optimizers": 5}], "`stages.0.optimizers` must be a mapping, got 5"),
        # Out of range
        ("training.batch_size", 0, "`training.batch_size` must be at least 1, got 0"),
        ("training.seed", -1, "`training.seed` must be at least 0, got -1"),
        ("training.validate_every", -1, "`training.validate_every` must be at least 0, got -1"),
        ("training.epochs", 0, "`training.epochs` must be above 0, got 0"),
        ("training.epochs", float("nan"), "`training.epochs` must be above 0, got nan"),
        ("training.max_minutes", float("inf"), "`training.max_minutes` must be above 0, got inf"),
        ("training.mixed_precision", "fp8", "`training.mixed_precision` must be no, bf16 or fp16, got 'fp8'"),
        ("training.ema.unet", 1.0, r"`training.ema.unet` must lie in \[0, 1\), got 1.0"),
        ("data.val_size", -1, "`data.val_size` must be at least 0, got -1"),
        ("data.channels", 2, "`data.channels` must be 1 or 3, got 2"),
        # Something missing
        (SCHEDULE, {"class": "torch.optim.lr_scheduler.StepLR", "gamma": 0.5}, f"`{SCHEDULE}.*step_size"),
        ("components", {"unet": SECTIONS["components"]["unet"]}, "`components` must hold scheduler: genhub.Cosine"),
        (UNET, {"patch_size": 2}, "`components.unet` must name a `class`"),
    ],
)
def test_a_mistake_is_refused_by_name_and_value_and_the_nearest_name_given(key, value, message):
    with pytest.raises(ValueError, match=message):
        quick(key, value)


@pytest.mark.parametrize(
    ("section", "path", "kind"),
    [
        (UNET, "sys.exit", "ModelMixin or SchedulerMixin"),
        (UNET, "torch.optim.AdamW", "ModelMixin or SchedulerMixin"),
        (UNET, "genhub.CosineDDPMPipeline", "ModelMixin or SchedulerMixin"),
        ("objective", "sys.exit", "Objective"),
        ("optimizers.unet", "genhub.PatchUNet2DModel", "Optimizer"),
        ("pipeline", "sys.exit", "DiffusionPipeline"),
        (SCHEDULE, "sys.exit", "LRScheduler"),
        (SCHEDULE, "diffusers.optimization.logging.os.makedirs", ".*"),
    ],
)
def test_a_class_of_another_kind_is_refused_without_being_called(section, path, kind):
    with pytest.raises(ValueError, match=f"`{section}.class` must be a {kind}, got {path}"):
        quick(section, {"class": path})


@pytest.mark.parametrize("name", ["ddpm-quik", "DDPM_quick"])
def test_an_unknown_recipe_is_refused_and_the_nearest_name_given(name):
    with pytest.raises(ValueError, match=f"no recipe '{name}' .did you mean 'ddpm-quick'"):
        load_recipe(name)


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
        load_recipe(tmp_path / "mine.yaml")


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
        (QUICK, {"norm_num_groups": 3}, "`components.unet`"),
    ],
)
def test_a_part_that_does_not_fit_the_images_is_refused_and_both_are_named(recipe, changes, message):
    recipe = tiny(recipe, **changes)

    with pytest.raises(ValueError, match=message):
        recipe.stages[0].objective.build(**recipe.build_components(SHAPE)).check(SHAPE)


@pytest.mark.parametrize(("shape", "size"), [(Shape(3, 8, 8), 8), (Shape(1, 8, 16), [8, 16])])
def test_what_the_data_decide_is_filled_in_and_written_down(shape, size):
    recipe = tiny(QUICK)

    unet = recipe.build_components(shape)["unet"]

    written = yaml.safe_load(recipe.text)["components"]["unet"]
    assert (written["in_channels"], written["sample_size"]) == (shape.channels, size)
    assert unet(torch.zeros(1, shape.channels, shape.height, shape.width), 0).sample.shape[1] == shape.channels


@pytest.mark.parametrize(
    ("name", "arguments", "lacks"),
    [
        ("MultiStepLR", {"milestones": [2, 4], "gamma": 0.5}, []),
        ("CosineAnnealingLR", {"eta_min": 0.5}, ["T_max"]),
        ("CosineAnnealingLR", {"T_max": 9}, []),
    ],
)
def test_a_schedule_takes_its_arguments_and_its_length_where_it_is_not_given(name, arguments, lacks):
    schedule = {"class": f"torch.optim.lr_scheduler.{name}", **arguments}

    ((_, spec),) = quick(SCHEDULE, schedule).stages[0].optimizers.values()

    assert spec.arguments == arguments
    assert [key for key in FROM_LENGTH if spec.lacks(key)] == lacks


def test_stages_override_level_by_level_and_another_class_starts_afresh():
    stages = [
        {"training": {"epochs": 1}, "objective": {"loss": "huber"}},
        {"training": {"max_steps": 9}, "optimizers": {"unet": {"lr": 0.5}}},
        {"optimizers": {"unet": {"class": "torch.optim.SGD", "lr": 0.1}}},
    ]

    recipe = quick("stages", stages)

    trainings = [stage.training for stage in recipe.stages]
    assert [(training.epochs, training.max_steps) for training in trainings] == [(1, None), (6, 9), (6, None)]
    assert [stage.objective.arguments["loss"] for stage in recipe.stages] == ["huber", "mse", "mse"]
    optimizers = [stage.optimizers["unet"] for stage in recipe.stages]
    kept = {"weight_decay": 0.01}
    assert [spec.arguments for spec, _ in optimizers] == [{"lr": 1e-3} | kept, {"lr": 0.5} | kept, {"lr": 0.1}]
    assert [schedule is None for _, schedule in optimizers] == [False, False, True]
    assert [stage.training for stage in load_recipe(QUICK).stages] == [load_recipe(QUICK).training]


def test_merging_changes_neither_of_both():
    base, over = {"a": {"b": [1], "c": 2}}, {"a": {"c": 3}, "d": {"e": 4}}

    merged = merge(base, over)
    merged["a"]["b"].append(5)
    merged["d"]["e"] = 6

    assert merged == {"a": {"b": [1, 5], "c": 3}, "d": {"e": 6}}
    assert (base, over) == ({"a": {"b": [1], "c": 2}}, {"a": {"c": 3}, "d": {"e": 4}})


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("training.epochs", 9, True),
        ("training.seed", 1, False),
        (f"{UNET}.patch_size", 1, False),
        ("stages", [{}], False),
    ],
)
def test_only_how_long_and_how_much_is_written_down_may_change_on_resume(key, value, same):
    assert same_experiment(SECTIONS, quick(key, value).sections) == ([] if same else [key])


@pytest.mark.parametrize(
    ("changes", "images", "steps"),
    [({}, 640, 60), ({"epochs": 0.5}, 640, 5), ({"epochs": 1}, 641, 11), ({"max_steps": 7}, 640, 7)],
)
def test_the_number_of_steps_is_the_epochs_rounded_up_and_at_most_max_steps(changes, images, steps):
    recipe = load_recipe(QUICK, {f"training.{key}": value for key, value in changes.items()})

    assert recipe.training.steps(images) == steps


def test_an_override_that_every_stage_overrides_again_is_refused_with_the_key_that_works():
    with pytest.raises(
        ValueError, match="`training.epochs` must be given for each stage, as `stages.0.training.epochs`"
    ):
        load_recipe("greedy-ae", {"training.epochs": 1})

    assert load_recipe("greedy-ae", {"stages.0.training.epochs": 1}).stages[0].training.epochs == 1
    assert load_recipe("greedy-ae", {"training.max_steps": 1}).stages[2].training.max_steps == 1
