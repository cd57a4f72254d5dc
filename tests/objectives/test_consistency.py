"""Consistency tuning against closed forms: one image, Gaussian data, and what two points teach a small network."""

import copy

import pytest
import torch
from diffusers import ConfigMixin, LCMScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from tiny import tiny_model
from torch import nn
from torch.testing import assert_close

from genhub.data import Images
from genhub.objectives import ConsistencyTuning, NoisePrediction, Step
from genhub.objectives.noising import predicted_x_0, signal_and_noise
from genhub.pipelines.pipeline_cosine_ddpm import CosineDDPMPipeline
from genhub.repository.load import AutoPipeline
from genhub.repository.save import save_repo
from genhub.schedulers.scheduling_cosine_ddpm import CosineDDPMScheduler
from genhub.utils.randomness import BatchRandom

MEAN, STD = -0.4, 0.7
SCHEDULER = CosineDDPMScheduler(prediction_type="v_prediction", clip_sample=False)
SIGMAS = ((1 - SCHEDULER.alphas_cumprod) / SCHEDULER.alphas_cumprod).sqrt()


class Network(nn.Module):
    """Predicts the v of f(y, sigma, labels), a function of y = x_t / alpha_t, and remembers its calls."""

    def __init__(self, f, num_class_embeds=None):
        super().__init__()
        self.f, self.config, self.calls = f, {"num_class_embeds": num_class_embeds}, []

    def forward(self, sample, timestep, class_labels=None):
        self.calls.append((sample.detach(), timestep, class_labels, torch.is_grad_enabled()))
        alpha, noise = signal_and_noise(SCHEDULER.alphas_cumprod, timestep, sample)
        return UNet2DOutput((alpha * sample - self.f(sample / alpha, noise / alpha, class_labels)) / noise)


def gaussian_flow(y, sigma, labels=None, exponent=0.5):
    """Where the probability-flow ODE of data N(MEAN, STD^2) leads y (Karras et al. 2022, Eq. 1 with s = 1, solved)."""
    return MEAN + STD * (y - MEAN) * (STD**2 + sigma**2) ** -exponent


def gaussian_denoiser(y, sigma, labels=None):
    """E[x_0 | y] of data N(MEAN, STD^2)."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (y - MEAN)


class GaussianFlow(ModelMixin, ConfigMixin):
    """The exact consistency function of Gaussian data as a network that predicts v."""

    @register_to_config
    def __init__(self, sample_size: int = 4, in_channels: int = 1, num_class_embeds: int | None = None):
        super().__init__()
        self.network = Network(gaussian_flow)
        self.register_buffer("device_and_dtype", torch.zeros(()))

    def forward(self, sample, timestep, class_labels=None):
        return self.network(sample, timestep.expand(len(sample)))


def step(count, index=0):
    return Step(index, 0.0, BatchRandom("test", index, rows=range(count), total=count))


def loss(network, x_0, teacher, labels=None, **arguments):
    objective = ConsistencyTuning(network, SCHEDULER, teacher, **arguments)
    batch = {"sample": x_0} | ({} if labels is None else {"labels": labels})
    terms = objective.consistency_loss(batch, step(len(x_0)))
    assert terms.keys() == {"loss"}
    return terms["loss"]


def gaussian_images(count, size=8):
    return MEAN + STD * torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_without_noise_the_consistency_function_is_the_identity_whatever_is_predicted(prediction_type):
    x, one = torch.randn(2, 1, 4, 4), torch.ones(2, 1, 1, 1)

    assert torch.equal(predicted_x_0(torch.randn_like(x), x, one, 0 * one, prediction_type), x)


def test_the_consistency_function_of_one_image_has_no_loss():
    image = torch.rand(1, 1, 4, 4) * 2 - 1
    exact, other = Network(lambda y, *_: image.expand_as(y)), Network(gaussian_flow)

    losses = [loss(network, image.expand(256, -1, -1, -1), exact) for network in (exact, other)]

    assert losses[0] < 1e-6 < 0.01 < losses[1]


@pytest.mark.parametrize(("pixel", "predicted", "is_free"), [(-1, -1.2, True), (1, 1.2, True), (-1, 1.2, False)])
def test_black_and_white_may_be_predicted_beyond_the_range_that_the_scheduler_clips_to(pixel, predicted, is_free):
    image, network = torch.full((64, 1, 4, 4), pixel), Network(lambda y, *_: torch.full_like(y, predicted))
    teacher = Network(lambda y, *_: 1.1 * image)
    clipped, unclipped = (CosineDDPMScheduler(prediction_type="v_prediction", clip_sample=c) for c in (True, False))
    arguments = {"sigma_min": 1e6}  # the target is the teacher's x_0

    def loss(scheduler):
        objective = ConsistencyTuning(network, scheduler, teacher, **arguments)
        return objective.consistency_loss({"sample": image.float()}, step(64))["loss"].item()

    assert (loss(clipped) < 1e-9) == is_free
    assert loss(unclipped) > 0.01


@pytest.mark.parametrize(("r", "is_own"), [(0, True), (-1, False)])
def test_the_target_is_the_networks_own_at_the_lowest_noise_level_and_the_teachers_beneath_it(r, is_own):
    network, teacher = (Network(lambda y, *_, value=value: torch.full_like(y, value)) for value in (0.2, 0.5))
    objective = ConsistencyTuning(network, SCHEDULER, teacher)
    objective.draw_pairs = lambda _: (torch.full((4,), 500), torch.full((4,), r))

    loss = objective.consistency_loss({"sample": torch.zeros(4, 1, 4, 4)}, step(4))["loss"]

    assert (loss < 1e-9) == is_own


def test_the_consistency_function_of_gaussian_data_is_where_the_loss_has_no_slope():
    def slope(exponent):
        exponent = torch.tensor(exponent, requires_grad=True)
        network = Network(lambda y, sigma, _: gaussian_flow(y, sigma, exponent=exponent))
        loss(network, gaussian_images(4000), Network(gaussian_denoiser)).backward()
        return exponent.grad.item()

    below, exact, above = slope(0.45), slope(0.5), slope(0.55)

    assert below < 0 < above
    assert abs(exact) < 0.1 * min(-below, above)


def test_the_loss_of_the_exact_function_falls_with_the_step_and_that_of_the_teacher_does_not():
    teacher, x_0 = Network(gaussian_denoiser), gaussian_images(500)

    def losses(f):
        return [loss(Network(f), x_0, teacher, ratio=ratio, sigma_min=0.0).item() for ratio in (0.5, 0.75, 0.875)]

    exact, denoiser = losses(gaussian_flow), losses(gaussian_denoiser)

    assert exact[2] < 0.05 * exact[1] < 0.0025 * exact[0]  # halving a step: its error / 8, which is squared
    assert all(theirs > 50 * own for own, theirs in zip(exact, denoiser, strict=True))


def test_the_teacher_leads_along_the_trajectory_and_the_network_is_asked_there():
    network, x_0 = Network(gaussian_flow), gaussian_images(300)

    loss(network, x_0, Network(gaussian_denoiser))

    (x_r, r, _, _), (x_t, t, _, _) = network.calls
    y_r, y_t = (x / signal_and_noise(SCHEDULER.alphas_cumprod, timestep, x)[0] for x, timestep in ((x_r, r), (x_t, t)))
    sigma_r, sigma_t = (SIGMAS[timestep].view(-1, 1, 1, 1) for timestep in (r, t))
    exact = MEAN + (y_t - MEAN) * ((STD**2 + sigma_r**2) / (STD**2 + sigma_t**2)) ** 0.5
    is_step = r > 0  # r = 0 may stand for the clean image
    error = ((y_r - exact) / (STD**2 + sigma_r**2) ** 0.5)[is_step]
    assert is_step.sum() > 150
    assert error.abs().max() < 0.1
    assert error.square().mean() ** 0.5 < 0.02


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_the_target_is_the_guided_prediction_of_the_teacher_and_not_guided_for_dropped_labels(guidance_scale):
    def teacher(y, sigma, labels):  # x_0 = 0.1 (label + 1), of the null class -0.1
        return torch.where(labels == 2, -0.1, 0.1 * (labels + 1)).view(-1, 1, 1, 1).expand_as(y)

    def guided(y, sigma, labels):
        return torch.where(
            labels.view(-1, 1, 1, 1) == 2, -0.1, -0.1 + guidance_scale * (teacher(y, sigma, labels) + 0.1)
        )

    labels = torch.arange(400) % 2
    arguments = {"teacher": Network(teacher, 3), "guidance_scale": guidance_scale, "label_dropout": 0.5}

    lost = loss(Network(guided, 3), gaussian_images(400), labels=labels, **arguments)

    assert lost < 1e-6
    assert loss(Network(lambda *a: 0.9 * guided(*a), 3), gaussian_images(400), labels=labels, **arguments) > 1e-4


def test_both_noise_levels_and_the_teacher_see_the_same_labels_and_only_the_higher_level_has_a_gradient():
    network, teacher = Network(gaussian_flow, 11), Network(gaussian_denoiser, 11)

    loss(network, gaussian_images(200), teacher, torch.arange(200) % 10, label_dropout=0.3)

    labels, gradients = [[call[place] for call in (*network.calls, *teacher.calls)] for place in (2, 3)]
    assert all(torch.equal(labels[0], other) for other in labels)
    assert gradients == [False, True, False, False]


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_labels_are_dropped_to_the_null_class_at_the_stated_rate(share):
    count, network = 10_000, Network(gaussian_flow, 11)

    loss(network, torch.zeros(count, 1, 1, 1), network, torch.arange(count) % 10, label_dropout=share)

    dropped = (network.calls[-1][2] == 10).float().mean()
    assert abs(dropped - share) <= 4 * (share * (1 - share) / count) ** 0.5


def test_noise_levels_are_log_normal_and_the_lower_one_has_the_ratio_or_is_0():
    network, sigmas = Network(gaussian_flow), torch.cat([SIGMAS, torch.zeros(1)])  # of r = -1, the last
    arguments = {"log_sigma_mean": -0.5, "log_sigma_std": 1.5, "ratio": 0.7, "sigma_min": 0.1}

    t, r = ConsistencyTuning(network, SCHEDULER, network, **arguments).draw_pairs(step(20_000))

    logs = SIGMAS[t].log()
    assert abs(logs.mean() + 0.5) < 0.05
    assert abs(logs.std() - 1.5) < 0.05
    is_clean, wanted = r == -1, 0.7 * SIGMAS[t]
    assert torch.equal(is_clean, wanted < 0.1)
    assert is_clean.sum() > 1000
    assert (sigmas[r] <= wanted * (1 + 1e-5)).all()
    assert (sigmas[r + 1] >= wanted * (1 - 1e-5))[~is_clean].all()  # the nearest level of the schedule below


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_lcm_turns_noise_into_gaussian_data_by_their_exact_consistency_function(calls):
    pipe = CosineDDPMPipeline(GaussianFlow(), few_step_scheduler(clip_sample=False))
    pipe.set_progress_bar_config(disable=True)

    images = pipe(4000, torch.Generator().manual_seed(0), calls, output_type="pt").images

    expected = torch.distributions.Normal(MEAN, STD)
    for value in (-0.8, -0.4, 0.0, 0.5):  # within the range that images are clipped to
        share = (images * 2 - 1 < value).float().mean()
        assert abs(share - expected.cdf(torch.tensor(value))) < 2 / images.numel() ** 0.5


def few_step_scheduler(**changes):
    return LCMScheduler.from_config(SCHEDULER.config, original_inference_steps=3967, **changes)


def test_lcm_starts_at_the_noise_level_that_its_config_says_and_halves_the_schedule():
    scheduler = few_step_scheduler()

    timesteps = {}
    for calls in (1, 2, 4):
        scheduler.set_timesteps(calls)
        timesteps[calls] = scheduler.timesteps.tolist()

    assert timesteps == {1: [3966], 2: [3966, 1983], 4: [3966, 2975, 1983, 991]}
    assert_close(scheduler.alphas_cumprod, SCHEDULER.alphas_cumprod)
    assert SIGMAS[3966] == pytest.approx(80, rel=0.05)


def test_a_saved_few_step_pipeline_makes_the_same_images(tmp_path):
    pipe = CosineDDPMPipeline(tiny_model("PatchUNet2DModel", "conditional"), few_step_scheduler(), 2, num_classes=3)

    save_repo(pipe, tmp_path / "repo")
    again = AutoPipeline.from_pretrained(tmp_path / "repo")

    assert type(again.scheduler) is LCMScheduler
    images = [
        each(class_labels=[0, 1, 2], generator=torch.Generator().manual_seed(1), output_type="pt").images
        for each in (pipe, again)
    ]
    assert torch.equal(*images)


class Perceptron(nn.Module):
    """Two points of one pixel are all that it can learn: (x_t, ln sigma) -> v."""

    def __init__(self):
        super().__init__()
        self.config = {}
        self.layers = nn.Sequential(nn.Linear(9, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, sample, timestep):
        angles = SIGMAS.log()[timestep, None].clamp(max=5) * torch.tensor([0.125, 0.25, 0.5, 1.0])
        inputs = torch.cat([sample.flatten(1), angles.sin(), angles.cos()], 1)
        return UNet2DOutput(self.layers(inputs).view_as(sample))


def test_tuning_lets_one_call_reach_the_data_where_the_diffusion_network_returns_their_mean():
    torch.manual_seed(0)
    network = Perceptron()
    points = torch.tensor([-0.7, 0.7]).repeat(128).view(-1, 1, 1, 1)
    noise = torch.randn(1000, 1, 1, 1)
    t = torch.full((1000,), 3966)

    def distance():
        with torch.no_grad():
            x_0 = predicted_x_0(
                network(noise, t).sample, noise, *signal_and_noise(SCHEDULER.alphas_cumprod, t, noise), "v_prediction"
            )
        return (x_0.abs() - 0.7).abs().mean().item()

    def train(objective, steps):
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        for index in range(steps):
            (phase,) = objective.phases
            phase.loss({"sample": points}, step(256, index))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

    train(NoisePrediction(network, SCHEDULER, loss="mse"), 250)
    before, teacher = distance(), copy.deepcopy(network)
    train(ConsistencyTuning(network, SCHEDULER, teacher), 250)

    assert before > 0.5
    assert distance() < 0.65 * before


def test_a_predicted_image_is_no_consistency_function():
    with pytest.raises(ValueError, match="`scheduler.prediction_type` must be v_prediction or epsilon, got 'sample'"):
        ConsistencyTuning(
            Network(gaussian_flow), CosineDDPMScheduler(prediction_type="sample"), Network(gaussian_flow)
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"log_sigma_std": -1.0}, "`log_sigma_std` must be at least 0, got -1.0"),
        ({"ratio": 1.0}, r"`ratio` must lie in \(0, 1\), got 1.0"),
        ({"ratio": 0.0}, r"`ratio` must lie in \(0, 1\), got 0.0"),
        ({"sigma_min": -0.1}, "`sigma_min` must be at least 0, got -0.1"),
        ({"guidance_scale": 2.0}, "`guidance_scale` must be 1 for a network without classes, got 2.0"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConsistencyTuning(Network(gaussian_flow), SCHEDULER, Network(gaussian_flow), **arguments)


def test_a_guided_teacher_needs_a_null_class():
    images = Images(torch.zeros(4, 1, 8, 8).byte(), torch.arange(4), ("a", "b", "c", "d"))

    def objective(embeds, scale):
        networks = Network(gaussian_flow, embeds), SCHEDULER, Network(gaussian_denoiser, embeds)
        return ConsistencyTuning(*networks, guidance_scale=scale)

    objective(5, 1.5).check_labels(images)
    objective(4, 1.0).check_labels(images)
    with pytest.raises(ValueError, match="one more than the number of classes with `guidance_scale`, for the null"):
        objective(4, 1.5).check_labels(images)
