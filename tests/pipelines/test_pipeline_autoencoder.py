"""The pipeline of autoencoders: one copy and one code for an image, however it is handed in; and a search by bits."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model
from torch.testing import assert_close

import genhub
from genhub import AutoencoderPipeline
from genhub.data import to_model_range
from genhub.data.points import points

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
KINDS = [
    ("DenseAutoencoder", "plain"),
    ("DenseAutoencoder", "tied colour"),
    ("ConvAutoencoder", "plain"),
    ("ConvAutoencoder", "colour"),
    ("RecurrentAutoencoder", "plain"),
    ("RecurrentAutoencoder", "colour"),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=" ".join)


def pixels(count, channels=1, seed=0):
    """Bytes (N, H, W, C), of which the first image has bright pixels only."""
    made = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, channels), np.uint8)
    made[0] //= 2
    made[0] += 128
    return made


def pils(images):
    return [Image.fromarray(image.squeeze()) for image in images]


def tensors(images):
    return torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2)


def tiny_pipeline(kind=KINDS[0], **options):
    return AutoencoderPipeline(tiny_model(*kind), **options)


def channels_of(pipe):
    return pipe.autoencoder.config.in_channels


def copies(pipe, image, **arguments):
    return pipe(image, **{"output_type": "pt"} | arguments).images


def with_code_of_pixels(units, **changes):
    """A pipeline whose bit k is whether pixel k is bright."""
    model = tiny_model(
        "DenseAutoencoder",
        **{"hidden_sizes": [], "latent_channels": units, "latent_activation": "sigmoid"} | changes,
    )
    with torch.no_grad():
        model.layers[0].encoder.weight.copy_(100 * torch.eye(64)[:units])
        model.layers[0].encoder.bias.fill_(-50)
    return AutoencoderPipeline(model)


def of_bits(bits):
    """Images (N, 1, 8, 8) whose first pixels are `bits` (N, L)."""
    bits = torch.as_tensor(bits).float()
    return torch.cat([bits, torch.zeros(len(bits), 64 - bits.shape[1])], 1).view(-1, 1, 8, 8)


def random_bits(count, units, seed=0):
    return torch.randint(2, (count, units), generator=torch.Generator().manual_seed(seed))


@every_kind
def test_the_network_sees_what_it_was_trained_on_and_the_copy_is_cut_to_what_a_picture_can_show(kind):
    pipe = tiny_pipeline(kind)
    images = pixels(5, channels_of(pipe))

    found = copies(pipe, pils(images))

    trained_on = to_model_range(torch.from_numpy(images).permute(0, 3, 1, 2))
    sample = pipe.autoencoder(trained_on).sample.detach()
    assert_close(found, ((sample + 1) / 2).clamp(0, 1), rtol=0, atol=1e-6)
    assert sample.min() < -1  # so that there was something to cut


@every_kind
def test_an_image_has_the_same_copy_and_code_in_every_form(kind):
    pipe = tiny_pipeline(kind)
    images = pixels(5, channels_of(pipe))
    array = images.astype(np.float32) / 255
    tensor = tensors(images)
    forms = [array, array.astype(np.float64), list(array), tensor, list(tensor)]
    if channels_of(pipe) == 1:
        forms += [array[..., 0], list(array[..., 0]), tensor[:, 0], list(tensor[:, 0])]

    expected, code = copies(pipe, pils(images)), pipe.encode(pils(images))

    for form in forms:
        assert_close(copies(pipe, form), expected, rtol=0, atol=1e-6)
        assert_close(pipe.encode(form), code, rtol=0, atol=1e-6)


@every_kind
def test_a_batch_is_its_images_one_by_one_in_every_form(kind):
    pipe = tiny_pipeline(kind)
    images = pixels(4, channels_of(pipe))

    for form in (pils(images), images.astype(np.float32) / 255, tensors(images)):
        assert_close(torch.cat([copies(pipe, image) for image in form]), copies(pipe, form), rtol=0, atol=1e-6)
        assert_close(torch.cat([pipe.encode(image) for image in form]), pipe.encode(form), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3]], ids=" ".join)
def test_a_picture_of_another_mode_is_converted(kind):
    pipe = tiny_pipeline(kind)
    grey = pils(pixels(1))[0]

    expected = copies(pipe, grey)

    for mode in ("RGB", "RGBA", "L"):
        assert_close(copies(pipe, grey.convert(mode)), expected, rtol=0, atol=1e-6)


def test_pictures_are_what_comes_back_unless_told_otherwise():
    pipe, images = tiny_pipeline(), pils(pixels(2))

    for made in (pipe(images), pipe.reconstruct(images), pipe.denoise(images), pipe.decode(pipe.encode(images))):
        assert [type(image) for image in made.images] == [Image.Image] * 2


def test_the_output_is_named_or_a_tuple_of_the_same():
    pipe = with_code_of_pixels(6)
    images = of_bits(random_bits(3, 6))
    pipe.index(images)

    for method, given in ((pipe, images), (pipe.reconstruct, images), (pipe.denoise, images), (pipe.decode, codes())):
        named, unnamed = (method(given, output_type="pt", return_dict=kind) for kind in (True, False))
        assert type(unnamed) is tuple
        assert_close(unnamed, (named.images,), rtol=0, atol=0)
    named, unnamed = (pipe.search(images, 2, return_dict=kind) for kind in (True, False))
    assert type(unnamed) is tuple
    assert_close(unnamed, (named.indices, named.distances), rtol=0, atol=0)


def codes(count=3, units=6):
    return torch.rand(count, units, generator=torch.Generator().manual_seed(0))


@every_kind
def test_a_copy_is_the_decoded_code_and_so_is_what_has_other_names(kind):
    pipe = tiny_pipeline(kind)
    images = pils(pixels(3, channels_of(pipe)))

    code = pipe.encode(images)

    expected = copies(pipe, images)
    assert code.shape == (3, pipe.autoencoder.config.latent_channels)
    assert not code.requires_grad
    assert torch.equal(pipe.decode(code, output_type="pt").images, expected)
    assert torch.equal(pipe.reconstruct(images, output_type="pt").images, expected)
    assert torch.equal(pipe.denoise(images, output_type="pt").images, expected)


@every_kind
def test_noise_may_lead_beyond_what_a_picture_can_show(kind):
    pipe = tiny_pipeline(kind)
    noisy = tensors(pixels(3, channels_of(pipe)))
    noisy = noisy + 0.5 * torch.randn(noisy.shape, generator=torch.Generator().manual_seed(0))
    assert noisy.min() < 0 < 1 < noisy.max()

    clean = pipe.denoise(noisy, output_type="pt").images

    sample = pipe.autoencoder(2 * noisy - 1).sample.detach()
    assert_close(clean, ((sample + 1) / 2).clamp(0, 1), rtol=0, atol=1e-6)


def test_data_without_bounds_go_in_and_come_out_as_they_are():
    model = tiny_model("DenseAutoencoder", "linear", sample_size=[1, 3], latent_channels=3)
    with torch.no_grad():
        model.layers[0].encoder.weight.copy_(torch.eye(3))
        model.layers[0].decoder.weight.copy_(torch.eye(3))
    rows = points("train")
    assert rows.min() < 0
    assert rows.max() > 1

    pipe = AutoencoderPipeline(model, clip_sample=False)

    assert_close(copies(pipe, rows), rows)
    assert_close(pipe.encode(rows), rows.view(60, 3))
    with pytest.raises(ValueError, match=r"`image` must lie in \[0, 1\], got -"):
        AutoencoderPipeline(model)(rows)


@pytest.mark.parametrize("units", [1, 6, 16, 62])
def test_a_hash_is_the_rounded_code_as_an_integer_whose_bit_k_is_unit_k(units):
    pipe, bits = with_code_of_pixels(units), random_bits(20, units)

    hashes = pipe.hash(of_bits(bits))

    assert (hashes.shape, hashes.dtype) == ((20,), torch.int64)
    assert hashes.tolist() == [sum(int(bit) << k for k, bit in enumerate(row)) for row in bits]
    assert hashes.min() >= 0


@pytest.mark.parametrize("num_images", [1, 3, 40])
def test_a_search_finds_the_fewest_differing_bits_and_of_equals_the_first_indexed(num_images):
    pipe, known, asked = with_code_of_pixels(6), random_bits(40, 6), random_bits(10, 6, seed=1)
    pipe.index(of_bits(known))

    found = pipe.search(of_bits(asked), num_images)

    assert found.indices.shape == found.distances.shape == (10, num_images)
    for row, bits in enumerate(asked):
        distances = [
            (sum(int(a) ^ int(b) for a, b in zip(bits, other, strict=True)), k) for k, other in enumerate(known)
        ]
        expected = sorted(distances)[:num_images]
        assert list(zip(found.distances[row].tolist(), found.indices[row].tolist(), strict=True)) == expected


def test_five_images_are_found_unless_told_another_number():
    pipe = with_code_of_pixels(6)
    pipe.index(of_bits(random_bits(9, 6)))

    assert pipe.search(of_bits(random_bits(1, 6))).indices.shape == (1, 5)


def test_what_is_searched_in_is_what_was_indexed_last():
    pipe, first, second = with_code_of_pixels(8), torch.eye(8).long(), torch.eye(8).long().flip(0)
    pipe.index(of_bits(first))
    pipe.index(of_bits(second))

    found = pipe.search(of_bits(first), 1)

    assert found.indices[:, 0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert found.distances[:, 0].tolist() == [0] * 8


def test_pictures_can_be_searched_for_as_well_as_tensors():
    pipe, images = with_code_of_pixels(16), pixels(12)
    pipe.index(pils(images))

    found = pipe.search(tensors(images), 1)

    assert found.indices[:, 0].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("num_images", "message"),
    [
        (0, r"`num_images` must lie in 1\.\.4"),
        (5, r"`num_images` must lie in 1\.\.4"),
        (-1, r"`num_images` must lie in 1\.\.4"),
    ],
)
def test_no_more_images_are_found_than_there_are(num_images, message):
    pipe = with_code_of_pixels(6)
    pipe.index(of_bits(random_bits(4, 6)))

    with pytest.raises(ValueError, match=message):
        pipe.search(of_bits(random_bits(1, 6)), num_images)


def test_a_search_without_an_index_is_refused():
    with pytest.raises(ValueError, match="`index` must be called with the images to search in before `search`"):
        with_code_of_pixels(6).search(of_bits(random_bits(1, 6)))


@pytest.mark.parametrize(
    ("pipe", "message"),
    [
        (tiny_pipeline(("DenseAutoencoder", "plain")), "`latent_activation` is sigmoid"),
        (tiny_pipeline(("DenseAutoencoder", "linear")), "`latent_activation` is sigmoid"),
        (tiny_pipeline(("ConvAutoencoder", "plain")), "`latent_activation` is sigmoid"),
        (tiny_pipeline(("RecurrentAutoencoder", "plain")), "`latent_activation` is sigmoid"),
        (with_code_of_pixels(63), "at most 62 bits, the model has 63 units"),
    ],
    ids=["relu", "linear", "convolutions", "recurrent", "63 units"],
)
def test_a_hash_needs_a_short_code_of_sigmoids(pipe, message):
    for method in (pipe.hash, pipe.index):
        with pytest.raises(ValueError, match=message):
            method(torch.zeros(2, 1, 8, 8))


def test_calling_a_pipeline_changes_nothing():
    pipe, images = tiny_pipeline(), tensors(pixels(3))
    before, state = images.clone(), torch.get_rng_state()

    first, second = copies(pipe, images), copies(pipe, images)

    assert torch.equal(first, second)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((2, 1, 8, 8), -0.5), r"`image` must lie in \[0, 1\], got -0.5 to -0.5"),
        (torch.full((2, 1, 8, 8), 1.5), r"`image` must lie in \[0, 1\], got 1.5 to 1.5"),
        (torch.full((2, 1, 8, 8), float("nan")), "`image` must be finite floats"),
        (torch.full((2, 1, 8, 8), float("inf")), "`image` must be finite floats"),
        (np.full((2, 8, 8, 1), 255, np.uint8), "`image` must be finite floats, got torch.uint8"),
        (torch.zeros(2, 3, 8, 8), r"`image` must be .* = \(N, 1, 8, 8\), got \(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 8, 9), r"`image` must be .* = \(N, 1, 8, 8\), got \(2, 1, 8, 9\)"),
        (np.zeros((2, 16, 16, 1)), r"`image` must be .* = \(N, 1, 8, 8\), got \(2, 1, 16, 16\)"),
        (Image.new("L", (9, 8)), r"`image` must be .* = \(N, 1, 8, 8\), got \(1, 1, 8, 9\)"),
        ("image.png", "Input is in incorrect format"),  # diffusers' own words
    ],
)
def test_a_bad_image_is_refused_before_the_network_is_called(image, message):
    pipe, seen = with_code_of_pixels(6), []
    pipe.autoencoder.layers[0].encoder.register_forward_pre_hook(lambda module, args: seen.append(args))

    takes_noise = "must lie in" in message  # noise leads beyond what a picture can show
    for method in (
        pipe,
        pipe.reconstruct,
        pipe.encode,
        pipe.hash,
        pipe.index,
        *([] if takes_noise else [pipe.denoise]),
    ):
        with pytest.raises(ValueError, match=message):
            method(image)

    assert seen == []


@pytest.mark.parametrize(
    ("latents", "output_type", "message"),
    [
        (torch.zeros(2, 3), "pt", r"`latents` must be \(N, 4\), got \(2, 3\)"),
        (torch.zeros(4), "pt", r"`latents` must be \(N, 4\), got \(4,\)"),
        (torch.zeros(2, 4, 1, 1), "pt", r"`latents` must be \(N, 4\), got \(2, 4, 1, 1\)"),
        (torch.zeros(2, 4), "latent", "`output_type` must be pil, np or pt, got 'latent'"),
    ],
)
def test_bad_latents_and_output_types_are_refused(latents, output_type, message):
    with pytest.raises(ValueError, match=message):
        tiny_pipeline().decode(latents, output_type)


def test_an_unknown_output_type_is_refused_whoever_asks():
    pipe, images = tiny_pipeline(), tensors(pixels(2))

    for method in (pipe, pipe.reconstruct, pipe.denoise):
        with pytest.raises(ValueError, match="`output_type` must be pil, np or pt, got 'jpg'"):
            method(images, output_type="jpg")


@pytest.mark.parametrize("clip_sample", [True, False])
def test_a_saved_pipeline_remembers_whether_its_data_are_pictures(clip_sample, tmp_path):
    pipe = tiny_pipeline(clip_sample=clip_sample)

    pipe.save_pretrained(tmp_path / "plain")
    genhub.save_repo(pipe, tmp_path / "repo")

    for load, folder in (
        (AutoencoderPipeline, "plain"),
        (AutoencoderPipeline, "repo"),
        (genhub.AutoPipeline, "repo"),
    ):
        loaded = load.from_pretrained(tmp_path / folder)
        assert loaded.config.clip_sample is clip_sample
        assert torch.equal(copies(loaded, tensors(pixels(2))), copies(pipe, tensors(pixels(2))))


def test_nothing_and_what_is_no_tensor_are_refused():
    pipe = AutoencoderPipeline(tiny_model("DenseAutoencoder"))

    for nothing in ([], torch.empty(0, 1, 8, 8)):
        with pytest.raises(ValueError, match="`image` must hold at least one image, got none"):
            pipe.encode(nothing)
    with pytest.raises(ValueError, match=r"`latents` must be \(N, 4\), got list"):
        pipe.decode([[0.0] * 4])
    with pytest.raises(ValueError, match="A hash needs a model"):  # not: index first, which would not help
        pipe.search(torch.zeros(1, 1, 8, 8))
