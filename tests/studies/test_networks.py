"""What studies change of a published network or objective: that part, and nothing else."""

import torch
from networks import DeviationVAE, NormalizedConvVAE, PositiveDCGANDiscriminator
from pixel_range import pixels_of
from tiny import tiny_model
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close
from variants import PositivePixels

import genhub
from genhub.objectives import EvidenceLowerBound, NoisePrediction, Step
from genhub.utils.randomness import BatchRandom

IMAGES = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def changed(cls, name):
    """Returns a tiny network of `cls`, whose base is the published class `name`."""
    torch.manual_seed(0)
    return cls.from_config(dict(tiny_model(name).config))


def step_of(count=16):
    return Step(0, 0.0, BatchRandom("test", rows=range(count), total=count))


def test_a_deviation_may_have_any_sign_and_gives_the_same_posterior():
    vae = changed(DeviationVAE, "DenseVAE")
    mean, sigma = vae.to_moments(vae.encoder(((IMAGES + 1) / 2).flatten(1))).chunk(2, 1)  # its layers' outputs

    output = vae(IMAGES, noise=torch.ones_like(mean))
    kl = EvidenceLowerBound(vae).terms({"sample": IMAGES}, step_of())[-1]

    assert (sigma < 0).any()
    assert_close(output.latents, mean + sigma.abs())
    assert_close(kl, kl_divergence(Normal(mean, sigma.abs()), Normal(0.0, 1.0)).sum(1).mean())


def test_maps_are_normalised_over_a_batch_after_each_convolution_but_the_last():
    vae, seen = changed(NormalizedConvVAE, "ConvVAE").train(), []
    norms = [part for part in vae.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_hook(lambda _, inputs, output: seen.append(output))

    vae(IMAGES)

    convolutions = [p for p in vae.modules() if isinstance(p, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert len(seen) == len(norms) == len(convolutions) - 1
    for maps in seen:
        assert_close(maps.mean((0, 2, 3)), torch.zeros(maps.shape[1]), rtol=0, atol=1e-5)
    vae.eval()
    assert_close(vae(IMAGES[:1]).sample, vae(IMAGES).sample[:1])  # afterwards an image does not depend on its batch


def test_a_discriminator_of_positive_pixels_sees_them_between_0_and_1():
    plain = tiny_model("DCGANDiscriminator").eval()
    positive = PositiveDCGANDiscriminator.from_config(dict(plain.config)).eval()
    positive.load_state_dict(plain.state_dict())

    assert_close(positive(2 * IMAGES.abs() - 1).logits, plain(IMAGES.abs()).logits)


def test_positive_pixels_are_diffused_between_0_and_1():
    unet, scheduler = tiny_model("LeanUNet2DModel"), genhub.CosineDDPMScheduler(prediction_type="sample")
    labels = torch.zeros(16, dtype=torch.long)

    loss = PositivePixels(unet, scheduler).denoising_loss({"sample": IMAGES, "labels": labels}, step_of())

    moved = {"sample": (IMAGES + 1) / 2, "labels": labels}
    assert_close(loss, NoisePrediction(unet, scheduler).denoising_loss(moved, step_of()))


def test_a_model_of_positive_pixels_is_judged_by_its_own_range(tiny, tmp_path):
    more = tiny | {"training.max_steps": 1}
    genhub.train("ddpm-quick", tmp_path / "plain", overrides=more)
    shown = pixels_of(tmp_path / "plain", 2)
    recipe = tmp_path / "plain/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("genhub.objectives.NoisePrediction", "variants.PositivePixels"))

    assert_close(pixels_of(tmp_path / "plain", 2), (2 * shown - 1).clamp(0, 1))
