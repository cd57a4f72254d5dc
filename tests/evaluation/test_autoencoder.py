"""Bounds against a linear VAE whose likelihood is known, and what else is judged against what can be worked out."""

import math
import statistics
import sys

import pytest
import sklearn.linear_model
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from scipy.stats import multivariate_normal
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from torch.testing import assert_close

from genhub.data import to_model_range
from genhub.evaluation.autoencoder import (
    active_units,
    bernoulli_log_likelihood,
    binarise,
    bits_per_dimension,
    elbo,
    gaussian_log_likelihood,
    importance_weighted_bound,
    kl_to_prior,
    linear_probe,
    reconstruction,
)


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
    images = binarise(random_images(5, 1, 3, 3))

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
def test_the_size_of_batches_changes_no_figure_and_is_never_exceeded(batch_size):
    sizes = set()

    def log_likelihood(latents, sample):
        sizes.add(len(sample))
        return SPOILT.log_likelihood(latents, sample)

    def figures(batch_size):
        copies = reconstruction(lambda sample: SPOILT.decode(SPOILT.encode(sample).mean), IMAGES, batch_size)
        one = elbo(SPOILT.encode, log_likelihood, IMAGES, seeded(), batch_size)
        bound = importance_weighted_bound(SPOILT.encode, log_likelihood, IMAGES, seeded(), 3, batch_size)
        return [*copies.mse, copies.psnr, *one.elbo, *one.reconstruction, *one.kl, *bound.nats]

    in_batches = figures(batch_size)

    assert max(sizes) == batch_size
    assert_close(in_batches, figures(12), rtol=1e-6, atol=1e-6)


def test_a_figure_is_a_function_of_its_generator_and_needs_no_gradient():
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

    share = (binarise(grey) / 255).mean(0).flatten()

    x = torch.arange(256) / 255
    assert (share - x).abs().le(4.5 * (x * (1 - x) / 4000).sqrt()).all()
    assert (share[0], share[255]) == (0, 1)


def test_binarised_images_are_what_the_protocol_draws_and_stay_as_they_are():
    images, state = random_images(6, 1, 5, 5), torch.get_rng_state()

    binary = binarise(images)

    assert_close(binary == 255, torch.rand(6, 1, 5, 5, generator=seeded(0)) < images / 255)
    assert (binary.dtype, set(binary.unique().tolist())) == (torch.uint8, {0, 255})
    assert torch.equal(binarise(binary), binary)
    assert torch.equal(torch.get_rng_state(), state)


# ---- reconstruction and codes


@pytest.mark.parametrize(("error", "psnr"), [(0.1, 20.0), (-0.01, 40.0)])
def test_a_constant_error_of_a_tenth_is_20_decibels(error, psnr):
    images = random_images(4, 3, 5, 5).clamp(30, 220)

    found = reconstruction(lambda sample: sample + 2 * error, images)

    assert_close(found.mse, (error**2, 0.0), rtol=1e-4, atol=1e-7)
    assert_close(found.psnr, psnr, rtol=1e-5, atol=0)


def test_errors_are_averaged_before_they_are_turned_into_decibels():
    images = torch.full((2, 1, 2, 2), 128, dtype=torch.uint8)

    found = reconstruction(lambda sample: sample + torch.tensor([0.0, 0.4])[:, None, None, None], images)

    assert_close(found.mse, (0.02, 0.02), rtol=1e-5, atol=0)  # 0 and 0.04: sd 0.04 / sqrt(2), over sqrt(2)
    assert_close(found.psnr, 10 * math.log10(50), rtol=1e-5, atol=0)


def test_what_lies_outside_the_range_is_clamped():
    images = binarise(random_images(3, 1, 4, 4))

    found = reconstruction(lambda sample: 3 * sample, images)

    assert (found.mse, found.psnr) == ((0, 0), math.inf)


def test_black_for_white_is_the_largest_error():
    assert reconstruction(lambda sample: -sample, binarise(random_images(3, 1, 4, 4))).mse == (1, 0)


def test_active_units_are_those_whose_mean_moves_with_the_image():
    scale = torch.tensor([0.0, 0.05, 0.099, 0.101, 1.0, 7.0])
    signs = torch.tensor([1.0, -1.0]).repeat(500)[:, None]  # variance 1000 / 999
    means = (signs * scale + 5).reshape(1000, 2, 1, 3)

    assert active_units(means) == 3
    assert active_units(means, threshold=2) == 1
    assert active_units(torch.ones(10, 4)) == 0


def codes_of(labels, distance, seed=0):
    """(N, 3, 1, 1): the second dimension tells the class as well as `distance` allows, the last one is dead."""
    codes = torch.randn(len(labels), 3, 1, 1, generator=seeded(seed))
    codes[:, 1] += distance * labels[:, None, None]
    codes[:, 2] = 4
    return codes


LABELS = torch.arange(600) % 3


def test_a_probe_names_every_class_of_codes_that_lie_apart():
    train, test = codes_of(LABELS, 50), codes_of(LABELS, 50, seed=1)

    assert linear_probe(train, LABELS, test, LABELS)[0] == 1
    assert linear_probe(train, LABELS, test, LABELS, labelled=30) == (1, 0)


def test_a_probe_of_noise_guesses():
    accuracy, sd = linear_probe(codes_of(LABELS, 0), LABELS, codes_of(LABELS, 0, seed=1), LABELS)

    assert abs(accuracy - 1 / 3) < 4 * (2 / 9 / 600) ** 0.5
    assert math.isnan(sd)


def test_a_probe_does_not_see_the_scale_of_a_dimension():
    scale = torch.tensor([1e-3, 1e4, 7.0])[:, None, None]
    train, test = codes_of(LABELS, 1), codes_of(LABELS, 1, seed=1)

    plain = linear_probe(train, LABELS, test, LABELS)
    scaled = linear_probe(train * scale - 3, LABELS, test * scale - 3, LABELS)

    assert 0.4 < plain[0] < 0.9
    assert_close(scaled[0], plain[0], rtol=0, atol=2 / 600)


def test_few_labels_give_mean_and_sample_sd_over_consecutive_seeds():
    data = codes_of(LABELS, 1), LABELS, codes_of(LABELS, 1, seed=1), LABELS

    mean, sd = linear_probe(*data, labelled=15, draws=4, seed=3)

    pairs = [linear_probe(*data, labelled=15, draws=2, seed=seed) for seed in (3, 5)]
    single = [m + sign * s / 2**0.5 for m, s in pairs for sign in (1, -1)]  # sample sd of two: |a - b| / sqrt(2)
    assert sd > 0
    assert_close(mean, statistics.mean(single))
    assert_close(sd, statistics.stdev(single))


def test_few_labels_are_as_many_of_each_class_and_others_in_each_draw(monkeypatch):
    seen = []

    class Recorder(sklearn.linear_model.LogisticRegression):
        def fit(self, x, y):
            seen.append((x, torch.as_tensor(y)))
            return super().fit(x, y)

    monkeypatch.setattr(sklearn.linear_model, "LogisticRegression", Recorder)
    labels = torch.tensor([7] * 100 + [2] * 20)[torch.randperm(120, generator=seeded())]
    codes = codes_of(labels, 1)

    linear_probe(codes, labels, codes, labels, labelled=20, draws=3)

    assert [(y == 7).sum().item() for _, y in seen] == [10, 10, 10]
    assert [(y == 2).sum().item() for _, y in seen] == [10, 10, 10]
    assert len({x.tobytes() for x, _ in seen}) == 3


def test_drawing_every_label_is_using_all_labels():
    data = codes_of(LABELS, 1), LABELS, codes_of(LABELS, 1, seed=1), LABELS

    mean, sd = linear_probe(*data, labelled=600, draws=2)

    assert_close((mean, sd), (linear_probe(*data)[0], 0.0), rtol=0, atol=2 / 600)


def test_a_probe_without_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)

    with pytest.raises(ImportError, match=r"pip install genhub\[eval\]"):
        linear_probe(codes_of(LABELS, 1), LABELS, codes_of(LABELS, 1), LABELS)


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
        (lambda: reconstruction(lambda s: s, IMAGES / 255), "`images` must be uint8"),
        (lambda: reconstruction(lambda s: s, IMAGES, batch_size=0), "`batch_size` must be at least 1"),
        (lambda: reconstruction(lambda s: s[:, :, :1], IMAGES), "`reconstruct` must give \\(12, 1, 2, 2\\), got"),
        (lambda: reconstruction(lambda s: s * math.inf, IMAGES), "`reconstruct` must be finite, got nan or inf in 48"),
        (lambda: binarise(IMAGES / 255), "`images` must be uint8"),
        (lambda: bernoulli_log_likelihood(torch.zeros(2, 1), torch.zeros(2, 1)), "`sample` must be binary"),
        (lambda: bernoulli_log_likelihood(torch.zeros(2, 2), torch.ones(2, 1)), "`logits` must give \\(2, 1\\)"),
        (lambda: gaussian_log_likelihood(torch.zeros(2, 1), torch.zeros(2, 1), 0), "`sigma` must be above 0"),
        (lambda: gaussian_log_likelihood(torch.zeros(2, 1), torch.zeros(2, 1), math.nan), "`sigma` must .* got nan"),
        (lambda: gaussian_log_likelihood(torch.zeros(2, 2), torch.zeros(2, 1), 1), "`mean` must give \\(2, 1\\)"),
        (lambda: bits_per_dimension(-1.0, 0), "`dimensions` must be at least 1, got 0"),
        (lambda: active_units(torch.zeros(5)), "`means` must be \\(N, ...\\)"),
        (lambda: active_units(torch.zeros(1, 5)), "`means` must .* at least 2, got \\(1, 5\\)"),
        (lambda: active_units(torch.tensor([[0.0], [math.nan]])), "`means` must be finite"),
        (lambda: active_units(torch.zeros(2, 5), -1), "`threshold` must be at least 0, got -1"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": torch.zeros(600)}, "`codes` must be \\(N, ...\\)"),
        ({"codes": torch.full((600, 3, 1, 1), math.nan)}, "`codes` must be finite"),
        ({"test_codes": torch.zeros(600, 2)}, "`test_codes` must be .* the same in train and test, got \\(600, 2\\)"),
        ({"labels": LABELS[:5]}, "`labels` must be integers \\(600,\\), got torch.int64 \\(5,\\)"),
        ({"test_labels": LABELS.float()}, "`test_labels` must be integers"),
        ({"labels": LABELS * 0, "test_labels": LABELS * 0}, "`labels` must be of 2 classes or more"),
        ({"test_labels": LABELS + 1}, "`labels` must be .* those of `test_labels` too, got \\[0, 1, 2\\]"),
        ({"labelled": 31}, "`labelled` must be a multiple of 3 in 1..600, got 31"),
        ({"labelled": 0}, "`labelled` must be a multiple of 3 in 1..600, got 0"),
        ({"labelled": 603}, "`labelled` must be a multiple of 3 in 1..600, got 603"),
        ({"labelled": 30, "draws": 1}, "`draws` must be at least 2, got 1"),
    ],
)
def test_a_probe_refuses(change, message):
    codes = codes_of(LABELS, 1)
    arguments = {"codes": codes, "labels": LABELS, "test_codes": codes, "test_labels": LABELS} | change

    with pytest.raises(ValueError, match=message):
        linear_probe(**arguments)
