"""Every field of every config, and arguments of classes, with one list of bad values."""

import dataclasses
import math
import time

import pytest

from genhub import recipes
from genhub.recipes.configs import CONFIGS
from genhub.utils.ranges import check_values

BAD = (0, -1, math.nan, math.inf, 1e308, 1e12, 10**12, "", [], {}, None, True, "x" * 10_000)
FIELDS = [f"{section}.{field.name}" for section, config in CONFIGS.items() for field in dataclasses.fields(config)]
ARGUMENTS = [
    "optimizers.unet.lr",
    "optimizers.unet.weight_decay",
    "optimizers.unet.adamw_betas",
    "optimizers.unet.schedule.warmup",
    "components.unet.block_out_channels",
    "components.unet.embedding_channels",
    "components.scheduler.num_train_timesteps",
    "components.scheduler.beta_start",
    "objective.label_dropout",
    "pipeline.num_inference_steps",
]
ENTRIES = {"training.ema.unet": "training.ema", "evaluation.arguments.num_inference_steps": "evaluation.arguments"}


@pytest.fixture(scope="module", autouse=True)
def _classes_are_imported():
    recipes.load("ddpm-quick")


@pytest.mark.parametrize("key", [*FIELDS, *ARGUMENTS, *ENTRIES])
def test_a_bad_value_is_accepted_or_refused_by_its_name_at_once(key):
    for value in BAD:
        began = time.monotonic()
        try:
            recipes.load("ddpm-quick", {key: value})
        except ValueError as error:
            message = str(error)
            assert ENTRIES.get(key, key) in message, (value, message)
            assert len(message.splitlines()) == 1
            assert len(message) < 300
        else:
            is_huge = isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= 1e9)
            assert not is_huge or key == "training.seed", value
            assert not isinstance(value, str), value
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("value", [[1, 2.5], {"a": ["b", None, True]}, 10**9, -(10.0**9), "x"])
def test_what_is_finite_is_accepted(value):
    check_values("name", value)


def test_a_bad_entry_is_named_by_its_place():
    with pytest.raises(ValueError, match="`name.a.1` must be finite and at most 1e.09 in size, got inf"):
        check_values("name", {"a": [1.0, math.inf]})
