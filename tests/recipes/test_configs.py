"""Sections of plain values: types, ranges, and the number of steps that follows."""

import pytest

from genhub.recipes.configs import TrainingConfig, read_config


@pytest.mark.parametrize(
    ("section", "entries", "message"),
    [
        ("training", {"batch_sise": 1}, "no `training.batch_sise` .did you mean 'batch_size'"),
        ("data", {"sauce": 1}, "no `data.sauce` .did you mean 'source'"),
        ("data", 5, "`data` must be a mapping, got 5"),
        # Another kind of value
        ("training", {"batch_size": "many"}, "`training.batch_size` must be a whole number, got 'many'"),
        ("training", {"batch_size": "64"}, "`training.batch_size` must be a whole number, got '64'"),
        ("training", {"batch_size": 2.5}, "`training.batch_size` must be a whole number, got 2.5"),
        ("training", {"batch_size": True}, "`training.batch_size` must be a whole number, got True"),
        ("training", {"batch_size": None}, "`training.batch_size` must be a whole number, got None"),
        ("training", {"epochs": None}, "`training.epochs` must be a number, got None"),
        ("training", {"epochs": True}, "`training.epochs` must be a number, got True"),
        ("training", {"compile": 3}, "`training.compile` must be true or false, got 3"),
        ("training", {"trackers": "wandb"}, r"`training.trackers` must be a list, each a text, got 'wandb'"),
        ("training", {"trackers": [1]}, r"`training.trackers` must be a list, each a text, got \[1\]"),
        ("training", {"ema": {"unet": "x"}}, r"`training.ema` must be a mapping"),
        ("data", {"encode": 3}, r"`data.encode` must be a text or null, got 3"),
        # Out of range
        ("training", {"batch_size": 0}, "`training.batch_size` must be at least 1, got 0"),
        ("training", {"seed": -1}, "`training.seed` must be at least 0, got -1"),
        ("training", {"validate_every": -1}, "`training.validate_every` must be at least 0, got -1"),
        ("training", {"epochs": 0}, "`training.epochs` must be above 0, got 0"),
        ("training", {"epochs": float("nan")}, "`training.epochs` must be above 0, got nan"),
        ("training", {"max_minutes": float("inf")}, "`training.max_minutes` must be at most 1e.06, got inf"),
        (
            "training",
            {"mixed_precision": "fp8"},
            "`training.mixed_precision` must be auto, no, bf16 or fp16, got 'fp8'",
        ),
        ("training", {"ema": {"unet": 1.0}}, r"`training.ema.unet` must lie in \[0, 1\), got 1.0"),
        ("evaluation", {"every": -1}, "`evaluation.every` must be at least 0, got -1"),
        ("evaluation", {"count": 1}, "`evaluation.count` must be at least 2, got 1"),
        ("data", {"val_size": -1}, "`data.val_size` must be at least 0, got -1"),
        ("data", {"channels": 2}, "`data.channels` must be 1 or 3, got 2"),
    ],
)
def test_a_mistake_is_refused_by_name_and_value(section, entries, message):
    with pytest.raises(ValueError, match=message):
        read_config(section, entries)


@pytest.mark.parametrize("entries", [None, {}])
def test_an_absent_section_has_the_defaults(entries):
    assert read_config("training", entries) == TrainingConfig()


@pytest.mark.parametrize(
    ("changes", "images", "steps"),
    [({}, 640, 60), ({"epochs": 0.5}, 640, 5), ({"epochs": 1}, 641, 11), ({"max_steps": 7}, 640, 7)],
)
def test_the_number_of_steps_is_the_epochs_rounded_up_and_at_most_max_steps(changes, images, steps):
    config = read_config("training", {"batch_size": 64, "epochs": 6} | changes)

    assert config.steps(images) == steps
