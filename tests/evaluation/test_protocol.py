"""Rounding loses nothing twice, and every reference row is what its name says."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch.testing import assert_close

from genhub.data import DataConfig, Images, load
from genhub.evaluation import protocol
from genhub.evaluation.protocol import is_fashion_mnist, is_followed, is_official, to_bytes
from genhub.evaluation.references import add_noise, blur, pixel_gaussian, rows

SHAPE = (1, 28, 28)
ALL_BYTES = torch.arange(256, dtype=torch.uint8)


@pytest.fixture(scope="module")
def train():
    return load(DataConfig(source="sample", val_size=0), "train")


@pytest.fixture(scope="module")
def made(train):
    """All reference rows of 1,000 images, made of 4,000."""
    return dict(rows(train[:4000], seed=3, count=1000))


@pytest.fixture(scope="module")
def memoriser(made):
    return made["memoriser (real training images)"]


def random_images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# ---- rounding


def test_a_value_becomes_the_nearest_byte():
    images = random_images(4, *SHAPE)

    rounded = to_bytes(images, SHAPE)

    assert rounded.dtype == torch.uint8
    assert rounded.flatten().tolist() == [round(255 * value) for value in images.flatten().tolist()]


def test_every_byte_survives_so_rounding_twice_is_rounding_once():
    images = ALL_BYTES.reshape(1, 1, 16, 16)

    once = to_bytes(images / 255, (1, 16, 16))

    assert torch.equal(once, images)
    assert torch.equal(to_bytes(once.double() / 255, (1, 16, 16)), once)


def test_values_outside_are_clamped():
    images = torch.tensor([-1e9, -0.1, -0.001, 0.0, 1.0, 1.001, 2.0, 1e9]).reshape(1, 1, 2, 4)

    assert to_bytes(images, (1, 2, 4)).flatten().tolist() == [0, 0, 0, 0, 255, 255, 255, 255]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_and_counted_by_images(bad):
    images = random_images(7, *SHAPE)
    images[2, 0, 3, 4] = images[2, 0, 3, 5] = images[5, 0, 0, 0] = bad

    with pytest.raises(ValueError, match="must be finite, got 2 of 7 with NaN or infinity"):
        to_bytes(images, SHAPE)


def test_what_is_not_finite_is_refused_also_where_it_would_be_cut_off():
    images = random_images(3, 1, 32, 32)
    images[0, 0, 0, 0] = torch.nan

    with pytest.raises(ValueError, match="got 1 of 3"):
        to_bytes(images, SHAPE)


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 28, 32), (1, 30, 30), (1, 24, 24), (1, 36, 36), (28, 28)])
def test_another_shape_is_refused_not_resized(shape):
    images = random_images(2, *shape)

    with pytest.raises(
        ValueError, match=r"= \(1, 28, 28\), got " + str(shape).replace("(", r"\(").replace(")", r"\)")
    ):
        to_bytes(images, SHAPE)


def test_cutting_off_padding_gives_the_bytes_of_the_real_images(train):
    images = train.images[:100]
    padded = F.pad(images, (2, 2, 2, 2), value=7)

    assert torch.equal(to_bytes(padded / 255, SHAPE), images)


def test_images_that_lie_otherwise_in_memory_come_out_in_order():
    images = random_images(2, 3, 32, 32)

    rounded = to_bytes(images.to(memory_format=torch.channels_last), (3, 28, 28))

    assert rounded.is_contiguous()  # else no cache takes them
    assert torch.equal(rounded, to_bytes(images, (3, 28, 28)))


def test_fashion_mnist_is_recognised_by_its_first_images(train):
    assert is_fashion_mnist(train.images)
    assert not is_fashion_mnist(train.images.flip(3))
    assert not is_official(train, train)  # a part of it


# ---- its numbers: others could not be compared with what is published


def published():
    """The first evaluation of each model card, if it is complete and of generated images."""
    for path in Path(__file__).parents[2].glob("model_cards/*/metrics.json"):
        for evaluation in json.loads(path.read_text()).get("evaluations", [])[:1]:
            if evaluation["complete"] and evaluation["samples"]:
                yield evaluation


def test_every_published_evaluation_followed_the_protocol_and_none_would_with_another_number():
    evaluations = list(published())

    assert len(evaluations) > 10
    for evaluation in evaluations:
        samples, seed = evaluation["samples"], evaluation["training_seed"]
        assert (evaluation["protocol"], samples["seed"]) == (protocol.PROTOCOL, protocol.SEED + seed)
        assert is_followed(samples)
        for change in ({"images": 9999}, {"batch_size": 100}, {"dtype": "float16"}):
            assert not is_followed(samples | change)
        spreads = {figure["spread_is"] for figure in evaluation["figures"] if figure["name"].startswith("KID")}
        assert spreads == {f"sd over {protocol.SUBSETS} subsets of {protocol.SUBSET_SIZE}"}


def test_what_no_record_shows_is_as_it_was_published():
    assert (protocol.NEIGHBOURS, protocol.DIRECTIONS) == (5, 1000)  # 5: Naeem et al. 2020, Sec. 4
    assert protocol.SIZES == (1000, 2000, 4000, 6000, 8000, protocol.COUNT)


# ---- reference rows


def test_the_memoriser_shows_training_images_each_once(train, memoriser):
    known = {image.numpy().tobytes() for image in train.images[:4000]}

    shown = [image.numpy().tobytes() for image in memoriser]

    assert len(shown) == 1000
    assert known.issuperset(shown)


def test_all_images_are_taken_where_there_are_fewer(train):
    chosen = train[:20].choose(50, 0)

    assert sorted(map(bytes, chosen.images.numpy())) == sorted(map(bytes, train.images[:20].numpy()))
    assert not torch.equal(chosen.images, train.images[:20])


def test_every_row_has_as_many_images_as_a_model_would_make(made):
    assert len(made) == 9
    assert {name: (tuple(images.shape), images.dtype) for name, images in made.items()} == dict.fromkeys(
        made, ((1000, 1, 28, 28), torch.uint8)
    )


def test_noise_has_the_promised_spread(made, memoriser):
    middle = (memoriser > 60) & (memoriser < 195)  # where nothing is clamped
    noise = (made["with noise, sd 10 / 255"].double() - memoriser)[middle]

    assert noise.mean().abs() < 0.1
    assert noise.var() == pytest.approx(100 + 1 / 12, rel=0.01)  # rounding adds the variance of a uniform


@pytest.mark.parametrize("sd", [0, 5, 20])
def test_more_noise_spreads_more_and_what_would_leave_the_range_is_clamped(sd):
    grey, black, white = (add_noise(torch.full((50, *SHAPE), level, dtype=torch.uint8), sd) for level in (128, 0, 255))

    assert grey.double().std() == pytest.approx((sd**2 + (sd > 0) / 12) ** 0.5, rel=0.02)
    for edge, level in ((black, 0), (white, 255)):
        assert 0.45 < (edge == level).double().mean() <= (1 if sd == 0 else 0.55)
    assert black.max() <= 6 * sd
    assert white.min() >= 255 - 6 * sd


def test_blur_is_the_binomial_filter_of_scipy(made, memoriser):
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16

    expected = scipy.ndimage.convolve(memoriser.double().numpy(), kernel[None, None], mode="constant")

    assert np.array_equal(made["blurred, 3 x 3"].numpy(), expected.round())


def test_channels_are_blurred_apart():
    images = (random_images(2, 3, 5, 6) * 255).to(torch.uint8)

    apart = [blur(images[:, [channel]]) for channel in range(3)]

    assert torch.equal(blur(images), torch.cat(apart, 1))


def test_mirrored_is_left_for_right(made, memoriser):
    expected = [np.fliplr(image[0]) for image in memoriser.numpy()]

    assert np.array_equal(made["mirrored"][:, 0].numpy(), expected)


def test_a_class_is_absent_and_the_others_are_not(train, made):
    few = train[:4000]
    label_of = {image.numpy().tobytes(): int(label) for image, label in zip(few.images, few.labels, strict=True)}

    shown = {label_of[image.numpy().tobytes()] for image in made["without a class (Bag)"]}

    assert shown == {0, 1, 2, 3, 4, 5, 6, 7, 9}


@pytest.mark.parametrize(
    ("class_names", "classes", "expected"),
    [(("circle", "square"), 2, "without a class (circle)"), (None, 10, "without a class (8)"), (None, 0, None)],
)
def test_a_data_set_with_few_classes_loses_the_first_and_one_without_labels_none(class_names, classes, expected):
    images = (random_images(200, 1, 8, 8) * 255).to(torch.uint8)
    labels = torch.arange(200) % classes if classes else None

    made = dict(rows(Images(images, labels, class_names), count=50))

    assert [name for name in made if "class" in name] == [expected] * (expected is not None)
    assert {images.shape for images in made.values()} == {(50, 1, 8, 8)}


def test_pca_32_is_that_of_scikit_learn_rounded(train, made, memoriser):
    pca = PCA(32, svd_solver="full").fit(train.images[:4000].flatten(1).double().numpy())

    expected = pca.inverse_transform(pca.transform(memoriser.flatten(1).double().numpy())).clip(0, 255)

    found = made["PCA-32 reconstructions"].flatten(1).double()
    assert (found - torch.from_numpy(expected)).abs().max() < 0.5 + 1e-3


def test_the_pixel_gaussian_has_the_moments_of_the_pixels():
    correlated = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[15.0, 9, 0, 3], [0, 12, -8, 0], [0, 0, 10, 5], [0, 0, 0, 8]]
    )
    images = (128 + correlated).round().clamp(0, 255).to(torch.uint8).reshape(2000, 1, 2, 2)

    drawn = pixel_gaussian(images, seed=0, count=50_000)

    pixels, found = images.flatten(1).double(), drawn.flatten(1).double()
    assert_close(found.mean(0), pixels.mean(0), rtol=0, atol=0.4)
    assert_close(found.T.cov(), pixels.T.cov(), rtol=0.03, atol=4)
    assert pixels.T.cov()[0, 1] > 100 > -50 > pixels.T.cov()[1, 2]


def test_the_pixel_gaussian_row_is_of_the_training_images(train, made):
    real, found = (images.flatten(1).double() for images in (train.images[:4000], made["pixel Gaussian"]))

    # each pixel is a clamped normal variable, whose mean is known
    z = torch.distributions.Normal(0, 1)
    mean, sd = real.mean(0), real.std(0) + 1e-9
    low, high = -mean / sd, (255 - mean) / sd
    density = z.log_prob(low).exp() - z.log_prob(high).exp()
    expected = mean * (z.cdf(high) - z.cdf(low)) + sd * density + 255 * (1 - z.cdf(high))
    assert ((found.mean(0) - expected).abs() < 5 * (sd + 1) / len(found) ** 0.5).all()
    assert expected.max() > 100


def test_uniform_noise_shows_all_bytes_equally_often_and_black_none_but_zero(made):
    counts = made["uniform noise"].flatten().bincount(minlength=256).double()

    expected = counts.sum() / 256
    assert (counts - expected).abs().max() < 5 * expected**0.5
    assert made["black"].max() == 0


def test_rows_are_functions_of_their_seed_and_leave_other_randomness_alone(train):
    state = torch.get_rng_state()

    first, again, other = (dict(rows(train[:500], seed, count=20)) for seed in (0, 0, 1))

    assert torch.equal(torch.get_rng_state(), state)
    assert [name for name in first if not torch.equal(first[name], again[name])] == []
    assert [name for name in first if torch.equal(first[name], other[name])] == ["black"]


def test_real_images_stay_as_they_are(train):
    before = train.images[:500].clone()

    dict(rows(train[:500], count=500))

    assert torch.equal(train.images[:500], before)
