"""Likelihoods of Gaussian data, whose perfect denoiser and whose density are known."""

import math

import pytest
import torch
from diffusers import ConfigMixin, DDPMScheduler, DiffusionPipeline, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from scipy.stats import norm
from tiny_pipelines import PIPELINES
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal
from torch.testing import assert_close

from genhub import CosineDDPMPipeline, CosineDDPMScheduler
from genhub.data import Images, to_model_range
from genhub.evaluation.denoiser import Denoiser, check_likelihood
from genhub.evaluation.diffusion_likelihood import (
    BIN,
    choose_timesteps,
    discretized_gaussian,
    evaluate_diffusion_likelihood,
    flow_log_density,
    halve,
    ode_log_likelihood,
    variational_bound,
)
from genhub.evaluation.metrics import mean_of

SHAPE = (1, 2, 3)
LINEAR = DDPMScheduler(num_train_timesteps=1000)  # of Ho et al. 2020: sigma from 0.01 to 157
COSINE = CosineDDPMScheduler()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def covariance(correlated: bool) -> torch.Tensor:
    """Of standard deviations from 0.05 to 0.3; the largest correlation is 0.9 or 0."""
    scales = torch.linspace(0.05, 0.3, 6, dtype=torch.double)
    distance = (torch.arange(6)[:, None] - torch.arange(6)).abs()
    return scales[:, None] * scales * (0.9**distance if correlated else (distance == 0).double())


class PerfectDenoiser(ModelMixin, ConfigMixin):
    """E[x_0 | x_t] of x_0 ~ N(mean, covariance), in the form of `prediction_type`; class 1 has the opposite mean."""

    @register_to_config
    def __init__(self, correlated=True, prediction_type="v_prediction", num_class_embeds=None, sample_size=(2, 3)):
        super().__init__()
        self.register_to_config(in_channels=1)
        self.covariance, self.mean = covariance(correlated), torch.linspace(-0.2, 0.3, 6, dtype=torch.double)
        self.alpha_bars = LINEAR.alphas_cumprod.double()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.double))  # gives the model its dtype

    def forward(self, sample, timestep, class_labels=None):
        alpha_bar = self.alpha_bars[timestep].reshape(-1, 1, 1)  # (B or 1, 1, 1)
        mean = self.mean if class_labels is None else self.mean * (1 - 2 * class_labels[:, None])
        y = sample.flatten(1) / alpha_bar[..., 0] ** 0.5
        gain = self.covariance @ torch.linalg.inv(self.covariance + (1 / alpha_bar - 1) * torch.eye(6))
        x_0 = (mean + (gain @ (y - mean)[..., None])[..., 0]).reshape(sample.shape)
        signal, noise = alpha_bar[..., None] ** 0.5, (1 - alpha_bar[..., None]) ** 0.5
        eps = (sample - signal * x_0) / noise
        predictions = {"epsilon": eps, "v_prediction": signal * eps - noise * x_0, "sample": x_0}
        return UNet2DOutput(sample=predictions[self.config["prediction_type"]])


class Mixture(torch.nn.Module):
    """E[x_0 | x_t] of independent pixels, each of one of two levels with equal probability, and noise about it."""

    means, deviation = torch.tensor([-0.5, 0.4], dtype=torch.double), 0.1

    def __init__(self, scheduler):
        super().__init__()
        self.alpha_bars = scheduler.alphas_cumprod.double()

    def noisy(self, variance):
        """The density of a pixel with noise of `variance`."""
        scale = (self.deviation**2 + variance) ** 0.5
        return MixtureSameFamily(Categorical(torch.ones(2)), Normal(self.means, scale))

    def forward(self, sample, timestep):
        alpha_bar = self.alpha_bars[timestep].reshape(-1, 1, 1, 1, 1)
        y, variance = (sample / alpha_bar[..., 0] ** 0.5)[..., None], 1 / alpha_bar - 1
        gain = self.deviation**2 / (self.deviation**2 + variance)
        responsibility = (-((y - self.means) ** 2) / 2 / (self.deviation**2 + variance)).softmax(-1)
        return UNet2DOutput(sample=(responsibility * (self.means + gain * (y - self.means))).sum(-1))


def perfect(scheduler=LINEAR, correlated=True, prediction_type="v_prediction"):
    unet = PerfectDenoiser(correlated, prediction_type)
    unet.alpha_bars = scheduler.alphas_cumprod.double()
    return Denoiser(unet, type(scheduler).from_config(scheduler.config, prediction_type=prediction_type))


def draw(count, correlated=True, seed=0) -> torch.Tensor:
    """Images of the data set, rounded to uint8."""
    data = MultivariateNormal(PerfectDenoiser().mean, covariance(correlated))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pixels = data.sample((count,)).reshape(count, *SHAPE)
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def log_density(denoiser, pixels, correlated=True):
    """Of y = x_0 + sigma_0 eps, (N,)."""
    noisy = covariance(correlated) + denoiser.sigmas[0] ** 2 * torch.eye(6)
    return MultivariateNormal(denoiser.unet.mean, noisy).log_prob(pixels.flatten(1))


def pixels_and_probes(count=40):
    pixels = to_model_range(draw(count)).double()
    return pixels, torch.randint(2, pixels.shape, generator=seeded(1)).double() * 2 - 1


# ---- the ODE


@pytest.mark.parametrize("scheduler", [LINEAR, COSINE])
def test_the_flow_of_independent_pixels_has_their_density(scheduler):
    denoiser = perfect(scheduler, correlated=False)  # a diagonal Jacobian, whose trace any probe gives exactly
    pixels, probes = pixels_and_probes()

    found = flow_log_density(denoiser, pixels, probes, choose_timesteps(denoiser.sigmas, 200))

    assert_close(found, log_density(denoiser, pixels, False), rtol=0, atol=0.03)  # 0.007 bits a dimension


def test_the_flow_of_correlated_pixels_has_their_density_on_average_over_probes():
    denoiser, pixels = perfect(COSINE), to_model_range(draw(1)).double()
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.double)] * 6).reshape(64, *SHAPE)

    found = flow_log_density(denoiser, pixels.expand(64, *SHAPE), every, choose_timesteps(denoiser.sigmas, 150))

    assert found.std() > 0.1
    assert found.mean().item() == pytest.approx(log_density(denoiser, pixels).item(), abs=0.03)


def test_the_flow_of_pixels_of_two_levels_has_their_density():
    mixture = Mixture(COSINE)  # not linear: the Jacobian varies along the flow
    denoiser = Denoiser(mixture, CosineDDPMScheduler(prediction_type="sample"))
    pixels = torch.linspace(-0.8, 0.7, 240, dtype=torch.double).reshape(40, *SHAPE)

    found = flow_log_density(denoiser, pixels, torch.ones_like(pixels), choose_timesteps(denoiser.sigmas, 200))

    exact = mixture.noisy(denoiser.sigmas[0] ** 2).log_prob(pixels).flatten(1).sum(1)
    assert exact.max() - exact.min() > 20
    assert_close(found, exact, rtol=0, atol=0.05)


def test_half_a_step_makes_a_quarter_of_the_error():
    denoiser, (pixels, probes) = perfect(COSINE, correlated=False), pixels_and_probes()
    timesteps = choose_timesteps(denoiser.sigmas, 64)
    grids = [halve(halve(timesteps)), halve(timesteps), timesteps]

    found = [flow_log_density(denoiser, pixels, probes, grid) for grid in grids]

    errors = [(value - log_density(denoiser, pixels, False)).abs().mean() for value in found]
    assert 2.5 < errors[0] / errors[1] < 6
    assert 2.5 < errors[1] / errors[2] < 6
    assert (found[2] - found[1]).abs().mean() > errors[2]  # the error that is stated is not below the true one


def test_the_likelihood_of_a_level_is_the_density_over_its_bin():
    images, denoiser = draw(300, correlated=False), perfect(COSINE, correlated=False)

    found = ode_log_likelihood(denoiser, images, seeded(), choose_timesteps(denoiser.sigmas, 100))

    (scale,) = (covariance(False) + denoiser.sigmas[0] ** 2 * torch.eye(6)).diagonal().sqrt()[None]
    offset = to_model_range(images).double().flatten(1) - denoiser.unet.mean
    exact = torch.as_tensor(norm.cdf((offset + BIN / 2) / scale) - norm.cdf((offset - BIN / 2) / scale)).log().sum(1)
    difference, error = mean_of(found - exact)
    assert abs(difference) < 4 * error < 0.2


@pytest.mark.parametrize("scheduler", [LINEAR, COSINE])
def test_timesteps_are_about_equally_spaced_in_ln_sigma_within_the_schedule(scheduler):
    sigmas = perfect(scheduler).sigmas

    timesteps = choose_timesteps(sigmas, 20)

    steps = sigmas[timesteps].log().diff()
    assert (timesteps[0], sigmas[timesteps[-1]] <= 80, sigmas[timesteps[-1] + 1] > 80) == (0, True, True)
    assert ((steps / steps.mean() - 1).abs() < 0.5).all()
    assert halve(torch.arange(6)).tolist() == [0, 2, 4, 5]
    assert halve(torch.arange(5)).tolist() == [0, 2, 4]


# ---- the bound


@pytest.mark.parametrize("correlated", [False, True])
def test_the_bound_of_the_perfect_denoiser_is_just_above_the_exact_value(correlated):
    images, denoiser = draw(1000, correlated), perfect(correlated=correlated)

    found = variational_bound(denoiser, images, seeded(), strata=16)

    exact = log_density(denoiser, to_model_range(images).double(), correlated) + 6 * math.log(BIN)
    gap, error = mean_of(exact - found)
    assert -3 * error < gap < 0.1 + 3 * error
    assert error < 0.1


def test_a_worse_denoiser_has_a_worse_bound_and_many_steps_a_better_one():
    images = draw(1000)
    wrong, few = perfect(), perfect(DDPMScheduler(num_train_timesteps=20, beta_start=0.005, beta_end=0.9))
    wrong.unet.mean = wrong.unet.mean + 0.05
    exact = log_density(perfect(), to_model_range(images).double()) + 6 * math.log(BIN)

    (gap, error), (gap_few, error_few) = (
        mean_of(exact - variational_bound(denoiser, images, seeded())) for denoiser in (wrong, few)
    )

    assert gap > 0.2 + 4 * error
    assert gap_few > 0.2 + 4 * error_few


def test_strata_give_the_sum_over_all_timesteps():
    denoiser, images = perfect(DDPMScheduler(num_train_timesteps=6, beta_start=0.01, beta_end=0.6)), draw(1)

    def bound(strata):
        return variational_bound(denoiser, images.expand(4000, *SHAPE), seeded(strata), strata=strata)

    (few, few_error), (many, many_error) = mean_of(bound(2)), mean_of(bound(40))
    assert abs(few - many) < 4 * math.hypot(few_error, many_error) < 0.5
    assert many_error < few_error


def test_a_discretized_gaussian_is_that_of_scipy_and_sums_to_one():
    every = torch.arange(256, dtype=torch.uint8).reshape(-1, 1, 1, 1)

    for mean, deviation in ((0.1, 0.05), (-0.99, 0.02), (1.3, 0.4), (0.9, 0.003)):
        found = discretized_gaussian(torch.tensor(mean), deviation**2, every)
        edges = (torch.arange(257) - 0.5) * BIN - 1
        edges[0], edges[-1] = -math.inf, math.inf
        exact = torch.as_tensor(norm.cdf(edges, mean, deviation)).diff()
        assert_close(found.exp(), exact, rtol=1e-3, atol=1e-9)
        assert found.exp().sum().item() == pytest.approx(1)
        assert found.isfinite().all()  # where scipy's differences vanish


# ---- both


def values(denoiser, images, labels=None, batch_size=250):
    ode = ode_log_likelihood(denoiser, images, seeded(), choose_timesteps(denoiser.sigmas, 30), labels, batch_size)
    return ode, variational_bound(denoiser, images, seeded(), labels, 4, batch_size)


@pytest.mark.parametrize("scheduler", [LINEAR, COSINE])
def test_the_same_denoiser_has_the_same_likelihood_whatever_it_predicts(scheduler):
    images = draw(8)

    found = [values(perfect(scheduler, True, kind), images) for kind in ("epsilon", "v_prediction", "sample")]

    for other in found[1:]:
        assert_close(other, found[0], rtol=1e-3, atol=1e-3)


def test_the_size_of_batches_changes_nothing():
    images = draw(7)

    assert_close(values(perfect(), images, batch_size=3), values(perfect(), images), rtol=1e-5, atol=1e-4)


def test_the_standard_error_shrinks_with_the_root_of_the_number_of_images():
    for few, many in zip(values(perfect(), draw(100)), values(perfect(), draw(1600)), strict=True):
        assert mean_of(few)[1] / mean_of(many)[1] == pytest.approx(4, rel=0.3)


# ---- pipelines


def conditional(num_classes=None):
    unet = PerfectDenoiser(num_class_embeds=2, prediction_type="epsilon")
    return CosineDDPMPipeline(unet, LINEAR, num_classes=num_classes)


def by_name(metrics):
    return {metric.name: metric for metric in metrics}


def test_a_pipeline_has_both_with_their_errors_and_the_ode_above_the_entropy_at_most_by_its_steps():
    pipe = CosineDDPMPipeline(PerfectDenoiser(prediction_type="epsilon"), LINEAR)
    images, told = Images(draw(300)), []

    ode, step, bound = evaluate_diffusion_likelihood(pipe, images, 200, told.append)

    flows = [f"likelihood by the ODE, {steps} steps, 200 images" for steps in (61, 31)]
    assert told == ["variational bound, 32 timesteps of 200 images", *flows]
    exact = -log_density(Denoiser(pipe.unet, LINEAR), to_model_range(images.images).double())
    exact = (exact.mean().item() - 6 * math.log(BIN)) / 6 / math.log(2)
    assert (ode.name, bound.name, ode.images) == ("bits/dim (ODE)", "bits/dim (bound)", 200)
    assert step.name == "bits/dim (ODE), 61 steps, sigma 0.01 to 80, less that of half the steps"
    assert abs(step.value) < 0.02
    for metric in (ode, bound):
        assert abs(metric.value - exact) < 4 * metric.spread + 0.02
        assert 0.01 < metric.spread < 0.2


def test_a_conditional_model_is_given_the_labels_and_without_labels_the_null_class():
    images = draw(60)
    labels = torch.arange(60) % 2
    mirrored = torch.where(labels.bool()[:, None, None, None], 255 - images, images)  # class 1 has the opposite mean

    right, wrong = (
        by_name(evaluate_diffusion_likelihood(conditional(), Images(mirrored, given), 60))
        for given in (labels, 1 - labels)
    )
    null = by_name(evaluate_diffusion_likelihood(conditional(num_classes=1), Images(255 - images), 60))

    for name in ("bits/dim (ODE)", "bits/dim (bound)"):
        assert right[name].value < wrong[name].value - 1
        assert null[name].value == pytest.approx(right[name].value, abs=0.3)


def learned_variance() -> CosineDDPMPipeline:
    """A pipeline whose network predicts a variance in further channels (Nichol & Dhariwal 2021)."""
    blocks = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=4, in_channels=1, out_channels=2, norm_num_groups=4, **blocks)
    return CosineDDPMPipeline(unet, DDPMScheduler(variance_type="learned_range"))


@pytest.mark.parametrize(
    ("make", "images", "count", "message"),
    [
        (
            conditional,
            Images(draw(5), torch.zeros(5)),
            1,
            "`likelihood` must lie between 2 and the 5 test images, got 1",
        ),
        (conditional, Images(draw(5), torch.zeros(5)), 6, "`likelihood` must lie between 2 and the 5 test .*, got 6"),
        (conditional, Images(draw(5)), 5, r"needs test images with labels in 0\.\.1, the network's classes"),
        (conditional, Images(draw(5), torch.arange(5)), 5, r"needs test images with labels in 0\.\.1"),
        (
            conditional,
            Images(draw(5).mT, torch.zeros(5)),
            5,
            r"images like the network's, \(C, H, W\) = \(1, 2, 3\), got \(1, 3, 2\)",
        ),
        (PIPELINES["GANPipeline"].make, Images(draw(5)), 5, "must be off: GANPipeline has no `unet` with a scheduler"),
        (PIPELINES["VAEPipeline"].make, Images(draw(5)), 5, "must be off: VAEPipeline has no `unet` with a scheduler"),
        (
            PIPELINES["StableDiffusionPipeline"].make,
            Images(draw(5)),
            5,
            "must be off: StableDiffusionPipeline denoises latents, not pixels",
        ),
        (
            learned_variance,
            Images(draw(5)),
            5,
            "must be off: the network predicts 2 channels, with a learned variance",
        ),
    ],
)
def test_what_has_no_likelihood_is_refused(make, images, count, message):
    pipe: DiffusionPipeline = make()

    with pytest.raises(ValueError, match=message):
        check_likelihood(pipe, images, count)


def test_a_denoiser_that_is_not_finite_is_refused():
    denoiser = perfect()
    denoiser.unet.mean = denoiser.unet.mean * math.nan

    for call in (
        lambda: variational_bound(denoiser, draw(4), seeded(), strata=2),
        lambda: ode_log_likelihood(denoiser, draw(4), seeded(), choose_timesteps(denoiser.sigmas, 3)),
    ):
        with pytest.raises(ValueError, match="`denoiser` must be finite, got nan or inf in [48] of [48]"):
            call()
