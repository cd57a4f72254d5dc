"""How likely a variational autoencoder finds held-out images, in one convention whatever its likelihood."""

import math

import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from genhub import ConvVAE, DenseVAE, VAEPipeline
from genhub.data import Images
from genhub.evaluation.autoencoder import pca_error, reconstruction
from genhub.evaluation.reconstructions import judge_likelihoods, judge_reconstructions


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


def values(figures) -> dict[str, float]:
    return {figure.name: figure.value for figure in figures}


@pytest.mark.parametrize("kind", [DenseVAE, ConvVAE])
@pytest.mark.parametrize(("binarise", "pixels"), [("threshold", "pixels above 1/2"), ("random", "binarised")])
def test_a_model_that_knows_nothing_needs_a_bit_for_each_binary_pixel(kind, binarise, pixels, splits):
    found = values(judge_likelihoods(blank(kind, likelihood="bernoulli"), splits, binarise, importance=(20, 3)))

    for split in ("val", "test"):
        assert found[f"ELBO in nats, {pixels}, {split}"] == pytest.approx(-64 * math.log(2), rel=1e-5)
        assert found[f"KL in nats, {pixels}, {split}"] == pytest.approx(0, abs=1e-6)
    bound = f"importance weighted bound in bits per dimension, K = 3, {pixels}, test"
    assert found[bound] == pytest.approx(1, rel=1e-5)
    assert not any(name.endswith("train") for name in found)


def test_a_gaussian_that_knows_nothing_has_the_density_of_its_sigma(splits):
    sigma, pixels = 0.3, splits["test"].images.double() / 255

    found = values(judge_likelihoods(blank(DenseVAE, sigma=sigma), splits, None, importance=(40, 2)))

    density = torch.distributions.Normal(0.0, sigma).log_prob(pixels).flatten(1).sum(1).mean().item()
    assert found["ELBO in nats, test"] == pytest.approx(density, rel=1e-5)
    assert found["importance weighted bound in nats, K = 2, test"] == pytest.approx(density, rel=1e-5)


def test_grey_pixels_have_soft_targets_and_no_importance_weighted_bound(splits):
    found = values(judge_likelihoods(blank(DenseVAE, likelihood="bernoulli"), splits, None, importance=(20, 3)))

    assert found["ELBO in nats, grey pixels as soft targets, test"] == pytest.approx(-64 * math.log(2), rel=1e-5)
    assert not any("bound" in name for name in found)


def test_a_conditional_model_is_asked_for_the_classes_of_the_images(splits):
    vae = blank(DenseVAE, num_class_embeds=2, hidden_sizes=[], sigma=1.0)
    vae.to_pixels.weight.data[:, -1] = 0.5  # class 1 is grey, class 0 black
    splits["test"] = Images(
        torch.tensor([0, 128] * 8).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8), torch.tensor([0, 1] * 8)
    )

    found = values(judge_likelihoods(vae, splits, None, importance=(0, 1)))
    copied = values(judge_reconstructions(VAEPipeline(vae), splits, is_conditional=True))

    assert found["ELBO in nats, test"] == pytest.approx(-32 * math.log(2 * math.pi), abs=1e-2)
    assert copied["reconstruction MSE, test"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("components", [1, 5])
def test_the_error_of_pca_is_that_of_scikit_learn(components, splits):
    train, test = (splits[split].images.flatten(1).double().numpy() / 255 for split in ("train", "test"))
    pca = PCA(components).fit(train)

    found = pca_error(splits["train"].images, splits["test"].images, components)

    expected = ((pca.inverse_transform(pca.transform(test)) - test) ** 2).mean()
    assert found == pytest.approx(expected, rel=1e-5)


def test_what_is_no_picture_is_not_clamped():
    points = torch.tensor([[-1.0, 2.0], [3.0, 0.5]])[:, None, None]

    assert reconstruction(lambda sample: sample, points, has_bounds=False).mse[0] == 0
