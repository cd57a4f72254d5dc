"""The pipeline of denoising diffusion: a perfect network must lead any scheduler to its data, a wrong call nowhere."""

import pytest
import torch
from denoisers import Memory, every_scheduler, generators, pipeline, rows_seen, sample, tiny_pipeline
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
)
from diffusers.callbacks import PipelineCallback
from tiny import tiny_model
from torch.testing import assert_close

from genhub import CosineDDPMPipeline, CosineDDPMScheduler

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@every_scheduler
def test_a_perfect_network_sees_unit_noise_and_leads_every_scheduler_to_the_data(scheduler, prediction_type):
    memory = Memory(in_channels=3, sample_size=16, prediction_type=prediction_type)
    pipe = pipeline(memory, scheduler, prediction_type=prediction_type)

    images = sample(pipe, 0, batch_size=2, num_inference_steps=12)

    assert memory.seen == pytest.approx([1.0] * len(memory.seen), abs=0.1)
    assert_close(images, (pipe.unet.images / 2 + 0.5).expand(2, -1, -1, -1), rtol=0, atol=5e-3)


@every_scheduler
def test_the_same_generator_gives_the_same_image_and_another_another(scheduler):
    pipe = tiny_pipeline(scheduler=scheduler)

    images = [sample(pipe, seed, batch_size=2) for seed in (0, 0, 1)]

    assert torch.equal(images[0], images[1])
    assert not torch.allclose(images[0], images[2], atol=1e-2)
    assert not torch.allclose(images[0][0], images[0][1], atol=1e-2)


@pytest.mark.parametrize("scheduler", [CosineDDPMScheduler, EulerAncestralDiscreteScheduler])
def test_the_noise_of_the_steps_comes_from_the_generator_too(scheduler):
    pipe, state = tiny_pipeline(scheduler=scheduler), torch.get_rng_state()
    latents = torch.randn(2, 1, 8, 8, generator=generators(5)[0])

    images = [sample(pipe, seed, batch_size=2, latents=latents) for seed in (0, 0, 1)]

    assert torch.equal(images[0], images[1])
    assert not torch.allclose(images[0], images[2], atol=1e-3)
    assert torch.equal(torch.get_rng_state(), state)


@every_scheduler
def test_with_a_generator_for_each_image_a_batch_is_its_images_one_by_one(scheduler):
    pipe = tiny_pipeline(scheduler=scheduler)

    together = sample(pipe, 3, 4, 5, batch_size=3)

    alone = torch.cat([sample(pipe, seed) for seed in (3, 4, 5)])
    assert_close(together, alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scheduler", [CosineDDPMScheduler, EulerDiscreteScheduler])
def test_latents_take_the_place_of_the_first_draw(scheduler):
    pipe = tiny_pipeline(scheduler=scheduler)
    (generator,) = generators(0)
    latents = torch.randn(2, 1, 8, 8, generator=generator)
    before = latents.clone()

    images = pipe(batch_size=2, latents=latents, generator=generator, output_type="pt").images

    assert torch.equal(images, sample(pipe, 0, batch_size=2))
    assert torch.equal(latents, before)


def test_the_output_is_named_or_a_tuple_and_has_the_size_of_the_network():
    pipe = tiny_pipeline("wide")

    (images,) = pipe(generator=generators(0)[0], output_type="pt", return_dict=False)

    assert images.shape == (1, 1, 8, 16)
    assert torch.equal(images, sample(pipe, 0))


def test_the_pipeline_takes_its_own_number_of_steps_unless_told_another():
    pipe = tiny_pipeline()
    seen = rows_seen(pipe)

    for arguments, count in (({}, 4), ({"num_inference_steps": 7}, 7), ({"timesteps": [3999, 10]}, 2)):
        seen.clear()
        sample(pipe, 0, **arguments)
        assert len(seen) == count


def test_each_image_is_of_its_class():
    pipe = pipeline(Memory(num_class_embeds=4))
    data = pipe.unet.images / 2 + 0.5

    for labels in ([2, 0, 3], torch.tensor([2, 0, 3]), 1):
        images = sample(pipe, 0, class_labels=labels)
        assert_close(images, data[torch.as_tensor(labels).reshape(-1)], rtol=0, atol=5e-3)
    assert_close(sample(pipe, 0, class_labels=1, batch_size=3), data[[1, 1, 1]], rtol=0, atol=5e-3)


def test_guidance_goes_from_the_null_class_through_the_class_and_beyond_in_a_straight_line():
    pipe = pipeline(Memory(num_class_embeds=4, prediction_type="sample"), num_classes=3, prediction_type="sample")
    data = pipe.unet.images / 2 + 0.5
    labels, none = [0, 2], data[3]

    for scale in (0.0, 0.5, 1.0, 1.5, 2.0):
        images = sample(pipe, 0, class_labels=labels, guidance_scale=scale)
        assert_close(images, none + scale * (data[labels] - none), rtol=0, atol=1e-5)


def test_without_guidance_the_network_is_asked_about_the_class_only():
    pipe = tiny_pipeline("conditional", num_classes=3)
    seen = rows_seen(pipe)

    sample(pipe, 0, class_labels=[0, 1])
    sample(pipe, 0, class_labels=[0, 1], guidance_scale=1.5)

    assert seen == [2] * 4 + [4] * 4


def test_a_call_with_labels_is_guided_as_the_pipeline_says_unless_it_says_itself():
    guided, plain = (tiny_pipeline("conditional", num_classes=3, guidance_scale=scale) for scale in (1.5, 1.0))
    labels = {"class_labels": [0, 1]}

    assert torch.equal(sample(guided, 0, **labels), sample(plain, 0, **labels, guidance_scale=1.5))
    assert torch.equal(sample(guided, 0, **labels, guidance_scale=1), sample(plain, 0, **labels))  # 1 is none
    assert not torch.allclose(sample(guided, 0, **labels), sample(plain, 0, **labels), atol=1e-3)


def test_a_call_without_labels_is_not_guided_whatever_the_pipeline_says():
    guided, plain = (tiny_pipeline("conditional", num_classes=3, guidance_scale=scale) for scale in (1.5, 1.0))
    seen = rows_seen(guided)

    images = sample(guided, 0, batch_size=2)

    assert seen == [2] * 4
    assert torch.equal(images, sample(plain, 0, batch_size=2))


def test_a_pipeline_with_classes_but_no_null_class_has_no_guidance_by_default():
    with pytest.raises(ValueError, match="`guidance_scale` must be 1: the network has no null class, got 1.5"):
        tiny_pipeline("conditional", num_classes=4, guidance_scale=1.5)
    assert len(sample(tiny_pipeline("plain", guidance_scale=1.5), 0, batch_size=2)) == 2  # which never takes labels


def test_the_guidance_of_a_pipeline_is_saved_with_it(tmp_path):
    pipe = pipeline(tiny_model("UNet2DModel", num_class_embeds=4), num_classes=3, guidance_scale=1.5)
    pipe.save_pretrained(tmp_path)

    again = CosineDDPMPipeline.from_pretrained(tmp_path)

    assert again.config.guidance_scale == 1.5
    again.set_progress_bar_config(disable=True)
    assert torch.equal(sample(again, 0, class_labels=[0, 1]), sample(pipe, 0, class_labels=[0, 1]))


def test_without_labels_images_are_of_the_null_class_where_there_is_one():
    pipe = pipeline(Memory(num_class_embeds=4), num_classes=3)
    data = pipe.unet.images / 2 + 0.5

    images = sample(pipe, 0, batch_size=2)

    assert pipe.has_null_class
    assert_close(images, data[[3, 3]], rtol=0, atol=5e-3)


@pytest.mark.parametrize("num_classes", [None, 4])
def test_all_classes_of_a_network_are_real_unless_the_pipeline_says_that_one_is_not(num_classes):
    pipe = pipeline(Memory(num_class_embeds=4), num_classes=num_classes)

    assert (pipe.config.num_classes, pipe.has_null_class) == (4, False)
    assert_close(sample(pipe, 0, class_labels=3), pipe.unet.images[3:] / 2 + 0.5, rtol=0, atol=5e-3)


@pytest.mark.parametrize(("num_class_embeds", "num_classes"), [(4, 2), (4, 5), (None, 3)])
def test_a_number_of_classes_that_the_network_does_not_have_is_refused(num_class_embeds, num_classes):
    with pytest.raises(ValueError, match=f"`num_classes` must be .*{num_class_embeds}, or one less .*{num_classes}"):
        pipeline(Memory(num_class_embeds=num_class_embeds), num_classes=num_classes)


@every_scheduler
def test_what_plain_diffusers_gets_makes_the_same_images_bit_for_bit(scheduler):
    pipe = pipeline(tiny_model("UNet2DModel"), scheduler, variance_type="fixed_large")

    plain = pipe.to_diffusers()

    assert plain or scheduler not in (CosineDDPMScheduler, DDPMScheduler)
    if plain:
        plain.set_progress_bar_config(disable=True)
        pils = [p(batch_size=2, generator=generators(0)[0], num_inference_steps=6).images for p in (pipe, plain)]
        assert [image.tobytes() for image in pils[0]] == [image.tobytes() for image in pils[1]]


@pytest.mark.parametrize(
    ("unet", "options"),
    [
        (tiny_model("PatchUNet2DModel"), {}),
        (tiny_model("UNet2DModel", num_class_embeds=4), {}),
        (tiny_model("UNet2DModel"), {"s": 0.01}),
        (tiny_model("UNet2DModel"), {"beta_max": 0.99}),
    ],
    ids=["own network", "class labels", "own offset", "own cap"],
)
def test_plain_diffusers_gets_nothing_where_it_lacks_a_part(unet, options):
    assert CosineDDPMPipeline(unet, CosineDDPMScheduler(**options)).to_diffusers() is None


def steps_of(pipe, seed=0, names=("latents", "pred_original_sample"), **arguments):
    """The images of a call, and what its callback got in each step."""
    seen = []

    def callback(pipeline, step, timestep, tensors):
        seen.append((step, float(timestep), dict(tensors)))
        return tensors

    images = sample(
        pipe, seed, **arguments, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=list(names)
    )
    return images, seen


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@every_scheduler
def test_in_each_step_the_perfect_network_predicts_the_data_and_the_last_sample_is_the_image(
    scheduler, prediction_type
):
    pipe = pipeline(Memory(in_channels=3, prediction_type=prediction_type), scheduler, prediction_type=prediction_type)

    images, seen = steps_of(pipe, batch_size=2, num_inference_steps=5)

    assert [(step, timestep) for step, timestep, _ in seen] == list(enumerate(pipe.scheduler.timesteps.tolist()))
    for _, timestep, tensors in seen:
        atol = 2e-3 if timestep < 3990 or prediction_type != "epsilon" else 0.05  # divided by sqrt(alpha_bar)
        assert_close(tensors["pred_original_sample"], pipe.unet.images.expand(2, -1, -1, -1), rtol=0, atol=atol)
    assert torch.equal((seen[-1][2]["latents"] / 2 + 0.5).clamp(0, 1), images)


@every_scheduler
def test_watching_changes_nothing_and_costs_no_call_of_the_network(scheduler):
    pipe = tiny_pipeline(scheduler=scheduler)
    unwatched = sample(pipe, 0)
    calls = rows_seen(pipe)
    unwatched_calls = len(pipe.scheduler.timesteps)

    images, seen = steps_of(pipe)

    assert torch.equal(images, unwatched)
    assert (len(seen), len(calls)) == (unwatched_calls, unwatched_calls)


def test_a_guided_prediction_is_shown_guided():
    pipe = pipeline(Memory(num_class_embeds=4, prediction_type="sample"), num_classes=3, prediction_type="sample")
    data = pipe.unet.images

    _, seen = steps_of(pipe, class_labels=[0, 2], guidance_scale=2.0)

    expected = data[3] + 2 * (data[[0, 2]] - data[3])
    assert_close(seen[-1][2]["pred_original_sample"], expected, rtol=0, atol=2e-3)


def test_what_a_callback_returns_takes_the_place_of_the_sample():
    pipe = tiny_pipeline()

    images = sample(pipe, 0, callback_on_step_end=lambda pipe, step, t, tensors: {"latents": 0 * tensors["latents"]})

    assert torch.equal(images, torch.full_like(images, 0.5))


def test_a_callback_of_diffusers_names_its_own_tensors():
    class Watch(PipelineCallback):
        tensor_inputs = ["pred_original_sample"]  # noqa: RUF012

        def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
            assert callback_kwargs.keys() == {"pred_original_sample"}
            seen.append(step_index)
            return callback_kwargs

    seen = []

    sample(tiny_pipeline(), 0, callback_on_step_end=Watch(cutoff_step_ratio=None, cutoff_step_index=1))

    assert seen == [0, 1, 2, 3]


def test_a_pipeline_in_bf16_gives_nearly_the_same_images():
    pipe = tiny_pipeline()
    exact = sample(pipe, 0, timesteps=[2000, 1000, 100])

    rounded = sample(pipe.to(torch.bfloat16), 0, timesteps=[2000, 1000, 100])

    assert pipe.dtype == torch.bfloat16
    assert (rounded.dtype, rounded.requires_grad) == (torch.float32, False)
    assert 0 < (rounded - exact).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("variant", "arguments", "message"),
    [
        ("plain", {"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ("plain", {"batch_size": -1}, "`batch_size` must be at least 1, got -1"),
        ("plain", {"num_inference_steps": 0}, "`num_inference_steps` must .* 1 and 4000, got 0"),
        ("plain", {"num_inference_steps": 4001}, "`num_inference_steps` must .* 1 and 4000, got 4001"),
        ("plain", {"num_inference_steps": 2.5}, "`num_inference_steps` must .*, got 2.5"),
        ("plain", {"timesteps": [1, 2]}, r"`timesteps` must fall .*, got \[1, 2\]"),
        ("plain", {"timesteps": [4000]}, r"`timesteps` must fall .*, got \[4000\]"),
        ("plain", {"timesteps": []}, r"`timesteps` must fall .*, got \[\]"),
        ("plain", {"timesteps": [2, 1], "num_inference_steps": 2}, "`num_inference_steps` and `timesteps`"),
        ("plain", {"batch_size": 2, "generator": generators(0)}, "`generator` must be one generator or 2 .*, got 1"),
        ("plain", {"latents": torch.zeros(2, 1, 8, 8)}, r"`latents` .*\(1, 1, 8, 8\), got \(2, 1, 8, 8\)"),
        ("plain", {"output_type": "latent"}, "`output_type` must be pil, np or pt, got 'latent'"),
        (
            "plain",
            {"callback_on_step_end_tensor_inputs": ["latents", "x"]},
            r"`callback_on_step_end_tensor_inputs` must be among latents, pred_original_sample, got .*'x'",
        ),
        ("plain", {"class_labels": 0}, "`class_labels` must be unset: the network is unconditional"),
        ("plain", {"guidance_scale": 2.0}, "`guidance_scale` must be 1: the network has no null class, got 2.0"),
        ("conditional", {}, r"`class_labels` must be given, in 0\.\.3"),
        ("conditional", {"class_labels": 4}, r"`class_labels` must be integers in 0\.\.3, got \[4\]"),
        ("conditional", {"class_labels": [0, -1]}, r"`class_labels` must be integers in 0\.\.3, got \[0, -1\]"),
        ("conditional", {"class_labels": 1.5}, r"`class_labels` must be integers in 0\.\.3, got \[1.5\]"),
        ("conditional", {"class_labels": []}, "`batch_size` must be at least 1, got 0"),
        ("conditional", {"class_labels": [1, 2], "batch_size": 3}, "`class_labels` must hold 1 or 3 entries, got 2"),
        ("conditional", {"class_labels": 1, "guidance_scale": 5.0}, "`guidance_scale` must be 1: .* no null class"),
        ("conditional", {"class_labels": 1, "batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    ],
)
def test_a_bad_argument_is_refused_before_the_network_is_called(variant, arguments, message):
    pipe = tiny_pipeline(variant)
    seen = rows_seen(pipe)

    with pytest.raises(ValueError, match=message):
        pipe(**arguments)

    assert seen == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_labels": 3}, r"`class_labels` must be integers in 0\.\.2, got \[3\]"),  # the null class itself
        ({"guidance_scale": 2.0}, "`guidance_scale` must be 1 without `class_labels`, got 2.0"),
        ({"class_labels": [0, 1], "batch_size": 3}, "`class_labels` must hold 1 or 3 entries, got 2"),
    ],
)
def test_the_null_class_is_no_label_and_leads_nowhere_by_itself(arguments, message):
    pipe = tiny_pipeline("conditional", num_classes=3)
    seen = rows_seen(pipe)

    with pytest.raises(ValueError, match=message):
        pipe(**arguments)

    assert seen == []


def test_timesteps_are_refused_where_the_scheduler_chooses_its_own():
    with pytest.raises(ValueError, match="`timesteps` must be .*DDIMScheduler"):
        tiny_pipeline(scheduler=DDIMScheduler)(timesteps=[10, 5])


def test_a_schedule_whose_first_timesteps_are_equal_is_walked_from_its_start():
    unet = tiny_model("UNet2DModel")
    scheduler = DPMSolverMultistepScheduler.from_config(CosineDDPMScheduler().config, use_karras_sigmas=True)
    pipe = CosineDDPMPipeline(unet, scheduler)

    images = pipe(batch_size=1, num_inference_steps=10, output_type="pt").images

    assert len(scheduler.timesteps.unique()) < 10
    assert images.isfinite().all()
