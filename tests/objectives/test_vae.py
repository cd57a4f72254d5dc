"""The evidence lower bound against distributions, closed forms, and a model whose bound is its likelihood."""

import math

import pytest
import torch
from tiny import tiny_model
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence
from torch.testing import assert_close

from genhub import recipes
from genhub.data import Shape
from genhub.models.autoencoder_vae_conv import ConvVAEOutput
from genhub.objectives import EvidenceLowerBound, Step
from genhub.utils.randomness import BatchRandom


class Network(nn.Module):
    """A posterior of `mean` and `logvar` (L,) for every image, and a decoder that returns `decoded` (C, H, W), pixels
    in [-1, 1] or logits; remembers its inputs and latents."""

    def __init__(self, mean, logvar, decoded=None, likelihood="gaussian", sigma=0.5, classes=None):
        super().__init__()
        self.mean, self.logvar, self.decoded = mean, logvar, decoded
        self.config = {
            "latent_channels": len(mean),
            "likelihood": likelihood,
            "sigma": sigma,
            "num_class_embeds": classes,
        }

    def forward(self, sample, class_labels=None, noise=None):
        mean, logvar = (part.expand(len(sample), -1) for part in (self.mean, self.logvar))
        latents = mean + (logvar / 2).exp() * noise
        decoded = torch.zeros_like(sample) if self.decoded is None else self.decoded.expand_as(sample)
        is_bernoulli = self.config["likelihood"] == "bernoulli"
        self.inputs, self.latents = {"sample": sample, "class_labels": class_labels, "noise": noise}, latents
        if is_bernoulli:
            return ConvVAEOutput(2 * decoded.sigmoid() - 1, latents, mean, logvar, logits=decoded)
        return ConvVAEOutput(decoded, latents, mean, logvar)


class Plane(nn.Module):
    """x = W z + b + sigma noise of two latents with W' W diagonal, and its exact posterior (Tipping & Bishop 1999), or
    one whose logvar is larger by `excess`."""

    def __init__(self, sigma=0.3, excess=0.0):
        super().__init__()
        self.weight, self.offset = torch.tensor([[3.0, 0.0], [0.0, -2.0], [1.0, 0.0]]), torch.tensor([0.2, 0.9, 0.5])
        self.sigma, self.excess = sigma, excess
        self.config = {"latent_channels": 2, "likelihood": "gaussian", "sigma": sigma, "num_class_embeds": None}

    def forward(self, sample, class_labels=None, noise=None):
        precision = (self.weight.T @ self.weight).diagonal() / self.sigma**2 + 1  # (2,)
        x = (sample.flatten(1) + 1) / 2
        mean = (x - self.offset) @ self.weight / self.sigma**2 / precision
        logvar = (self.excess - precision.log()).expand_as(mean)
        latents = mean + (logvar / 2).exp() * noise
        decoded = latents @ self.weight.T + self.offset
        return ConvVAEOutput((2 * decoded - 1).view_as(sample), latents, mean, logvar)


def losses_of(network, batch, index=0, rows=None, progress=0.0, validating=False, **arguments):
    """Returns the losses of `rows`, all by default, of a global batch at step `index`."""
    total = len(batch["sample"])
    rows = range(total) if rows is None else rows
    own = {key: value[rows.start : rows.stop] for key, value in batch.items()}
    objective = EvidenceLowerBound(network, **arguments)
    (phase,) = objective.phases
    step = Step(index, progress, BatchRandom("test", index, rows=rows, total=total))
    return (objective.validate if validating else phase.loss)(own, step)


def batch_of(count, *shape):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(count, *shape or (1, 8, 8), generator=generator) * 2 - 1
    return {"sample": pixels, "labels": torch.arange(count) % 4}


def flat(value, count, size=2):
    """Images of one grey value in [0, 1]."""
    return {"sample": torch.full((count, 1, size, size), 2 * value - 1)}


MEAN, LOGVAR = torch.tensor([0.5, -1.0, 0.0, 2.0]), torch.tensor([-1.0, 0.5, 0.0, -3.0])
POSTERIOR = Normal(MEAN, (LOGVAR / 2).exp())


def test_the_exact_divergence_is_that_of_two_gaussians():
    losses = losses_of(Network(MEAN, LOGVAR), batch_of(4))

    assert losses.keys() == {"reconstruction", "kl"}
    assert_close(losses["kl"], kl_divergence(POSTERIOR, Normal(torch.zeros(4), torch.ones(4))).sum())


def test_a_posterior_that_is_the_prior_costs_nothing_either_way():
    network = Network(torch.zeros(4), torch.zeros(4))

    for is_exact in (True, False):
        assert losses_of(network, batch_of(4), has_exact_kl=is_exact)["kl"].abs() < 1e-6


def test_the_drawn_divergence_is_the_difference_of_log_densities_and_the_exact_one_its_expectation():
    network = Network(MEAN, LOGVAR)

    drawn = losses_of(network, flat(0.5, 40_000), has_exact_kl=False)["kl"]

    log_q, log_p = POSTERIOR.log_prob(network.latents).sum(1), Normal(0, 1).log_prob(network.latents).sum(1)
    each = log_q - log_p
    assert_close(drawn, each.mean(), rtol=0, atol=1e-4)
    exact = losses_of(network, flat(0.5, 4))["kl"]
    assert abs(drawn - exact) < 4 * each.std() / 40_000**0.5


@pytest.mark.parametrize("sigma", [0.1, math.sqrt(0.5), 2.0])
def test_a_gaussian_reconstruction_is_the_negative_log_density_of_pixels_between_zero_and_one(sigma):
    batch = batch_of(5, 3, 4, 6)
    decoded = batch_of(1, 3, 4, 6)["sample"][0].flip(0)

    loss = losses_of(Network(MEAN, LOGVAR, decoded, sigma=sigma), batch)["reconstruction"]

    density = Normal((decoded + 1) / 2, sigma).log_prob((batch["sample"] + 1) / 2)
    assert_close(loss, -density.flatten(1).sum(1).mean())


def test_a_bernoulli_reconstruction_is_the_negative_log_probability_of_black_and_white_pixels():
    batch, logits = batch_of(5, 3, 4, 6), 3 * batch_of(1, 3, 4, 6)["sample"][0].flip(1)
    batch["sample"] = batch["sample"].sign()

    loss = losses_of(Network(MEAN, LOGVAR, logits, "bernoulli"), batch)["reconstruction"]

    probability = Bernoulli(logits=logits).log_prob((batch["sample"] + 1) / 2)
    assert_close(loss, -probability.flatten(1).sum(1).mean())


def test_a_grey_pixel_is_a_soft_target_of_a_bernoulli():
    value, logit = 0.3, torch.full((1, 2, 2), 0.7)

    loss = losses_of(Network(MEAN, LOGVAR, logit, "bernoulli"), flat(value, 3))["reconstruction"]

    p = 1 / (1 + math.exp(-0.7))
    assert loss.item() == pytest.approx(-4 * (value * math.log(p) + (1 - value) * math.log(1 - p)), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_with_the_exact_posterior_the_bound_is_the_likelihood_whatever_is_drawn(sigma):
    plane = Plane(sigma)
    batch = batch_of(16, 1, 1, 3)
    evidence = MultivariateNormal(plane.offset, plane.weight @ plane.weight.T + sigma**2 * torch.eye(3))

    likelihood = evidence.log_prob((batch["sample"].flatten(1) + 1) / 2).mean()

    for index in range(3):
        bound = -sum(losses_of(plane, batch, index, has_exact_kl=False).values())
        assert_close(bound, likelihood, rtol=1e-3, atol=1e-3)


def test_with_a_worse_posterior_the_bound_is_below_the_likelihood():
    plane, batch = Plane(0.5), flat(0.5, 20_000, 1)
    batch["sample"] = batch["sample"].expand(-1, 1, 1, 3)
    evidence = MultivariateNormal(plane.offset, plane.weight @ plane.weight.T + 0.25 * torch.eye(3))
    likelihood = evidence.log_prob(torch.full((3,), 0.5))

    bounds = [-sum(losses_of(Plane(0.5, excess), batch).values()) for excess in (0.0, 1.0, 2.0)]

    assert likelihood + 0.05 > bounds[0] > bounds[1] + 0.1 > bounds[2] + 0.2


def test_the_books_loss_is_the_bound_in_its_unit():
    network = Network(MEAN, LOGVAR, torch.full((3, 4, 6), 0.2), sigma=math.sqrt(0.5))
    batch = batch_of(5, 3, 4, 6)

    losses = losses_of(network, batch, validating=True)

    d, pixels = 3 * 4 * 6, (batch["sample"] + 1) / 2
    book = (pixels - 0.6).square().mean() - 0.5 * (1 + LOGVAR - LOGVAR.exp() - MEAN.square()).sum() / d  # Eq. 17-4
    assert_close(losses["mse_plus_kl"], book)
    assert_close((losses["loss"] - d * math.log(math.sqrt(0.5) * math.sqrt(2 * math.pi))) / d, book)


@pytest.mark.parametrize(("optimizer", "factor"), [(torch.optim.SGD, 64), (torch.optim.Adam, 1)])
def test_a_loss_divided_by_d_asks_gradient_descent_for_a_rate_d_times_as_large_and_adam_for_none(optimizer, factor):
    moved = []
    for scale, rate in ((1.0, 1e-5), (1 / 64, factor * 1e-5)):
        network = tiny_model("DenseVAE").train()
        before = torch.nn.utils.parameters_to_vector(network.parameters())
        steps = optimizer(network.parameters(), lr=rate)
        (scale * sum(losses_of(network, batch_of(16)).values())).backward()
        steps.step()
        moved.append(torch.nn.utils.parameters_to_vector(network.parameters()) - before)

    assert moved[0].norm() > 0
    assert (moved[1] - moved[0]).norm() < 1e-2 * moved[0].norm()


def test_any_number_is_a_logvar_with_a_finite_divergence_and_a_deviation_is_not():
    gamma = torch.linspace(-60, 60, 25, requires_grad=True)
    sigma = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)

    by_gamma = losses_of(Network(torch.zeros(25), gamma), batch_of(2))["kl"]  # Eq. 17-4
    by_sigma = -0.5 * (1 + sigma.square().log() - sigma.square())  # Eq. 17-3
    by_gamma.backward()

    assert by_gamma.isfinite()
    assert gamma.grad.isfinite().all()
    assert by_sigma.isinf().tolist() == [False, True, False]
    assert by_sigma[0] == by_sigma[2] == 0  # a deviation of -1 passes for one of 1


def test_the_recipe_trains_for_the_books_loss():
    recipe = recipes.load("vae")

    assert recipe.components["vae"].parameters["likelihood"].default == "gaussian"
    assert recipe.components["vae"].parameters["sigma"].default ** 2 == pytest.approx(0.5)
    assert not {"likelihood", "sigma"} & recipe.components["vae"].arguments.keys()
    assert recipe.stages[0].objective.arguments == {}


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_validation_tells_the_bound_whatever_the_weight_and_the_terms_of_it(likelihood):
    network, batch = Network(MEAN, LOGVAR, torch.full((1, 8, 8), 0.2), likelihood), batch_of(8)

    losses = losses_of(network, batch, validating=True, kl_weight=4.0, warm_up=1.0)

    bound = losses_of(network, batch)
    book = {"mse_plus_kl"} if likelihood == "gaussian" else set()
    assert losses.keys() == {"loss", "reconstruction", "kl", "mse", *book}
    assert_close(losses["loss"], sum(bound.values()))
    assert_close({name: losses[name] for name in bound}, bound)
    p = (0.2 + 1) / 2 if likelihood == "gaussian" else 1 / (1 + math.exp(-0.2))
    assert_close(losses["mse"], ((batch["sample"] + 1) / 2 - p).square().mean())


@pytest.mark.parametrize("weight", [0.0, 0.25, 4.0])
def test_the_weight_multiplies_the_divergence_and_nothing_else(weight):
    network, batch = Network(MEAN, LOGVAR), batch_of(8)

    plain, weighted = losses_of(network, batch), losses_of(network, batch, kl_weight=weight)

    assert_close(weighted["kl"], weight * plain["kl"])
    assert_close(weighted["reconstruction"], plain["reconstruction"])


@pytest.mark.parametrize(
    ("warm_up", "progress", "share"),
    [(0.0, 0.0, 1.0), (0.5, 0.0, 0.0), (0.5, 0.1, 0.2), (0.5, 0.5, 1.0), (0.5, 0.9, 1.0), (1.0, 0.75, 0.75)],
)
def test_the_weight_rises_in_a_straight_line_through_the_warm_up(warm_up, progress, share):
    network, batch = Network(MEAN, LOGVAR), batch_of(8)

    loss = losses_of(network, batch, kl_weight=2.0, warm_up=warm_up, progress=progress)["kl"]

    assert_close(loss, 2 * share * losses_of(network, batch)["kl"])


def test_a_threshold_makes_what_is_above_one_half_white_and_all_else_black():
    network = Network(MEAN, LOGVAR)
    values = torch.tensor([0.0, 127 / 255, 0.5, 128 / 255, 1.0])

    losses_of(network, {"sample": 2 * values.view(1, 1, 1, 5) - 1}, binarise="threshold")

    assert network.inputs["sample"].flatten().tolist() == [-1, -1, -1, 1, 1]


@pytest.mark.parametrize("value", [0.0, 0.2, 0.9, 1.0])
def test_random_binarisation_makes_a_pixel_white_as_often_as_it_is_bright_each_for_itself(value):
    network, count = Network(MEAN, LOGVAR), 10_000

    losses_of(network, flat(value, count), binarise="random")

    seen = (network.inputs["sample"].flatten(1) + 1) / 2  # (N, 4)
    assert set(seen.unique().tolist()) <= {0.0, 1.0}
    assert (seen.mean(0) - value).abs().max() <= 4.5 * (value * (1 - value) / count) ** 0.5
    if 0 < value < 1:
        assert (torch.corrcoef(seen.T) - torch.eye(4)).abs().max() < 0.05


@pytest.mark.parametrize("binarise", ["threshold", "random"])
def test_what_is_asked_is_to_give_back_the_binarised_image(binarise):
    batch, logits = batch_of(8), torch.full((1, 8, 8), 0.7)
    network = Network(MEAN, LOGVAR, logits, "bernoulli")

    for validating in (False, True):
        loss = losses_of(network, batch, binarise=binarise, validating=validating)["reconstruction"]

        shown = (network.inputs["sample"] + 1) / 2
        assert_close(loss, -Bernoulli(logits=logits).log_prob(shown).flatten(1).sum(1).mean())


def test_images_stay_grey_unless_told_otherwise():
    network, batch = Network(MEAN, LOGVAR), batch_of(8)

    losses_of(network, batch)

    assert torch.equal(network.inputs["sample"], batch["sample"])


def test_every_step_has_other_noise_and_binarises_otherwise_and_leaves_the_batch_alone():
    network, batch, seen = Network(MEAN, LOGVAR), batch_of(16), []
    before, state = batch["sample"].clone(), torch.get_rng_state()

    for index in (0, 1, 0):
        losses_of(network, batch, index, binarise="random")
        seen.append(network.inputs)

    for name in ("sample", "noise"):
        assert torch.equal(seen[0][name], seen[2][name])
        assert not torch.equal(seen[0][name], seen[1][name])
    assert torch.equal(batch["sample"], before)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_standard_and_has_one_number_for_each_latent():
    network = Network(MEAN, LOGVAR)

    losses_of(network, flat(0.5, 10_000))

    noise = network.inputs["noise"]
    assert noise.shape == (10_000, 4)
    assert_close(noise.T.cov(), torch.eye(4), rtol=0, atol=0.05)
    assert noise.mean(0).abs().max() < 0.05


def test_two_processes_show_the_same_images_as_one():
    network, batch, seen = Network(MEAN, LOGVAR), batch_of(16), []

    for rows in (range(16), range(8), range(8, 16)):
        losses_of(network, batch, rows=rows, binarise="random")
        seen.append(network.inputs)

    for name in ("sample", "noise"):
        assert torch.equal(torch.cat([part[name] for part in seen[1:]]), seen[0][name])


@pytest.mark.parametrize("is_exact", [True, False])
@pytest.mark.parametrize("binarise", [None, "random"])
@pytest.mark.parametrize("name", ["DenseVAE", "ConvVAE"])
def test_the_loss_of_a_batch_is_the_mean_of_the_losses_of_its_parts(name, binarise, is_exact):
    network, batch = tiny_model(name, "conditional"), batch_of(8)
    arguments = {"binarise": binarise, "has_exact_kl": is_exact}

    whole, *parts = (losses_of(network, batch, rows=rows, **arguments) for rows in (range(8), range(4), range(4, 8)))

    for term, value in whole.items():
        assert_close((parts[0][term] + parts[1][term]) / 2, value)


@pytest.mark.parametrize("classes", [None, 4])
def test_a_network_is_told_the_class_if_it_knows_classes(classes):
    network, batch = Network(MEAN, LOGVAR, classes=classes), batch_of(8)

    losses_of(network, batch)

    told = network.inputs["class_labels"]
    assert told is None if classes is None else torch.equal(told, batch["labels"])


@pytest.mark.parametrize("variant", ["plain", "bernoulli", "conditional"])
@pytest.mark.parametrize("name", ["DenseVAE", "ConvVAE"])
def test_the_phase_moves_all_of_the_network(name, variant):
    network = tiny_model(name, variant)
    objective = EvidenceLowerBound(network)
    ((phase,),) = (objective.phases,)

    sum(phase.loss(batch_of(8), Step(0, 0.0, BatchRandom("test", rows=range(8), total=8))).values()).backward()

    assert (phase.trains, objective.modules) == ("vae", {"vae": network})
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("is_exact", [True, False])
@pytest.mark.parametrize("variant", ["gaussian", "bernoulli", "conditional"])
@pytest.mark.parametrize("name", ["DenseVAE", "ConvVAE"])
def test_a_few_steps_on_eight_images_raise_the_bound(name, variant, is_exact):
    network, batch = tiny_model(name, variant), batch_of(8)
    left = torch.tensor([1.0, -1.0, -1.0, -1.0]).repeat_interleave(2).expand(4, 1, 8, 8)
    batch["sample"] = torch.cat([left, left.flip(3)])  # black, but for the left or the right
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)

    before = losses_of(network, batch, validating=True)["loss"]
    for index in range(60):
        sum(losses_of(network, batch, index, has_exact_kl=is_exact).values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    assert losses_of(network, batch, validating=True)["loss"] < before - 5


def test_a_large_weight_empties_the_latents():
    network, batch = tiny_model("DenseVAE"), batch_of(8)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)

    for index in range(100):
        sum(losses_of(network, batch, index, kl_weight=100.0).values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    assert losses_of(network, batch)["kl"] < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kl_weight": -1.0}, "`kl_weight` must be at least 0 and finite, got -1.0"),
        ({"kl_weight": math.inf}, "`kl_weight` must be at least 0 and finite, got inf"),
        ({"kl_weight": math.nan}, "`kl_weight` must be at least 0 and finite, got nan"),
        ({"warm_up": -0.1}, r"`warm_up` must lie in \[0, 1\], got -0.1"),
        ({"warm_up": 1.5}, r"`warm_up` must lie in \[0, 1\], got 1.5"),
        ({"binarise": "round"}, "`binarise` must be None, threshold or random, got 'round'"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        EvidenceLowerBound(Network(MEAN, LOGVAR), **arguments)


def test_binary_pixels_are_said_and_refused_for_colour():
    vae = tiny_model("ConvVAE")

    objective = EvidenceLowerBound(vae, binarise="threshold")

    assert objective.notes == ("Pixels are made black or white (`objective.binarise: threshold`).",)
    assert EvidenceLowerBound(vae).notes == ()
    config = vae.config
    colour = tiny_model("ConvVAE", in_channels=3)
    size = config["sample_size"]
    with pytest.raises(ValueError, match="`objective.binarise` must be null for colour images.*`data.channels: 1`"):
        EvidenceLowerBound(colour, binarise="threshold").check(Shape(3, size, size))
    EvidenceLowerBound(colour).check(Shape(3, size, size))
