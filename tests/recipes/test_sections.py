"""Sections as plain dicts: merged, overridden, compared."""

import pytest

from genhub import recipes
from genhub.data import Shape
from genhub.recipes.sections import as_overrides, merge, override, resume_conflicts

QUICK = "ddpm-quick"
UNET, SCHEDULE = "components.unet", "optimizers.unet.schedule"
SECTIONS = recipes.load(QUICK).sections


def leaves(sections, prefix=""):
    for key, value in sections.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


@pytest.mark.parametrize(("key", "value"), leaves(SECTIONS))
def test_every_value_of_a_recipe_can_be_overridden_and_nothing_else_changes(key, value):
    new = {int: 7, float: 0.5, bool: False, str: value, list: value[::-1] if isinstance(value, list) else None}
    new = new[type(value)]

    recipe = recipes.load(QUICK, {key: new})

    assert dict(leaves(recipe.sections)) == dict(leaves(SECTIONS)) | {key: new}
    assert recipe.overrides == {key: new}


def test_an_override_changes_one_of_two_entries_that_the_recipe_writes_once():
    recipe = recipes.load("gan", {"optimizers.generator.lr": 0.5})

    rates = {name: spec.arguments["lr"] for name, (spec, _) in recipe.stages[0].optimizers.items()}
    assert rates == {"generator": 0.5, "discriminator": 1e-3}
    assert "&" not in recipe.text.partition("data:")[2]


def test_an_override_may_name_what_the_recipe_leaves_out_and_one_entry_of_a_list():
    new = {"training.max_steps": 3, "training.ema.unet": 0.5, f"{UNET}.block_out_channels.0": 32}

    recipe = recipes.load(QUICK, new)

    assert (recipe.training.max_steps, recipe.training.ema) == (3, {"unet": 0.5})
    assert recipe.components["unet"].arguments["block_out_channels"] == (32, 96)


def test_what_a_recipe_fills_in_leaves_the_overrides_as_they_were():
    pipeline = {"class": "genhub.CosineDDPMPipeline"}

    recipe = recipes.load(
        QUICK, {"pipeline": pipeline, f"{UNET}.num_class_embeds": 10, "objective.label_dropout": 0.0}
    )
    recipe.build_components(Shape(1, 28, 28, num_classes=10))

    assert recipe.sections["pipeline"]["num_classes"] == 10
    assert pipeline == {"class": "genhub.CosineDDPMPipeline"}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("componets.unet", "no section 'componets' .did you mean 'components'"),
        ("training.batch_sise", "no `training.batch_sise` .did you mean 'batch_size'"),
        ("data.sauce", "no `data.sauce` .did you mean 'source'"),
        ("components.unett.patch_size", "no `components.unett` .did you mean 'unet'"),
        ("optimizers.unett.lr", "no `optimizers.unett` .did you mean 'unet'"),
        ("training.batch_size.x", "`training.batch_size` is a value, so `training.batch_size.x` does not exist"),
        (f"{UNET}.block_out_channels.2", r"`components.unet.block_out_channels` has entries 0\.\.1, got '2'"),
        (f"{UNET}.block_out_channels.x", r"`components.unet.block_out_channels` has entries 0\.\.1, got 'x'"),
        ("stages.1.training.epochs", r"`stages` has entries 0\.\.0, got '1'"),
    ],
)
def test_an_override_of_what_does_not_exist_is_refused_and_changes_nothing(key, message):
    sections = merge(SECTIONS, {"stages": [{}]})
    before = merge(sections, {})

    with pytest.raises(ValueError, match=message):
        override(sections, key, 1)

    assert sections == before


def test_merging_changes_neither_of_both():
    base, changes = {"a": {"b": [1], "c": 2}}, {"a": {"c": 3}, "d": {"e": 4}}

    merged = merge(base, changes)
    merged["a"]["b"].append(5)
    merged["d"]["e"] = 6

    assert merged == {"a": {"b": [1, 5], "c": 3}, "d": {"e": 6}}
    assert (base, changes) == ({"a": {"b": [1], "c": 2}}, {"a": {"c": 3}, "d": {"e": 4}})


@pytest.mark.parametrize(
    ("key", "value", "changeable"),
    [
        ("training.epochs", 9, True),
        ("evaluation.every", 9, True),
        ("training.seed", 1, False),
        (f"{UNET}.patch_size", 1, False),
        ("stages", [], False),
    ],
)
def test_only_how_long_and_how_much_is_written_down_may_change_on_resume(key, value, changeable):
    conflicts = resume_conflicts(SECTIONS, recipes.load(QUICK, {key: value}).sections)

    assert conflicts == ([] if changeable else [key])


@pytest.mark.parametrize(
    ("key", "value", "changeable"),
    [
        ("optimizers.unet.lr", 0.1, True),
        ("optimizers.unet.ns_steps", 3, True),
        (f"{SCHEDULE}.warmup", 0.2, True),
        ("training.max_grad_norm", 2.0, True),
        ("stages.0.optimizers.unet.lr", 0.1, True),
        ("optimizers.unet.class", "torch.optim.SGD", False),
        (f"{SCHEDULE}.class", "torch.optim.lr_scheduler.CosineAnnealingLR", False),
        (SCHEDULE, None, False),
        ("stages.0.training.batch_size", 2, False),
        ("objective.label_dropout", 0.2, False),
    ],
)
def test_arguments_of_optimizers_may_change_on_resume_where_that_is_recorded(key, value, changeable):
    before = merge(SECTIONS, {"stages": [{"training": {"batch_size": 4}, "optimizers": {"unet": {"lr": 1.0}}}]})
    after = merge(before, {})
    override(after, key, value)

    assert resume_conflicts(before, after)
    assert (resume_conflicts(before, after, recorded=True) == []) == changeable


def test_nested_values_are_those_of_their_dotted_keys():
    scheduler = {"class": "diffusers.DDPMScheduler", "num_train_timesteps": 20}
    nested = {"data": {"source": "x"}, "components": {"unet": {"sizes": [1, 2]}, "scheduler": scheduler}}

    flat = as_overrides(nested)

    assert flat == {"data.source": "x", "components.unet.sizes": [1, 2], "components.scheduler": scheduler}
    assert as_overrides(flat) == flat
