"""Every sampler of the study is right for a cosine schedule with T = 4000: it leads the ideal denoiser of some images
to these images, converges at its order, and keeps its options."""

import inspect
import re

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.utils import DummyObject
from studies.sampler_study import SAMPLERS
from tiny import tiny_model
from torch.testing import assert_close

from genhub import CosineDDPMPipeline, CosineDDPMScheduler
from genhub.evaluation.sampling import sample, set_scheduler
from genhub.recipes.instantiate import Spec
from genhub.utils.randomness import keyed_generator
from genhub.utils.schedulers import scheduler_from, undeclared_options

EXPONENTIAL = {"use_exponential_sigmas": True, "sigma_max": 80.0, "sigma_min": 0.05}
OURS = "ancestral, ours"
ALL = [*SAMPLERS, OURS]
SOLVERS = ["DPM-Solver++ 2M", "DPM-Solver++ 3M", "UniPC", "DEIS", "Heun", "SDE-DPM++"]
CLASSES_OF_DIFFUSERS = [
    cls
    for name in dir(diffusers)
    if name.endswith("Scheduler") and not isinstance(cls := getattr(diffusers, name), DummyObject)
]
CLASSES = {name: getattr(diffusers, cls) for name, (cls, _) in SAMPLERS.items()}


def scheduler(**changes) -> CosineDDPMScheduler:
    options = {"prediction_type": "v_prediction", "timestep_spacing": "trailing", **EXPONENTIAL, **changes}
    return CosineDDPMScheduler(**options)


def made(name, **changes):
    """The scheduler of a sampler, from our config."""
    if name == OURS:
        return scheduler(**changes)
    return scheduler_from(scheduler(**changes).config, CLASSES[name], SAMPLERS[name][1])


class IdealDenoiser(ModelMixin, ConfigMixin):
    """The v of the mean of `images` given x_t, if each of them is equally likely."""

    @register_to_config
    def __init__(self, images: list, in_channels: int = 1, sample_size: int = 4):
        super().__init__()
        self.register_buffer("x_0", torch.tensor(images))  # (N, 1, 4, 4)
        self.register_buffer("log_sigmas", (1 / scheduler().alphas_cumprod.double() - 1).log() / 2)

    def forward(self, sample, timestep):
        index = np.interp(float(timestep), np.arange(4000), self.log_sigmas)
        sigma = np.exp(index)
        signal, noise = 1 / (1 + sigma**2) ** 0.5, sigma / (1 + sigma**2) ** 0.5
        distance = (sample[:, None] - signal * self.x_0).flatten(2).square().sum(2)  # (B, N)
        weights = torch.softmax(-distance / (2 * noise**2), 1)
        x_0 = torch.einsum("bn,nchw->bchw", weights, self.x_0)
        return UNet2DOutput(sample=(signal * sample - x_0) / noise)


IMAGES = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)).sign() * 0.9


def pipeline(name, **changes) -> CosineDDPMPipeline:
    pipe = CosineDDPMPipeline(IdealDenoiser(IMAGES.tolist()), scheduler(**changes), num_inference_steps=10)
    pipe.set_progress_bar_config(disable=True)
    if name != OURS:
        set_scheduler(pipe, *SAMPLERS[name])
    return pipe


@pytest.mark.parametrize("name", ALL)
def test_the_ideal_denoiser_of_some_images_leads_to_each_of_them(name):
    images = 2 * sample(pipeline(name), 64, seed=0) - 1

    distance, nearest = (images[:, None] - IMAGES).abs().flatten(2).amax(2).min(1)  # of each image, to the nearest
    assert distance.max() < 0.02  # DEIS leaves noise of its last sigma, .003
    assert set(nearest.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_what_its_images_are_alone_and_starts_from_the_same_noise(name):
    pipe, inputs = pipeline(name), []
    pipe.unet.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))

    batch = sample(pipe, 3, seed=1)

    noise = torch.cat([torch.randn(1, 1, 4, 4, generator=keyed_generator("image", 1, index)) for index in range(3)])
    assert_close(inputs[0], noise, rtol=1e-3, atol=1e-3)  # Heun's, at sigma 80, is scaled by 1 - 8e-5
    assert_close(sample(pipe, 3, seed=1, batch_size=1), batch, rtol=0, atol=1e-4)


MEAN, STD = -0.4, 0.5


def error_at_sigma_min(name, steps) -> float:
    """Error of the flow of N(MEAN, STD^2) from sigma 80 to .05, for x = 3 deviations (Karras et al. 2022, Eq. 1)."""
    solver = made(name, clip_sample=False)
    solver.register_to_config(sigma_min=0.05)
    solver.register_to_config(lower_order_final=False)
    solver.set_timesteps(steps)
    solver.set_begin_index(0)  # else the first step is looked for by its t, which may stand twice
    start = 3 * (STD**2 + 80**2) ** 0.5
    is_scaled = name == "Heun"  # x = x_t / alpha_t
    x = torch.full((1, 1), MEAN + start if is_scaled else (MEAN + start) / (1 + 80**2) ** 0.5, dtype=torch.float64)
    for index, t in enumerate(solver.timesteps[: 2 * steps - 2 if is_scaled else steps - 1]):
        sigma = solver.sigmas[index].double()
        x_t = solver.scale_model_input(x, t)
        x_0 = MEAN + STD**2 / (STD**2 + sigma**2) * (x_t * (1 + sigma**2) ** 0.5 - MEAN)
        v = (x_t / (1 + sigma**2) ** 0.5 - x_0) * (1 + sigma**2) ** 0.5 / sigma
        x = solver.step(v, t, x, return_dict=False)[0]
    exact = MEAN + 3 * (STD**2 + 0.05**2) ** 0.5
    return abs(float(x) * (1 if is_scaled else (1 + 0.05**2) ** 0.5) - exact)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("DPM-Solver++ 2M", 2),
        ("DPM-Solver++ 3M", 2),  # its first step is of order 1; it is still the better one
        ("UniPC", 3),  # a predictor of order 2 and its corrector
        ("DEIS", 2),
        ("Heun", 2),
    ],
)
def test_a_solver_converges_at_its_order_on_the_flow_of_a_gaussian(name, order):
    coarse, fine = error_at_sigma_min(name, 80), error_at_sigma_min(name, 160)

    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.15)
    assert fine < 5e-4


@pytest.mark.parametrize("name", SOLVERS)
def test_steps_are_uniform_in_ln_sigma_between_the_ends_in_the_config(name, tmp_path):
    made(name).save_pretrained(tmp_path)
    solver = CLASSES[name].from_pretrained(tmp_path)

    solver.set_timesteps(10)

    sigmas = solver.sigmas[:-1].double()
    sigmas = sigmas[::2] if name == "Heun" else sigmas  # each stands twice but the first
    expected = EXPONENTIAL | {k: v for k, v in SAMPLERS[name][1].items() if k in EXPONENTIAL}
    assert {key: solver.config[key] for key in EXPONENTIAL} == expected
    uniform = torch.linspace(np.log(expected["sigma_max"]), np.log(expected["sigma_min"]), 10, dtype=torch.float64)
    assert_close(sigmas.log(), uniform, rtol=0, atol=1e-5)
    back = CosineDDPMScheduler.from_config(solver.config)
    assert {key: back.config[key] for key in EXPONENTIAL} == expected


@pytest.mark.parametrize("name", ["DDPM", "DDIM", OURS])
@pytest.mark.parametrize("count", [1, 10, 32, 4000])
def test_trailing_steps_begin_at_T_and_end_a_step_above_0(name, count):
    solver = made(name)

    solver.set_timesteps(count)

    assert solver.timesteps.tolist() == list(range(3999, -1, -4000 // count))


def test_the_undeclared_options_are_those_that_the_sources_read():
    for name in dir(diffusers):
        cls = getattr(diffusers, name) if name.endswith("Scheduler") else None
        if inspect.isclass(cls) and issubclass(cls, diffusers.SchedulerMixin) and not name.startswith("FlowMatch"):
            read = {*re.findall(r'hasattr\(self\.config, "(sigma_\w+)"\)', inspect.getsource(cls))}
            declared = {*inspect.signature(cls).parameters}
            assert {*undeclared_options(cls)} - {"clip_sample"} == read - declared, name
            carries = "beta_schedule" in declared and "clip_sample" not in declared
            assert ("clip_sample" in undeclared_options(cls)) == carries, name


def test_a_solver_that_never_clips_passes_on_that_others_must_not(tmp_path):
    section = {"class": "diffusers.DPMSolverMultistepScheduler", "beta_schedule": "squaredcos_cap_v2"}
    section |= {"clip_sample": False}
    Spec("components.scheduler", section, (diffusers.SchedulerMixin,)).build().save_pretrained(tmp_path)
    solver = diffusers.DPMSolverMultistepScheduler.from_pretrained(tmp_path)

    for cls in (diffusers.DDIMScheduler, diffusers.DDPMScheduler, CosineDDPMScheduler):
        assert cls.from_config(solver.config).config.clip_sample is False
    with pytest.raises(ValueError, match="`scheduler.clip_sample` must be true or false, got 'no'"):
        Spec("components.scheduler", section | {"clip_sample": "no"}, (diffusers.SchedulerMixin,)).build()


@pytest.mark.parametrize("cls", ["genhub.CosineDDPMScheduler", "diffusers.DPMSolverMultistepScheduler"])
def test_a_recipe_sets_them_too(cls):
    built = Spec("components.scheduler", {"class": cls, **EXPONENTIAL}, (diffusers.SchedulerMixin,)).build()

    assert {key: built.config[key] for key in EXPONENTIAL} == EXPONENTIAL
    with pytest.raises(ValueError, match="There is no `components.scheduler.sigma_mx`"):
        Spec("components.scheduler", {"class": cls, "sigma_mx": 80.0}, (diffusers.SchedulerMixin,))
    with pytest.raises(ValueError, match="`sigma_min` must|`scheduler.sigma_min` must"):
        Spec(
            "components.scheduler", {"class": cls, "sigma_max": 1.0, "sigma_min": 2.0}, (diffusers.SchedulerMixin,)
        ).build()


def test_a_change_of_sampler_keeps_the_options_that_it_does_not_read():
    pipe = pipeline("DDIM")
    set_scheduler(pipe, "DPMSolverMultistepScheduler", {"sigma_min": 0.02, "thresholding": True})
    set_scheduler(pipe, "DDIMScheduler")
    set_scheduler(pipe, "DEISMultistepScheduler")

    assert [pipe.scheduler.config[key] for key in EXPONENTIAL] == [True, 80.0, 0.02]
    assert pipe.scheduler.config.thresholding


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("DDIMScheduler", {"beta_schedule": "linear"}, "must have the noise levels that the network was trained on"),
        (
            None,
            {"num_train_timesteps": 1000},
            "must have the noise levels .*, the 4000 of CosineDDPMScheduler, got other ones",
        ),
        ("EDMEulerScheduler", {}, "must have the noise levels .*, got other ones in EDMEulerScheduler"),
        ("IPNDMScheduler", {}, "must have the noise levels"),
        ("RePaintScheduler", {}, "must denoise as CosineDDPMScheduler does, got RePaintScheduler"),
        ("DDIMInverseScheduler", {}, "must denoise as CosineDDPMScheduler does, got DDIMInverseScheduler"),
        ("ScoreSdeVeScheduler", {}, "must denoise as CosineDDPMScheduler does, got ScoreSdeVe"),
        ("VQDiffusionScheduler", {}, "cannot be VQDiffusionScheduler with {}"),
        (
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "euler"},
            "cannot be DPMSolverMultistepScheduler with {'al",
        ),
        ("DPMSolverMultistepScheduler", {"sigma_max": "x"}, "`scheduler.sigma_max` must be a number above 0, got 'x'"),
        (
            "DPMSolverMultistepScheduler",
            {"sigma_maks": 1},
            "There is no `scheduler.sigma_maks` .did you mean 'sigma_max'",
        ),
        ("dpmsolvermultistep", {}, "did you mean 'DPMSolverMultistep"),
    ],
)
def test_a_scheduler_that_does_not_fit_is_refused_before_any_work(name, options, message):
    with pytest.raises(ValueError, match=message):
        set_scheduler(pipeline(OURS), name, options)


@pytest.mark.parametrize(
    "options", [EXPONENTIAL, pytest.param({"timestep_spacing": "leading"}, marks=pytest.mark.slow)]
)
def test_any_scheduler_of_diffusers_leads_to_the_images_or_is_refused_in_a_line(options):
    pipe = pipeline(OURS, **dict.fromkeys(EXPONENTIAL) | {"use_exponential_sigmas": False} | options)
    config, generator = pipe.scheduler.config, torch.Generator().manual_seed(0)
    lost, refused = [], {}

    for cls in CLASSES_OF_DIFFUSERS:
        try:
            pipe.scheduler = cls.from_config(config)
        except (TypeError, NotImplementedError):  # needs other arguments
            continue
        try:
            images = 2 * pipe(8, generator, 20, output_type="pt").images - 1
        except ValueError as error:
            refused[cls.__name__] = str(error)
            continue
        distance = (images[:, None] - IMAGES).abs().flatten(2).amax(2).min(1).values.max()
        lost += [cls.__name__] if distance > 0.2 else []  # some leave noise of their last sigma

    assert lost == []
    assert [said for said in refused.values() if "\n" in said] == []
    assert {"EDMEulerScheduler", "IPNDMScheduler", "DDIMInverseScheduler", "KarrasVeScheduler"} <= {*refused}
    assert not {*refused} & {cls.__name__ for cls in CLASSES.values()}


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler"])
def test_a_second_order_solver_is_refused_where_its_first_step_would_be_too_long(name):
    pipe = pipeline(OURS, use_exponential_sigmas=False, sigma_max=None, sigma_min=None)
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)

    with pytest.raises(ValueError, match="`scheduler` must have a `sigma_max`|`scheduler.timesteps` must fall, got"):
        pipe(num_inference_steps=10)


def test_a_sampler_made_from_our_config_does_not_complain_of_our_own_options(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(diffusers.configuration_utils.logger, "warning", said.append)
    ours = scheduler()
    ours.save_pretrained(tmp_path)

    for config in (ours.config, CosineDDPMScheduler.from_pretrained(tmp_path).config):
        for cls in CLASSES.values():
            cls.from_config(config)

    assert said == []


def test_a_network_of_a_learned_variance_needs_a_scheduler_that_reads_it():
    unet = tiny_model("UNet2DModel", out_channels=2)
    images = CosineDDPMPipeline(unet, diffusers.DDPMScheduler(20, variance_type="learned_range"), 2)(output_type="pt")

    assert images.images.shape == (1, 1, 8, 8)
    with pytest.raises(ValueError, match="`scheduler.variance_type` must be learned, .* got 'fixed_small'"):
        CosineDDPMPipeline(unet, scheduler())


def test_a_pipeline_refuses_steps_and_noise_levels_beyond_those_of_its_network():
    pipe = pipeline("DPM-Solver++ 2M", use_exponential_sigmas=False)
    trained = diffusers.UNet2DModel(
        8, 1, 1, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        norm_num_groups=4, num_train_timesteps=1000,
    )  # fmt: skip

    with pytest.raises(ValueError, match="`num_inference_steps` must lie between 1 and 4000, got 4001"):
        pipe(num_inference_steps=4001)
    with pytest.raises(ValueError, match="`timesteps` must fall strictly within 3999..0"):
        pipe(timesteps=[4000, 10])
    with pytest.raises(
        ValueError, match="`scheduler.num_train_timesteps` must be that of the network, 1000, got 4000"
    ):
        CosineDDPMPipeline(trained, scheduler())
