"""Image i of a seed is the same everywhere, no class in turn is the null class, and what a pipeline does not take is
refused."""

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from tiny import tiny_model
from tiny_pipelines import tiny_stable_diffusion
from torch.testing import assert_close

from genhub import BoltzmannPipeline, CosineDDPMPipeline, CosineDDPMScheduler, GANPipeline, VAEPipeline
from genhub.evaluation.sampling import (
    Sampler,
    check_sampling_arguments,
    labels_in_turn,
    sample,
    set_scheduler,
)
from genhub.evaluation.sampling_record import sampling_record
from genhub.evaluation.speed import count_passes
from genhub.utils.cache import cache_folder, content_hash

SHAPE = (1, 8, 8)


def ddpm(**changes) -> DiffusionPipeline:
    pipeline = CosineDDPMPipeline(
        tiny_model("PatchUNet2DModel", **changes), CosineDDPMScheduler(num_train_timesteps=20), num_inference_steps=2
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def plain_ddpm() -> DiffusionPipeline:
    """Of diffusers' own class."""
    pipeline = DDPMPipeline(tiny_model("PatchUNet2DModel"), DDPMScheduler(num_train_timesteps=20))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class ByClass(DiffusionPipeline):
    """Generates noise as bright as its class is high; the network knows one class more, which stands for none."""

    tasks = ("generate",)
    inputs = ("class_labels",)

    def __init__(self, network, num_classes: int = 3):
        super().__init__()
        self.register_modules(network=network)
        self.register_to_config(num_classes=num_classes)

    def __call__(self, batch_size, generator, class_labels, output_type):
        noise = randn_tensor((batch_size, *SHAPE), generator=generator)
        return ImagePipelineOutput(images=(noise.sigmoid() + torch.tensor(class_labels)[:, None, None, None]) / 10)


def with_null_class() -> DiffusionPipeline:
    return ByClass(tiny_model("PatchUNet2DModel", num_class_embeds=4))


PIPELINES = {
    "ddpm": (ddpm, {}),
    "diffusers' ddpm": (plain_ddpm, {"num_inference_steps": 2}),
    "gan": (lambda: GANPipeline(tiny_model("DCGANGenerator")), {}),
    "conditional vae": (lambda: VAEPipeline(tiny_model("DenseVAE", num_class_embeds=3)), {}),
}


# ---- one function


@pytest.mark.parametrize("name", PIPELINES)
def test_image_i_depends_on_the_seed_and_on_i_alone(name):
    make, arguments = PIPELINES[name]
    pipeline = make()

    images = sample(pipeline, 5, seed=3, arguments=arguments)

    assert images.min() >= 0
    assert images.max() <= 1
    assert images.dtype == torch.float32
    for others in (
        sample(pipeline, 5, seed=3, batch_size=2, arguments=arguments),
        torch.cat([sample(pipeline, 1, seed=3, arguments=arguments, indices=[index]) for index in range(5)]),
        sample(pipeline, 5, seed=3, batch_size=2, arguments=arguments, indices=[4, 0, 3, 1, 2])[[1, 3, 4, 2, 0]],
    ):
        assert_close(others, images, rtol=0, atol=1e-5)
    assert_close(sample(pipeline, 3, seed=3, arguments=arguments), images[:3], rtol=0, atol=1e-5)
    assert not torch.allclose(sample(pipeline, 5, seed=4, arguments=arguments), images, atol=0.01)


def test_without_labels_the_real_classes_are_asked_for_in_turn_and_never_the_null_class():
    pipeline = with_null_class()

    images = sample(pipeline, 8, seed=0)

    assert labels_in_turn(pipeline, range(8)) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert_close(images, sample(pipeline, 8, seed=0, labels=[0, 1, 2, 0, 1, 2, 0, 1]), rtol=0, atol=1e-6)
    assert labels_in_turn(ddpm(), range(8)) is None


def test_labels_are_those_of_the_images_in_whatever_batch():
    pipeline = with_null_class()

    images = sample(pipeline, 3, seed=0, labels=[2, 0, 1], batch_size=2)

    alone = [sample(pipeline, 1, seed=0, labels=[label], indices=[i]) for i, label in enumerate([2, 0, 1])]
    assert_close(images, torch.cat(alone), rtol=0, atol=1e-5)


class Parrot(DiffusionPipeline):
    """Generates images as bright as its prompts are long."""

    tasks = ("generate",)
    inputs = ("prompt",)
    sampling_arguments = ("contrast",)

    def __init__(self):
        super().__init__()
        self.register_to_config()

    def __call__(self, prompt, generator=None, output_type="pil", contrast=1.0):
        images = torch.stack([torch.full(SHAPE, contrast * len(text) / 100) for text in prompt])
        assert len(generator) == len(images)
        return ImagePipelineOutput(images=images)


def test_a_pipeline_that_takes_prompts_gets_one_for_each_image():
    prompts = ["a" * 10, "b" * 20, "c" * 30]

    images = sample(Parrot(), 3, seed=0, batch_size=2, prompts=prompts, arguments={"contrast": 2})

    assert_close(images.mean((1, 2, 3)), torch.tensor([0.2, 0.4, 0.6]))
    assert sample(Parrot(), 3, seed=0).max() == 0  # empty ones, if there are none


# ---- arguments and schedulers


def test_arguments_that_a_pipeline_does_not_declare_are_refused():
    check_sampling_arguments(ddpm(), {"num_inference_steps": 3, "guidance_scale": 1.0})

    with pytest.raises(ValueError, match="`num_inference_step` must be unset: .* mean 'num_inference_steps'"):
        check_sampling_arguments(ddpm(), {"num_inference_step": 3})
    with pytest.raises(ValueError, match=r"`truncation` must be unset: VAEPipeline does not take it\.$"):
        check_sampling_arguments(VAEPipeline(tiny_model("DenseVAE")), {"truncation": 0.5})


def test_a_scheduler_is_replaced_by_name_with_the_config_of_the_one_before_and_other_values():
    pipeline = ddpm()
    config = pipeline.scheduler.config

    set_scheduler(pipeline, None)
    assert type(pipeline.scheduler).__name__ == "CosineDDPMScheduler"
    set_scheduler(pipeline, "DPMSolverMultistepScheduler", {"use_karras_sigmas": True, "solver_order": 3})

    assert type(pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert pipeline.scheduler.config.num_train_timesteps == config.num_train_timesteps == 20
    assert (pipeline.scheduler.config.use_karras_sigmas, pipeline.scheduler.config.solver_order) == (True, 3)
    set_scheduler(pipeline, None, {"solver_order": 2})
    assert (pipeline.scheduler.config.use_karras_sigmas, pipeline.scheduler.config.solver_order) == (True, 2)
    assert sample(pipeline, 1, seed=0).isfinite().all()


@pytest.mark.parametrize(
    ("make", "name", "arguments", "message"),
    [
        (ddpm, "DDIMSchedule", {}, "has such a class: DDIMSchedule"),
        (ddpm, "UNet2DModel", {}, "has such a class: UNet2DModel"),
        (ddpm, "DDIMScheduler", {"use_karras_sigma": True}, "There is no `scheduler.use_karras_sigma`"),
        (ddpm, None, {"variance_typ": "fixed_small"}, "did you mean 'variance_type'"),
        (PIPELINES["gan"][0], "DDIMScheduler", {}, "`scheduler` must be unset: GANPipeline has none"),
        (PIPELINES["gan"][0], None, {"order": 2}, "`scheduler` must be unset: GANPipeline has none"),
        (ddpm, "FlowMatchEulerDiscreteScheduler", {}, "`scheduler` must denoise as CosineDDPMScheduler does"),
    ],
)
def test_a_scheduler_that_does_not_exist_or_fit_is_refused(make, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        set_scheduler(make(), name, arguments)


class Flow(DiffusionPipeline):
    """A pipeline for flow matching, whose schedulers scale no noise."""

    tasks = ("generate",)

    def __init__(self, scheduler):
        super().__init__()
        self.register_modules(scheduler=scheduler)


def test_schedulers_of_flow_matching_are_schedulers():
    pipeline = Flow(FlowMatchEulerDiscreteScheduler(shift=2.0))

    set_scheduler(pipeline, "FlowMatchHeunDiscreteScheduler")

    assert type(pipeline.scheduler).__name__ == "FlowMatchHeunDiscreteScheduler"
    assert pipeline.scheduler.config.shift == 2


# ---- the protocol's sampler


def test_a_record_holds_further_arguments_only_if_they_are_given():
    sampler = Sampler(ddpm(), SHAPE, seed=7, batch_size=4, is_quiet=True)
    before = {
        "images": 10,
        "seed": 7,
        "batch_size": 4,
        "classes": None,
        "sampler": "CosineDDPMScheduler",
        "steps": 2,
        "guidance_scale": None,
        "dtype": "float32",
    }

    assert sampling_record(sampler, 10, {}) == before
    sampler.arguments = {"num_inference_steps": 5, "guidance_scale": 2.0}
    assert sampling_record(sampler, 10, {}) == before | {"steps": 5, "guidance_scale": 2.0}
    sampler.arguments = {"timesteps": [15, 10, 5]}
    assert sampling_record(sampler, 10, {"solver_order": 2}) == before | {
        "steps": 3,
        "arguments": {"timesteps": [15, 10, 5]},
        "scheduler_arguments": {"solver_order": 2},
    }


def test_a_record_says_where_images_were_guided_unless_it_was_everywhere():
    pipeline = ddpm()
    pipeline.register_to_config(guidance_interval=[0.25, 0.75])
    sampler = Sampler(pipeline, SHAPE, seed=7, batch_size=4, arguments={"guidance_scale": 2.0}, is_quiet=True)

    assert sampling_record(sampler, 10, {})["guidance_interval"] == [0.25, 0.75]
    for plain in ({"guidance_interval": (0.0, 1.0)}, {"guidance_scale": 1.0}):
        sampler.arguments = {"guidance_scale": 2.0} | plain
        assert not {"guidance_interval", "arguments"} & sampling_record(sampler, 10, {}).keys()


def test_a_record_says_how_images_are_guided_if_no_call_does():
    text = Sampler(tiny_stable_diffusion(), SHAPE, seed=7, batch_size=4, is_quiet=True)
    unet = tiny_model("PatchUNet2DModel")
    pipeline = CosineDDPMPipeline(unet, CosineDDPMScheduler(16), 2, guidance_scale=1.5, guide=unet)
    guided = Sampler(pipeline, SHAPE, seed=7, batch_size=4, is_quiet=True)

    assert sampling_record(text, 10, {})["guidance_scale"] == 7.5  # of diffusers
    assert sampling_record(guided, 10, {})["guidance_scale"] == 1.5
    assert sampling_record(guided, 10, {})["autoguidance"]


def test_batches_of_the_protocol_are_cached_by_all_that_decides_them(tmp_path, monkeypatch):
    monkeypatch.setenv("GENHUB_CACHE", str(tmp_path))
    pipeline = VAEPipeline(tiny_model("DenseVAE", num_class_embeds=3))

    def draw(**changes):
        settings = {"seed": 7, "batch_size": 4, "classes": 3, "key": "weights", "is_quiet": True} | changes
        return Sampler(pipeline, SHAPE, **settings).draw(6)

    images, seconds = draw()

    assert (len(images), len(seconds)) == (6, 1)  # the second batch is not full
    keys = {content_hash("weights", asked) for asked in ("7 0 4 [0, 1, 2, 0] []", "7 1 2 [1, 2] []")}
    assert {path.stem for path in (cache_folder() / "samples").iterdir()} == keys  # caches outlive releases
    again, same_seconds = draw()
    assert torch.equal(again, images)
    assert same_seconds == seconds
    draw(seed=8)
    draw(key="other")
    assert len(list((cache_folder() / "samples").iterdir())) == 6


@pytest.mark.parametrize(
    ("make", "arguments", "passes"),
    [
        (ddpm, {"num_inference_steps": 3}, 3),
        (ddpm, {"num_inference_steps": 3, "batch_size": 2}, 6),
        (lambda: GANPipeline(tiny_model("DCGANGenerator")), {}, 1),
        (lambda: GANPipeline(tiny_model("StyleGANGenerator")), {}, 1),  # which calls other methods than `forward`
        (lambda: VAEPipeline(tiny_model("DenseVAE")), {}, 1),
        (lambda: VAEPipeline(tiny_model("ConvVAE")), {}, 1),
        (
            lambda: BoltzmannPipeline(tiny_model("DeepBeliefNet")),
            {"num_inference_steps": 3},
            7,
        ),  # up and down in the upper machine, at last down through both
    ],
)
def test_passes_are_counted_whichever_method_a_pipeline_calls(make, arguments, passes):
    pipeline = make()
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]

    with count_passes(networks) as counted:
        pipeline(**{"batch_size": 1, "output_type": "pt"} | arguments)

    assert list(counted.values()) == [passes]


def test_counting_leaves_no_hook_behind_even_if_the_pipeline_fails():
    pipeline = ddpm()

    def fail():
        with count_passes([pipeline.unet]):
            pipeline(batch_size=1, num_inference_steps=1, output_type="pt")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()

    assert not any(module._forward_hooks for module in pipeline.unet.modules())


def test_speed_is_that_of_one_image_and_of_full_batches():
    sampler = Sampler(ddpm(), SHAPE, seed=0, batch_size=2, is_quiet=True)
    _, seconds = sampler.draw(5)

    speed = sampler.speed([0.5, 0.5, 0.5, 0.25, 0.25])

    assert len(seconds) == 2
    assert speed["images_per_second_batch_2"] == 8  # the first three calls warm up
    assert speed["passes_per_image"] == 2
    assert speed["parameters"] == sum(p.numel() for p in sampler.pipeline.unet.parameters())
    assert speed["images_per_second_batch_1"] > 0
    assert speed["peak_memory_mb"] > 0
