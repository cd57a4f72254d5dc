"""Latents are what an encoder makes of each image, once; nothing takes them for pixels."""

import itertools

import pytest
import torch
from diffusers import AutoencoderKL
from torch.testing import assert_close

from genhub import ConvAutoencoder, DenseVAE
from genhub.data import (
    DataConfig,
    Images,
    Latents,
    encode_images,
    load,
)
from genhub.training.encoder import check_standardisable, encoder_key, encoder_of, standardise

FACTORS = {"scaling_factor": 0.5, "shift_factor": 0.25}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GENHUB_CACHE", str(tmp_path))
    return lambda: list((tmp_path / "latents").iterdir())


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    """An untrained AutoencoderKL that halves an 8 x 8 image once, to 3 channels."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    sizes = {"in_channels": 1, "out_channels": 1, "latent_channels": 3, "block_out_channels": [4, 8]}
    return AutoencoderKL(**blocks, **sizes, layers_per_block=1, norm_num_groups=2, **FACTORS)


@pytest.fixture(scope="module")
def images() -> Images:
    pixels = torch.randint(256, (10, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index = torch.arange(10)
    return Images(pixels, index % 2, ("a", "b"), torch.stack([index, index], 1))


def test_a_batch_holds_the_scaled_mode_of_the_posterior(images, vae):
    latents = encode_images(images, encoder_of(vae), encoder_key(vae), batch_size=4)

    index = torch.tensor([7, 0, 3])
    batch, pixels = latents.batch(index), images.batch(index)
    with torch.no_grad():
        mean = vae.encode(pixels.pop("sample")).latent_dist.mean  # (3, 3, 4, 4)
    assert_close(batch.pop("sample"), (mean - 0.25) * 0.5)
    assert batch.keys() == pixels.keys() == {"labels", "input_ids"}
    assert all(torch.equal(batch[name], pixels[name]) for name in batch)
    shape = latents.shape
    assert (shape.channels, shape.height, shape.width, shape.class_names) == (3, 4, 4, ("a", "b"))


def test_batches_are_those_of_the_images_in_the_same_order(images, vae):
    latents = encode_images(images, encoder_of(vae), "key")

    pairs = zip(latents.batches(4, 3, 4, 0, "cpu"), images.batches(4, 3, 4, 0, "cpu"), strict=True)

    for batch, pixels in itertools.islice(pairs, 6):
        assert torch.equal(batch["input_ids"], pixels["input_ids"])
        assert torch.equal(batch["sample"], latents.latents[pixels["input_ids"][:, 0]])


def test_an_encoder_sees_each_image_once_as_long_as_nothing_changes(images, vae, cache):
    seen = []

    def encode(sample):
        seen.append(len(sample))
        return sample.double()

    first = encode_images(images, encode, "key", batch_size=4)
    again = encode_images(images, encode, "key", batch_size=4)
    assert seen == [4, 4, 2]
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.latents, images.batch(slice(None))["sample"])

    for images_, key in ((images, "other"), (images[:4], "key"), (images[torch.arange(9, -1, -1)], "key")):
        encode_images(images_, encode, key, batch_size=4)
    assert len(cache()) == 4


def test_a_key_follows_the_class_the_config_and_the_weights(vae):
    other = AutoencoderKL.from_config(vae.config)
    other.load_state_dict(vae.state_dict())
    assert encoder_key(other) == encoder_key(vae)

    rescaled = AutoencoderKL.from_config(vae.config, scaling_factor=2.0)
    rescaled.load_state_dict(vae.state_dict())
    with torch.no_grad():
        other.quant_conv.bias[0] += 1

    assert len({encoder_key(model) for model in (vae, other, rescaled)}) == 3


def test_factors_that_are_none_change_nothing(images, vae):
    plain = AutoencoderKL.from_config(vae.config, scaling_factor=None, shift_factor=None)
    plain.load_state_dict(vae.state_dict())
    sample = images.batch(slice(None))["sample"]

    with torch.no_grad():
        latents, scaled = encoder_of(plain)(sample), encoder_of(vae)(sample)

    assert_close((latents - 0.25) * 0.5, scaled)


@pytest.mark.parametrize("factors", [{}, {"shift_factor": 0.3, "scaling_factor": 0.5}])
def test_standard_latents_have_mean_0_and_variance_1_and_are_decoded_as_before(images, vae, factors):
    model = AutoencoderKL.from_config(vae.config, **factors)
    model.load_state_dict(vae.state_dict())
    torch.nn.init.normal_(model.post_quant_conv.weight)
    sample = images.sample(slice(None))
    with torch.no_grad():
        before = model.decode(model.encode(sample).latent_dist.mode()).sample

    latents = standardise(model, encode_images(images, encoder_of(model), encoder_key(model)))

    assert latents.latents.mean((0, 2, 3)).abs().max() < 1e-5
    assert_close(latents.latents.std(correction=0), torch.tensor(1.0))
    assert torch.equal(latents.labels, images.labels)
    again = encode_images(images, encoder_of(model), encoder_key(model))
    assert_close(again.latents, latents.latents, atol=1e-4, rtol=1e-4)
    with torch.no_grad():  # as Stable Diffusion's pipelines do it
        after = model.decode(latents.latents / model.config.scaling_factor).sample
    assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_only_an_autoencoder_with_convolutions_around_its_latents_can_shift_them(vae):
    without = AutoencoderKL.from_config(vae.config, use_post_quant_conv=False)
    other = DenseVAE(sample_size=8, hidden_sizes=(4,), latent_channels=5)

    check_standardisable(vae)
    for model in (without, other):
        with pytest.raises(ValueError, match="`data.standardise` must be left out"):
            check_standardisable(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_our_own_autoencoders_give_their_codes_and_means_as_one_pixel(images, dtype):
    autoencoder = ConvAutoencoder(sample_size=8, block_out_channels=(2,), latent_channels=5, decoder_channels=(2,))
    vae = DenseVAE(sample_size=8, hidden_sizes=(4,), latent_channels=5)
    sample = images.batch(slice(None))["sample"].to(dtype)

    for model in (autoencoder.to(dtype), vae.to(dtype)):
        latents = encode_images(images, encoder_of(model), encoder_key(model)).latents

        with torch.no_grad():
            codes = model.encode(sample) if model is autoencoder else model.encode(sample)[0]
        assert latents.dtype == torch.float32
        assert torch.equal(latents, codes.float()[:, :, None, None])


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda x: x.flatten(1), r"`encode` must give \(10, C, H, W\), got \(10, 64\)"),
        (lambda x: x[:3], r"`encode` must give \(10, C, H, W\), got \(3, 1, 8, 8\)"),
        (lambda x: x / 0, "`encode` must give finite latents"),
    ],
)
def test_what_are_no_latents_is_refused(images, encode, message):
    with pytest.raises(ValueError, match=message):
        encode_images(images, encode, "key")


def test_data_that_are_decoded_while_training_are_refused(vae):
    with pytest.raises(ValueError, match="`data.encode` must be left out of data that are decoded while training"):
        encode_images(load(DataConfig("sample", streaming=True)), encoder_of(vae), "key")


@pytest.mark.parametrize(
    "latents", [torch.zeros(2, 3), torch.zeros(2, 1, 2, 2).byte(), torch.zeros(2, 1, 2, 2).half()]
)
def test_latents_are_float32_maps(latents):
    with pytest.raises(ValueError, match=r"`latents` must be float32 \(N, C, H, W\), got"):
        Latents(latents)
