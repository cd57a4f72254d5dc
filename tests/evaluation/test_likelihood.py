"""Bounds of a linear VAE whose likelihood is known, densities against torch's, and models that know nothing."""

import math

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from scipy.stats import multivariate_normal
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from torch.testing import assert_close

from genhub import ConvVAE, DenseVAE, VAEPipeline
from genhub.data import Images, to_model_range
from genhub.evaluation.likelihood import (
    bernoulli_log_likelihood,
    binarise_pixels,
    bits_per_dimension,
    elbo,
    evaluate_likelihoods,
    gaussian_log_likelihood,
    importance_weighted_bound,
    kl_to_prior,
)
from genhub.evaluation.reconstruction import evaluate_reconstructions, reconstruction_error


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(*shape, seed=0):
    return torch.randint(256, shape, generator=seeded(seed), dtype=torch.uint8)


class LinearVAE:
    """z ~ N(0, I), x = W z + b + noise of `sigma` for 4 pixels in [0, 1]; the columns of W are orthogonal, so the true
    posterior is diagonal. `shift` and `spread` spoil it: they move its mean, and scale its variance."""

    sigma = 0.3
    W = torch.tensor([[0.4, 0.1], [0.4, -0.1], [-0.2, 0.2], [0.2, 0.2]])
    b = torch.tensor([0.5, 0.4, 0.6, 0.5])

    def __init__(self, shift=0.0, spread=1.0):
        self.shift, self.spread = shift, spread

    def moments(self, sample):
        """Mean and variance of the true posterior, (B, 2) and (2,)."""
        variance = 1 / (1 + self.W.square().sum(0) / self.sigma**2)
        x = (sample.flatten(1) + 1) / 2  # (B, 4)
        return (x - self.b) @ self.W / self.sigma**2 * variance, variance

    def encode(self, sample):
        mean, variance = self.moments(sample)
        logvar = (variance * self.spread).log().expand_as(mean)
        return DiagonalGaussianDistribution(
            torch.cat([mean + self.shift, logvar], 1)[:, :, None, None]
        )  # (B, 4, 1, 1)

    def decode(self, latents):
        return (2 * (latents.flatten(1) @ self.W.T + self.b) - 1).unflatten(1, (1, 2, 2))

    def log_likelihood(self, latents, sample):
        return gaussian_log_likelihood(self.decode(latents), sample, self.sigma)

    def evidence(self, images):
        """log p(x), (N,): x ~ N(b, W W^T + sigma^2 I)."""
        covariance = self.W @ self.W.T + self.sigma**2 * torch.eye(4)
        return torch.as_tensor(multivariate_normal(self.b, covariance).logpdf(images.flatten(1) / 255)).flatten()

    def gap(self):
        """KL(q(z|x) || p(z|x)), the same for every x."""
        _, variance = self.moments(torch.zeros(1, 4))
        wrong = Normal(torch.full((2,), self.shift), (variance * self.spread).sqrt())
        return kl_divergence(wrong, Normal(0, variance.sqrt())).sum().item()


SPOILT = LinearVAE(shift=0.4, spread=2.0)
IMAGES = random_images(12, 1, 2, 2)
MANY = IMAGES[:1].expand(4000, -1, -1, -1)  # one image, so that the spread is that of the draws of z


def close(found, expected):
    mean, error = found
    return abs(mean - expected) < 4 * error < 0.2


# ---- bounds of the likelihood


@pytest.mark.parametrize("samples", [1, 3])
def test_with_the_true_posterior_the_bound_is_the_likelihood_itself(samples):
    vae, evidence = LinearVAE(), LinearVAE().evidence(IMAGES)

    bound = importance_weighted_bound(vae.encode, vae.log_likelihood, IMAGES, seeded(), samples)

    assert_close(bound.nats, (evidence.mean().item(), evidence.std().item() / 12**0.5), rtol=1e-5, atol=1e-5)
    assert_close(bound.bits_per_dimension[0], -bound.nats[0] / math.log(2) / 4)
    assert_close(bound.bits_per_dimension[1], bound.nats[1] / math.log(2) / 4)


@pytest.mark.parametrize("vae", [LinearVAE(), SPOILT, LinearVAE(spread=0.5)])
def test_the_elbo_falls_short_by_the_divergence_from_the_true_posterior(vae):
    found = elbo(vae.encode, vae.log_likelihood, MANY, seeded())

    assert close(found.elbo, vae.evidence(MANY[:1]).item() - vae.gap())


def test_the_elbo_is_reconstruction_minus_kl():
    found = elbo(SPOILT.encode, SPOILT.log_likelihood, IMAGES, seeded())

    posterior = SPOILT.encode(to_model_range(IMAGES))
    assert_close(found.kl[0], posterior.kl().mean().item())
    assert_close(found.elbo[0], found.reconstruction[0] - found.kl[0])
    assert found.elbo[1] > 0


def test_with_one_sample_the_bound_is_the_elbo_in_expectation():
    bound = importance_weighted_bound(SPOILT.encode, SPOILT.log_likelihood, MANY, seeded(), samples=1)

    assert close(bound.nats, SPOILT.evidence(MANY[:1]).item() - SPOILT.gap())


def test_the_bound_grows_with_its_samples_up_to_the_likelihood():
    counts, evidence = (1, 4, 16, 256), SPOILT.evidence(MANY[:1]).item()

    bounds = [
        importance_weighted_bound(SPOILT.encode, SPOILT.log_likelihood, MANY, seeded(), samples).nats
        for samples in counts
    ]

    means = [mean for mean, _ in bounds]
    assert means == sorted(means)
    assert [mean < evidence + 3 * error for mean, error in bounds] == [True] * 4
    assert evidence - 0.02 < means[-1]


def test_a_model_that_ignores_its_latents_has_the_likelihood_of_its_pixels():
    images = binarise_pixels(random_images(5, 1, 3, 3), "random")

    def prior(sample):
        return DiagonalGaussianDistribution(torch.zeros(len(sample), 4, 1, 1))

    def fair_coins(latents, sample):
        return bernoulli_log_likelihood(torch.zeros_like(sample), sample)

    found = elbo(prior, fair_coins, images, seeded())
    bound = importance_weighted_bound(prior, fair_coins, images, seeded(), samples=7)

    assert found.kl == (0, 0)
    assert_close(found.elbo, (-9 * math.log(2), 0.0), rtol=1e-6, atol=1e-6)
    assert_close(bound.bits_per_dimension, (1.0, 0.0), rtol=1e-6, atol=1e-6)


def test_weights_too_small_for_a_float_are_still_summed():
    bound = importance_weighted_bound(
        LinearVAE().encode, lambda z, sample: LinearVAE().log_likelihood(z, sample) - 1e5, IMAGES, seeded(), samples=3
    )

    assert_close(bound.nats[0], LinearVAE().evidence(IMAGES).mean().item() - 1e5, rtol=0, atol=0.01)


@pytest.mark.parametrize("batch_size", [1, 5, 11])
def test_the_size_of_batches_changes_no_result_and_is_never_exceeded(batch_size):
    sizes = set()

    def log_likelihood(latents, sample):
        sizes.add(len(sample))
        return SPOILT.log_likelihood(latents, sample)

    def metrics(batch_size):
        copies = reconstruction_error(lambda sample: SPOILT.decode(SPOILT.encode(sample).mean), IMAGES, batch_size)
        one = elbo(SPOILT.encode, log_likelihood, IMAGES, seeded(), batch_size)
        bound = importance_weighted_bound(SPOILT.encode, log_likelihood, IMAGES, seeded(), 3, batch_size)
        return [*copies.mse, copies.psnr, *one.elbo, *one.reconstruction, *one.kl, *bound.nats]

    in_batches = metrics(batch_size)

    assert max(sizes) == batch_size
    assert_close(in_batches, metrics(12), rtol=1e-6, atol=1e-6)


def test_a_bound_is_a_function_of_its_generator_and_needs_no_gradient():
    weight = torch.ones((), requires_grad=True)

    def log_likelihood(latents, sample):
        return SPOILT.log_likelihood(latents, sample) * weight

    first, again, other = (elbo(SPOILT.encode, log_likelihood, IMAGES, seeded(seed)) for seed in (0, 0, 1))

    assert first == again
    assert first.reconstruction != other.reconstruction


# ---- parts of a likelihood


def test_kl_to_the_prior_is_that_of_torch():
    mean, logvar = torch.randn(2, 6, 3, 2, 2, generator=seeded(), dtype=torch.float64)

    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0, 1)).sum((1, 2, 3))

    assert_close(kl_to_prior(mean, logvar), expected)
    assert kl_to_prior(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]


def test_bernoulli_is_that_of_torch_and_sums_to_one_over_all_images():
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4).reshape(16, 1, 2, 2)
    logits = torch.tensor([[[-3.0, 0.2], [1.0, 30.0]]]).expand(16, 1, 2, 2)

    found = bernoulli_log_likelihood(logits, every)

    assert_close(found, Independent(Bernoulli(logits=logits), 3).log_prob((every + 1) / 2))
    assert_close(found.double().exp().sum().item(), 1.0, rtol=1e-6, atol=0)


def test_soft_bernoulli_is_the_binary_cross_entropy_of_grey_pixels():
    sample, logits = to_model_range(random_images(3, 1, 4, 4)), torch.randn(3, 1, 4, 4, generator=seeded())

    expected = F.binary_cross_entropy(logits.sigmoid(), (sample + 1) / 2, reduction="none").sum((1, 2, 3))

    assert_close(bernoulli_log_likelihood(logits, sample, soft=True), -expected)


def test_gaussian_is_that_of_torch_over_pixels_from_0_to_1():
    sample, mean = to_model_range(random_images(3, 2, 4, 4)), torch.randn(3, 2, 4, 4, generator=seeded())

    expected = Normal((mean + 1) / 2, 0.2).log_prob((sample + 1) / 2).sum((1, 2, 3))

    assert_close(gaussian_log_likelihood(mean, sample, 0.2), expected)


def test_eight_bits_a_dimension_are_one_level_of_256():
    assert_close(bits_per_dimension(-784 * math.log(256), 784), 8.0)


def test_binarised_pixels_are_white_as_often_as_they_are_bright():
    grey = torch.arange(256, dtype=torch.uint8).expand(4000, 1, 1, 256)

    share = (binarise_pixels(grey, "random") / 255).mean(0).flatten()

    x = torch.arange(256) / 255
    assert (share - x).abs().le(4.5 * (x * (1 - x) / 4000).sqrt()).all()
    assert (share[0], share[255]) == (0, 1)


def test_binarised_images_are_what_the_protocol_draws_and_stay_as_they_are():
    images, state = random_images(6, 1, 5, 5), torch.get_rng_state()

    binary = binarise_pixels(images, "random")

    assert_close(binary == 255, torch.rand(6, 1, 5, 5, generator=seeded(0)) < images / 255)
    assert (binary.dtype, set(binary.unique().tolist())) == (torch.uint8, {0, 255})
    assert torch.equal(binarise_pixels(binary, "random"), binary)
    assert torch.equal(torch.get_rng_state(), state)


# ---- errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": IMAGES.float()}, "`images` must be uint8"),
        ({"images": IMAGES[0]}, "`images` must be uint8"),
        ({"images": IMAGES[:1]}, "`images` must .* at least 2, got torch.uint8 \\(1, 1, 2, 2\\)"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"samples": 0}, "`samples` must be at least 1, got 0"),
        ({"encode": lambda s: SPOILT.encode(s[:1])}, "`encode` must return mean and logvar \\(12, ...\\), got \\(1,"),
        ({"encode": lambda s: SPOILT.encode(s * math.nan)}, "`encode` must be finite, got nan or inf in 12 of 12"),
        ({"encode": lambda s: Normalish(s, -math.inf)}, "`encode` must be finite"),
        ({"log_likelihood": lambda z, s: s}, "`log_likelihood` must give \\(12,\\), got \\(12, 1, 2, 2\\)"),
        ({"log_likelihood": lambda z, s: s[:, 0, 0, 0] / 0}, "`log_likelihood` must be finite"),
    ],
)
def test_a_bound_refuses(change, message):
    arguments = {
        "encode": SPOILT.encode,
        "log_likelihood": SPOILT.log_likelihood,
        "images": IMAGES,
        "generator": seeded(),
        "samples": 2,
    }
    arguments |= change

    with pytest.raises(ValueError, match=message):
        importance_weighted_bound(**arguments)
    del arguments["samples"]
    if "samples" not in change:
        with pytest.raises(ValueError, match=message):
            elbo(**arguments)


class Normalish:
    def __init__(self, sample, logvar):
        self.mean, self.logvar = sample, torch.full_like(sample, logvar)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binarise_pixels(IMAGES / 255, "random"), "`images` must be uint8"),
        (lambda: bernoulli_log_likelihood(torch.zeros(2, 1), torch.zeros(2, 1)), "`sample` must be binary"),
        (lambda: bernoulli_log_likelihood(torch.zeros(2, 2), torch.ones(2, 1)), "`logits` must give \\(2, 1\\)"),
        (lambda: gaussian_log_likelihood(torch.zeros(2, 1), torch.zeros(2, 1), 0), "`sigma` must be above 0"),
        (lambda: gaussian_log_likelihood(torch.zeros(2, 1), torch.zeros(2, 1), math.nan), "`sigma` must .* got nan"),
        (lambda: gaussian_log_likelihood(torch.zeros(2, 2), torch.zeros(2, 1), 1), "`mean` must give \\(2, 1\\)"),
        (lambda: bits_per_dimension(-1.0, 0), "`dimensions` must be at least 1, got 0"),
    ],
)
def test_a_likelihood_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- models


@pytest.fixture
def splits() -> dict[str, Images]:
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> Images:
        pixels = torch.randint(256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
        return Images(pixels, torch.arange(count) % 2)

    return {"train": images(60), "test": images(40), "val": images(30)}


def blank(kind: type, **arguments) -> nn.Module:
    """A model whose weights are zero: q(z|x) = p(z), and p(x|z) depends on nothing."""
    vae = kind(sample_size=8, latent_channels=2, **arguments)
    for parameter in vae.parameters():
        nn.init.zeros_(parameter)
    return vae


def values(metrics) -> dict[str, float]:
    return {metric.name: metric.value for metric in metrics}


@pytest.mark.parametrize("kind", [DenseVAE, ConvVAE])
@pytest.mark.parametrize(("binarise", "pixels"), [("threshold", "pixels above 1/2"), ("random", "binarised")])
def test_a_model_that_knows_nothing_needs_a_bit_for_each_binary_pixel(kind, binarise, pixels, splits):
    found = values(evaluate_likelihoods(blank(kind, likelihood="bernoulli"), splits, binarise, importance=(20, 3)))

    for split in ("val", "test"):
        assert found[f"ELBO in nats, {pixels}, {split}"] == pytest.approx(-64 * math.log(2), rel=1e-5)
        assert found[f"KL in nats, {pixels}, {split}"] == pytest.approx(0, abs=1e-6)
    bound = f"importance weighted bound in bits per dimension, K = 3, {pixels}, test"
    assert found[bound] == pytest.approx(1, rel=1e-5)
    assert not any(name.endswith("train") for name in found)


def test_a_gaussian_that_knows_nothing_has_the_density_of_its_sigma(splits):
    sigma, pixels = 0.3, splits["test"].images.double() / 255

    found = values(evaluate_likelihoods(blank(DenseVAE, sigma=sigma), splits, None, importance=(40, 2)))

    density = torch.distributions.Normal(0.0, sigma).log_prob(pixels).flatten(1).sum(1).mean().item()
    assert found["ELBO in nats, test"] == pytest.approx(density, rel=1e-5)
    assert found["importance weighted bound in nats, K = 2, test"] == pytest.approx(density, rel=1e-5)


def test_each_step_of_a_likelihood_is_told_before_it_is_measured(splits):
    told = []

    evaluate_likelihoods(blank(DenseVAE), splits, None, told.append, importance=(20, 1))

    bound = "importance weighted bound, 1 samples of 20 images"
    assert told == ["likelihood, test", bound, "likelihood, val"]


def test_grey_pixels_have_soft_targets_and_no_importance_weighted_bound(splits):
    found = values(evaluate_likelihoods(blank(DenseVAE, likelihood="bernoulli"), splits, None, importance=(20, 3)))

    assert found["ELBO in nats, grey pixels as soft targets, test"] == pytest.approx(-64 * math.log(2), rel=1e-5)
    assert not any("bound" in name for name in found)


def test_a_conditional_model_is_asked_for_the_classes_of_the_images(splits):
    vae = blank(DenseVAE, num_class_embeds=2, hidden_sizes=[], sigma=1.0)
    vae.to_pixels.weight.data[:, -1] = 0.5  # class 1 is grey, class 0 black
    splits["test"] = Images(
        torch.tensor([0, 128] * 8).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8), torch.tensor([0, 1] * 8)
    )

    found = values(evaluate_likelihoods(vae, splits, None, importance=(0, 1)))
    copied = values(evaluate_reconstructions(VAEPipeline(vae), splits))

    assert found["ELBO in nats, test"] == pytest.approx(-32 * math.log(2 * math.pi), abs=1e-2)
    assert copied["reconstruction MSE, test"] == pytest.approx(0, abs=1e-5)
