"""Stages: what each overrides, and the schedules whose length they set."""

import pytest

from genhub import recipes
from genhub.recipes.stages import FROM_LENGTH

QUICK = "ddpm-quick"
SCHEDULE = "optimizers.unet.schedule"


def quick(key, value):
    return recipes.load(QUICK, {key: value})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("objective.lable_dropout", 0.1, "no `objective.lable_dropout` .did you mean 'label_dropout'"),
        (f"{SCHEDULE}.num_warmup_step", 1, "no `optimizers.unet.schedule.num_warmup_step` .did you mean"),
        ("stages", [{"optimizer": {}}], "no `stages.0.optimizer` .did you mean 'optimizers'"),
        ("stages", [{"training": {"seed": 1}}], "no `stages.0.training.seed`"),
        ("optimizers.unet.lr", "big", "`optimizers.unet.lr` must be a number, got 'big'"),
        *((part, 5, f"`{part}` must .*, got 5") for part in ("objective", "optimizers", "stages", SCHEDULE)),
        ("stages", [5], "`stages.0` must be a mapping, got 5"),
        ("stages", [{"training": 5}], "`stages.0.training` must be a mapping, got 5"),
        ("stages", [{"optimizers": 5}], "`stages.0.optimizers` must be a mapping, got 5"),
        (SCHEDULE, {"class": "torch.optim.lr_scheduler.StepLR", "gamma": 0.5}, f"`{SCHEDULE}.*step_size"),
    ],
)
def test_a_mistake_is_refused_by_name_and_value(key, value, message):
    with pytest.raises(ValueError, match=message):
        quick(key, value)


@pytest.mark.parametrize(
    ("name", "arguments", "lacks"),
    [
        ("MultiStepLR", {"milestones": [2, 4], "gamma": 0.5}, []),
        ("CosineAnnealingLR", {"eta_min": 0.5}, ["T_max"]),
        ("CosineAnnealingLR", {"T_max": 9}, []),
    ],
)
def test_a_schedule_takes_its_arguments_and_its_length_where_the_recipe_leaves_it_open(name, arguments, lacks):
    schedule = {"class": f"torch.optim.lr_scheduler.{name}", **arguments}

    ((_, spec),) = quick(SCHEDULE, schedule).stages[0].optimizers.values()

    assert spec.arguments == arguments
    assert [key for key in FROM_LENGTH if spec.lacks(key)] == lacks


def test_stages_override_level_by_level_and_another_class_starts_afresh():
    stages = [
        {"training": {"epochs": 1}, "objective": {"loss": "huber"}},
        {"training": {"epochs": 6, "max_steps": 9}, "optimizers": {"unet": {"lr": 0.5}}},
        {"optimizers": {"unet": {"class": "torch.optim.SGD", "lr": 0.1}}},
    ]

    recipe = recipes.load(QUICK, {"stages": stages, "optimizers.unet.weight_decay": 0.02})
    whole = recipes.load(QUICK).training

    trainings = [stage.training for stage in recipe.stages]
    assert [(training.epochs, training.max_steps) for training in trainings] == [
        (1, None),
        (6, 9),
        (whole.epochs, None),
    ]
    assert [stage.objective.arguments["loss"] for stage in recipe.stages] == ["huber", "mse", "mse"]
    optimizers = [stage.optimizers["unet"] for stage in recipe.stages]
    kept = {"linear": False, "weight_decay": 0.02}
    assert [spec.arguments for spec, _ in optimizers] == [{"lr": 6e-3} | kept, {"lr": 0.5} | kept, {"lr": 0.1}]
    assert [schedule is None for _, schedule in optimizers] == [False, False, True]
    assert [stage.training for stage in recipes.load(QUICK).stages] == [recipes.load(QUICK).training]


def test_an_override_that_every_stage_overrides_again_is_refused_with_the_key_that_works():
    with pytest.raises(
        ValueError, match="`training.epochs` must be given for each stage, as `stages.0.training.epochs`"
    ):
        recipes.load("greedy-ae", {"training.epochs": 1})

    assert recipes.load("greedy-ae", {"stages.0.training.epochs": 1}).stages[0].training.epochs == 1
    assert recipes.load("greedy-ae", {"training.max_steps": 1}).stages[2].training.max_steps == 1
