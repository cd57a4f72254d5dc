"""Guidance, its interval and its guide, and classes by name and in mixtures."""

import pytest
import torch
import torch.nn.functional as F
from denoisers import Memory, generators, rows_seen, sample
from diffusers import HeunDiscreteScheduler
from tiny import tiny_model
from torch.testing import assert_close

from genhub import AutoPipeline, CosineDDPMPipeline, CosineDDPMScheduler
from genhub.repository.save import save_repo

NAMES = {0: "T-shirt/top", 1: "Sandal", 2: "Bag"}


def conditional(**arguments):
    """A tiny pipeline with three classes and a null class."""
    unet = tiny_model("PatchUNet2DModel", "conditional")
    pipe = CosineDDPMPipeline(unet, CosineDDPMScheduler(), 4, 3, **arguments)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def memory_pipeline(**arguments):
    """The perfect network of three images and their mean, in the place of the null class."""
    unet = Memory(num_class_embeds=4, prediction_type="sample")
    pipe = CosineDDPMPipeline(unet, CosineDDPMScheduler(prediction_type="sample"), 4, 3, **arguments)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def other_memory(num_class_embeds=4):
    """Another perfect network, of other images."""
    unet = Memory(num_class_embeds=num_class_embeds, prediction_type="sample")
    unet.images.data = unet.images.data.flip(0, 2) / 2
    return unet


def test_an_interval_from_0_to_1_is_guidance_everywhere_and_one_from_0_to_0_is_none():
    pipe, labels = conditional(), {"class_labels": [0, 1]}

    everywhere = sample(pipe, 0, **labels, guidance_scale=2.0)

    assert torch.equal(everywhere, sample(pipe, 0, **labels, guidance_scale=2.0, guidance_interval=(0, 1)))
    plain = sample(pipe, 0, **labels)
    assert torch.equal(plain, sample(pipe, 0, **labels, guidance_scale=2.0, guidance_interval=(0, 0)))
    assert not torch.allclose(plain, everywhere, atol=1e-3)


def test_guidance_costs_twice_within_its_interval_and_nothing_outside():
    pipe = conditional(guidance_interval=(0.25, 0.5))
    seen = rows_seen(pipe)

    sample(pipe, 0, class_labels=0, guidance_scale=2.0, num_inference_steps=8)

    assert seen == [1, 1, 2, 2, 1, 1, 1, 1]


def test_a_large_batch_and_its_null_class_are_two_calls_that_make_the_same_images():
    pipe, labels = conditional(), [0, 1, 2] * 12
    seen = rows_seen(pipe)

    large = sample(pipe, *range(36), class_labels=labels, guidance_scale=2.0)

    assert seen == [36, 36] * 4
    small = [sample(pipe, seed, class_labels=labels[seed], guidance_scale=2.0) for seed in (0, 20, 35)]
    assert seen[8:] == [2] * 12
    assert_close(large[[0, 20, 35]], torch.cat(small), rtol=0, atol=1e-5)


def test_an_interval_is_a_share_of_the_steps_to_rounding_and_splits_none_of_two_calls():
    pipe = conditional(guidance_interval=(0.0, 0.07))
    seen = rows_seen(pipe)

    sample(pipe, 0, class_labels=0, guidance_scale=2.0, num_inference_steps=100)
    assert seen == [2] * 7 + [1] * 93

    seen.clear()
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    sample(pipe, 0, class_labels=0, guidance_scale=2.0, guidance_interval=(0.2, 0.4), num_inference_steps=5)
    assert seen == [1, 1, 2, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("interval", [(0.5, 0.2), (-0.1, 1), (0, 1.1), (0, 0.5, 1)])
def test_a_wrong_interval_is_refused(interval):
    for call in (
        lambda: conditional()(class_labels=0, guidance_interval=interval),
        lambda: conditional(guidance_interval=interval),
    ):
        with pytest.raises(ValueError, match="`guidance_interval` must be two increasing shares"):
            call()


def test_a_guide_is_what_guidance_leads_away_from_with_the_same_class():
    guide = other_memory()
    pipe = memory_pipeline(guide=guide)
    own, others, labels = pipe.unet.images / 2 + 0.5, guide.images / 2 + 0.5, [0, 2]

    for scale in (0.0, 1.0, 1.5):
        images = sample(pipe, 0, class_labels=labels, guidance_scale=scale)
        assert_close(images, others[labels] + scale * (own[labels] - others[labels]), rtol=0, atol=1e-5)


def test_a_guide_guides_without_classes_too_and_by_the_scale_of_the_pipeline():
    unet, guide = Memory(prediction_type="sample"), other_memory(None)
    pipe = CosineDDPMPipeline(unet, CosineDDPMScheduler(prediction_type="sample"), 4, guidance_scale=1.5, guide=guide)

    images = sample(pipe, 0)

    expected = guide.images + 1.5 * (unet.images - guide.images)
    assert_close(images, expected / 2 + 0.5, rtol=0, atol=1e-5)


def test_a_guide_that_is_the_network_guides_nowhere():
    pipe = conditional()
    guided = CosineDDPMPipeline(pipe.unet, pipe.scheduler, 4, 3, guide=pipe.unet)
    guided.set_progress_bar_config(disable=True)

    images = sample(guided, 0, class_labels=[0, 1], guidance_scale=3.0)

    assert_close(images, sample(pipe, 0, class_labels=[0, 1]), rtol=0, atol=1e-5)


def test_a_guide_of_other_classes_is_refused():
    with pytest.raises(ValueError, match="`guide` must have the `num_class_embeds` of `unet`, 4, got None"):
        memory_pipeline(guide=other_memory(None))


def test_a_guide_of_other_channels_or_noise_levels_is_refused_before_work_even_if_it_came_later():
    pipe, levels = lean_pipeline(), {"num_train_timesteps": 1000}
    seen = rows_seen(pipe)

    for guide, message in (
        (tiny_model("LeanUNet2DModel", "conditional", in_channels=3), "`guide` must have the `in_channels` of `unet`"),
        (tiny_model("LeanUNet2DModel", "conditional", **levels), "`scheduler.num_train_timesteps` must be that of"),
    ):
        with pytest.raises(ValueError, match=message):
            CosineDDPMPipeline(**pipe.components | {"guide": guide}, num_classes=3)
        pipe.register_modules(guide=guide)
        with pytest.raises(ValueError, match=message):
            pipe(class_labels=0)
        pipe.register_modules(guide=None)
    pipe.scheduler = CosineDDPMScheduler(1000, prediction_type="v_prediction")
    with pytest.raises(ValueError, match="`scheduler.num_train_timesteps` must be that of the network"):
        pipe(class_labels=0)

    assert seen == []


def test_a_pipeline_made_from_another_keeps_its_parts_and_settings(tmp_path):
    pipe = conditional(id2label=NAMES, guidance_scale=2.0, guidance_interval=(0.0, 0.5))

    guided = CosineDDPMPipeline.from_pipe(pipe, guide=pipe.unet)

    assert guided.unet is guided.guide is pipe.unet
    assert {key: guided.config[key] for key in pipe.config if key not in ("unet", "scheduler", "guide")} == {
        key: pipe.config[key] for key in pipe.config if key not in ("unet", "scheduler", "guide")
    }


def test_a_callback_may_change_the_guidance_and_stop_the_call():
    pipe = conditional()
    seen = rows_seen(pipe)

    def stop_guidance(pipe, step, timestep, tensors):
        if step == 1:
            pipe._guidance_scale = 1.0
        if step == 4:
            pipe._interrupt = True
        return tensors

    sample(pipe, 0, class_labels=0, guidance_scale=2.0, num_inference_steps=8, callback_on_step_end=stop_guidance)

    assert seen == [2, 2, 1, 1, 1]
    assert (pipe.guidance_scale, pipe.interrupt, pipe.num_timesteps) == (1.0, True, 8)
    assert len(sample(pipe, 0, class_labels=0, num_inference_steps=2)) == 1
    assert len(seen) == 7  # the next call starts anew


@pytest.mark.parametrize("has_guide", [True, False])
def test_a_guide_and_the_names_are_saved_with_the_pipeline(tmp_path, has_guide):
    unet, guide = tiny_model("PatchUNet2DModel", "conditional"), tiny_model("PatchUNet2DModel", "conditional")
    pipe = CosineDDPMPipeline(
        unet,
        CosineDDPMScheduler(),
        4,
        3,
        guidance_scale=2.0,
        guidance_interval=(0.0, 0.5),
        id2label=NAMES,
        guide=guide if has_guide else None,
    )
    pipe.set_progress_bar_config(disable=True)

    save_repo(pipe, tmp_path / "repo")
    again = AutoPipeline.from_pretrained(tmp_path / "repo")

    again.set_progress_bar_config(disable=True)
    assert (again.guide is not None) is has_guide
    images = sample(again, 0, class_labels="Sandal"), sample(pipe, 0, class_labels="Sandal")
    assert_close(*images, atol=1e-4, rtol=0)  # a product may round otherwise where weights lie elsewhere in memory


def test_a_class_may_be_named():
    pipe = conditional(id2label=NAMES)

    images = sample(pipe, 0, class_labels=("Bag", "T-shirt/top"))

    assert pipe.get_label_ids(["Bag", "T-shirt/top"]) == [2, 0]
    assert torch.equal(images, sample(pipe, 0, class_labels=[2, 0]))
    assert torch.equal(sample(pipe, 0, class_labels="Bag"), sample(pipe, 0, class_labels=2))


def test_an_unknown_name_is_refused_with_the_nearest_ones():
    seen = rows_seen(pipe := conditional(id2label=NAMES))

    with pytest.raises(ValueError, match="names of `id2label`, got 'Sandle'; did you mean Sandal"):
        pipe(class_labels="Sandle")
    with pytest.raises(ValueError, match="names of `id2label`, got 'xyz', which are T-shirt/top, Sandal, Bag"):
        pipe(class_labels=["Bag", "xyz"])
    with pytest.raises(ValueError, match=r"must be numbers in 0\.\.2: the classes have no names, got \['Bag'\]"):
        conditional()(class_labels="Bag")

    for mixed in (["Bag", 1], [None, 1], {"Bag"}):
        with pytest.raises(ValueError, match="`class_labels` must all be numbers, or all be names, got"):
            pipe(class_labels=mixed)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 'a bag'"):
        pipe("a bag")
    with pytest.raises(ValueError, match=r"`guidance_interval` must be two increasing shares in \[0, 1\], got 0.5"):
        pipe(class_labels=0, guidance_interval=0.5)

    assert seen == []


def test_names_that_are_not_those_of_all_classes_are_refused():
    with pytest.raises(ValueError, match=r"`id2label` must name the classes 0\.\.2"):
        conditional(id2label={0: "T-shirt/top", 1: "Sandal"})


def lean_pipeline():
    """A pipeline whose network takes mixtures, with predictions that depend on the class."""
    unet = tiny_model("LeanUNet2DModel", "conditional")
    for parameter in unet.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generators(1)[0])
    pipe = CosineDDPMPipeline(unet, CosineDDPMScheduler(prediction_type="v_prediction"), 4, 3, 1.5)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_mixture_of_one_class_is_the_class():
    pipe = lean_pipeline()

    mixed = sample(pipe, 0, class_labels=torch.eye(3)[[2, 0]])

    assert_close(mixed, sample(pipe, 0, class_labels=[2, 0]), rtol=0, atol=1e-4)
    assert torch.equal(mixed, sample(pipe, 0, class_labels=F.one_hot(torch.tensor([2, 0]), 3)))


def test_a_mixture_lies_between_its_classes_and_one_serves_all_images():
    pipe = lean_pipeline()
    half = torch.tensor([[0.5, 0.5, 0.0]])

    first, second, mixed = (sample(pipe, 0, class_labels=weights, num_inference_steps=20) for weights in (0, 1, half))

    assert (mixed - first).norm() < (second - first).norm()
    assert (mixed - second).norm() < (second - first).norm()
    assert len(sample(pipe, 0, class_labels=half, batch_size=3)) == 3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(1, 3), "`class_labels` must be at least 0 and sum to 1"),
        (torch.tensor([[2.0, -1.0, 0.0]]), "`class_labels` must be at least 0 and sum to 1"),
        (torch.ones(1, 1, 3), r"`class_labels` must be classes \(N,\) or mixtures \(N, K\), got \(1, 1, 3\)"),
        (torch.ones(1, 4) / 4, r"`class_labels` must be \(1 or 1, 3\), got \(1, 4\)"),
    ],
)
def test_a_wrong_mixture_is_refused(weights, message):
    seen = rows_seen(pipe := lean_pipeline())

    with pytest.raises(ValueError, match=message):
        pipe(class_labels=weights)

    assert seen == []


def test_a_network_without_mixtures_refuses_them():
    with pytest.raises(ValueError, match="`class_labels` must be classes: PatchUNet2DModel takes no mixtures"):
        conditional()(class_labels=torch.eye(3)[:1])


def test_a_guide_is_not_offloaded_to_files_since_they_have_the_names_of_those_of_the_network(tmp_path):
    pipe = conditional(guide=tiny_model("PatchUNet2DModel", "conditional", seed=1), guidance_scale=2.0)
    exact, leaves = sample(pipe, 0, class_labels=0), {"offload_type": "leaf_level"}

    with pytest.raises(ValueError, match="`offload_to_disk_path` must be unset"):
        pipe.enable_group_offload("cpu", **leaves, offload_to_disk_path=str(tmp_path))

    pipe.enable_group_offload("cpu", **leaves)
    assert torch.equal(sample(pipe, 0, class_labels=0), exact)
