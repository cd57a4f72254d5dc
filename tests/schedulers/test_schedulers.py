"""The contract of every public scheduler."""

import json

import pytest
import torch
from diffusers import SchedulerMixin
from diffusers.utils import DummyObject
from tiny import SCHEDULERS, tiny_scheduler
from torch.testing import assert_close

import genhub

PUBLIC = [
    name
    for name in genhub.__all__
    if isinstance(found := getattr(genhub, name), type)
    and issubclass(found, SchedulerMixin)
    and found is not SchedulerMixin
]
every_scheduler = pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name in PUBLIC if name in SCHEDULERS for variant in SCHEDULERS[name].variants],
)
SHAPE = (2, 1, 4, 4)


def randn(seed, *shape, dtype=torch.float32):
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed)).to(dtype)


def plain(config) -> dict:
    """A config as JSON has it."""
    return json.loads(json.dumps({key: value for key, value in config.items() if not key.startswith("_")}))


def noised(scheduler):
    """Images at every noise level, which say what these are: (T, 1, 4, 4)."""
    total = len(scheduler)
    timesteps = scheduler.timesteps.new_tensor(sorted(scheduler.timesteps.tolist()))
    return scheduler.add_noise(randn(1).repeat(total // 2 + 1, 1, 1, 1)[:total], randn(2)[:1], timesteps)


def sampled(scheduler, steps=4, dtype=torch.float32):
    """Images of a network that sees structure everywhere, (2, 1, 4, 4)."""
    scheduler.set_timesteps(steps)
    sample, generator = randn(3, dtype=dtype) * scheduler.init_noise_sigma, torch.Generator().manual_seed(0)
    for t in scheduler.timesteps:
        prediction = torch.sin(3 * scheduler.scale_model_input(sample, t))
        sample = scheduler.step(prediction, t, sample, generator=generator).prev_sample
    return sample


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_scheduler_has_an_entry_in_tiny(name):
    assert name in SCHEDULERS, f"give {name} an entry in tests/tiny.py"


@every_scheduler
def test_a_config_written_as_json_builds_the_same_scheduler(name, variant):
    scheduler = tiny_scheduler(name, variant)

    again = type(scheduler).from_config(json.loads(scheduler.to_json_string()))

    assert plain(again.config) == plain(scheduler.config)
    assert plain(again.config).items() >= (SCHEDULERS[name].arguments | SCHEDULERS[name].variants[variant]).items()
    assert torch.equal(noised(again), noised(scheduler))
    assert torch.equal(sampled(again), sampled(scheduler))


@every_scheduler
def test_what_is_saved_is_loaded(name, variant, tmp_path):
    scheduler = tiny_scheduler(name, variant)

    scheduler.save_pretrained(tmp_path)
    loaded = type(scheduler).from_pretrained(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["scheduler_config.json"]
    assert dict(loaded.config) == dict(scheduler.config)
    assert torch.equal(noised(loaded), noised(scheduler))
    assert torch.equal(sampled(loaded), sampled(scheduler))


@every_scheduler
def test_a_trip_through_any_compatible_scheduler_leaves_the_config_as_it_was(name, variant):
    ours = tiny_scheduler(name, variant)

    for sibling in ours.compatibles:
        if not isinstance(sibling, DummyObject):  # of a package that is not installed
            back = type(ours).from_config(sibling.from_config(ours.config).config)

            assert {key: back.config[key] for key in ours.config} == dict(ours.config), sibling.__name__


@every_scheduler
def test_as_many_steps_are_taken_as_asked_for_from_noise_to_image_and_once_each(name, variant):
    scheduler = tiny_scheduler(name, variant)
    every = scheduler.timesteps

    assert len(scheduler) == len(every) == SCHEDULERS[name].arguments["num_train_timesteps"]
    for count in (1, 2, 7, len(scheduler)):
        scheduler.set_timesteps(count)
        assert len(scheduler.timesteps) == count
        assert (scheduler.timesteps.diff() < 0).all()
        assert every.min() <= scheduler.timesteps.min() <= scheduler.timesteps.max() <= every.max()
    scheduler.set_timesteps(3, device="meta")
    assert scheduler.timesteps.device.type == "meta"


@every_scheduler
def test_a_number_of_steps_that_cannot_be_taken_is_refused(name, variant):
    scheduler = tiny_scheduler(name, variant)
    total = len(scheduler)

    for count in (-1, 0, total + 1):
        with pytest.raises(ValueError, match=f"`num_inference_steps` must lie between 1 and {total}, got {count}"):
            scheduler.set_timesteps(count)


@every_scheduler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_noise_is_added_to_each_image_at_its_own_level_and_the_more_the_later(name, variant, dtype):
    scheduler = tiny_scheduler(name, variant)
    image, noise = randn(1, dtype=dtype), randn(2, dtype=dtype)
    late, *_, early = scheduler.timesteps

    both = scheduler.add_noise(image, noise, torch.stack([early, late]))

    assert (both.shape, both.dtype) == (SHAPE, dtype)
    for row, t in enumerate([early, late]):
        alone = scheduler.add_noise(image[row : row + 1], noise[row : row + 1], t[None])
        assert torch.equal(both[row : row + 1], alone)
    distances = (both - image).float().flatten(1).norm(dim=1)
    assert distances[0] < 0.5 * distances[1]


@every_scheduler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_step_keeps_shape_and_dtype_and_leaves_its_inputs_alone(name, variant, dtype):
    scheduler = tiny_scheduler(name, variant)
    scheduler.set_timesteps(4)
    prediction, sample, t = randn(1, dtype=dtype), randn(2, dtype=dtype), scheduler.timesteps[1]
    state = torch.get_rng_state()

    named, unnamed = (
        scheduler.step(prediction, t, sample, generator=torch.Generator().manual_seed(0), return_dict=return_dict)
        for return_dict in (True, False)
    )

    assert type(unnamed) is tuple
    assert_close(unnamed, named.to_tuple(), rtol=0, atol=0)
    assert {(value.shape, value.dtype) for value in unnamed} == {(SHAPE, dtype)}
    assert torch.equal(prediction, randn(1, dtype=dtype))
    assert torch.equal(sample, randn(2, dtype=dtype))
    assert torch.equal(torch.get_rng_state(), state)


@every_scheduler
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_step_in_half_precision_is_one_of_float32_rounded(name, variant, dtype):
    scheduler = tiny_scheduler(name, variant)
    scheduler.set_timesteps(4)
    inputs, t = (randn(1, dtype=dtype), randn(2, dtype=dtype)), scheduler.timesteps[1]

    half, full = (
        scheduler.step(prediction, t, sample, generator=torch.Generator().manual_seed(0)).prev_sample
        for prediction, sample in (inputs, (inputs[0].float(), inputs[1].float()))
    )

    assert torch.equal(half, full.to(dtype))


@every_scheduler
def test_sampling_ends_in_finite_images_that_a_generator_repeats(name, variant):
    first, again = sampled(tiny_scheduler(name, variant)), sampled(tiny_scheduler(name, variant))

    assert first.isfinite().all()
    assert torch.equal(first, again)
    assert (sampled(tiny_scheduler(name, variant), dtype=torch.bfloat16) - first).abs().max() < 0.5


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [(name, *case) for name in PUBLIC if name in SCHEDULERS for case in SCHEDULERS[name].refused],
)
def test_bad_arguments_are_refused_by_name_and_value(name, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_scheduler(name, **changes)
