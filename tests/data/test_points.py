"""Points beside a plane: the book's, as images of three pixels, through the same door as all data."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from sklearn.decomposition import PCA

from genhub.data import DataConfig, load
from genhub.data.points import points


def rows(split="train"):
    return points(split).view(-1, 3).numpy()


def test_they_are_the_books():
    found = rows()

    assert found.shape == (60, 3)
    np.testing.assert_allclose(found[0], [-0.475629, -1.180026, -0.186651], atol=1e-6)
    np.testing.assert_allclose(found.mean(0), [-0.103283, -0.379989, 0.085560], atol=1e-6)
    np.testing.assert_allclose(PCA(2).fit(found).explained_variance_ratio_, [0.757848, 0.151869], atol=1e-6)


@pytest.mark.parametrize(("split", "seed", "count"), [("train", 42, 60), ("test", 43, 1000)])
def test_they_are_an_ellipse_with_noise_turned_and_shifted(split, seed, count):
    random = np.random.RandomState(seed)
    angles = (random.rand(count) ** 3 + 0.5) * 2 * np.pi
    flat = np.zeros((count, 3))
    flat[:, 0], flat[:, 1] = np.cos(angles), np.sin(angles) * 0.5
    flat += 0.28 * random.randn(count, 3)

    turned = Rotation.from_rotvec([np.pi / 29, -np.pi / 20, np.pi / 4]).apply(flat)

    np.testing.assert_allclose(rows(split), turned + [0.2, 0, 0.2], atol=1e-6)


def test_they_are_the_same_each_time_and_draw_nothing_from_anyone():
    states = np.random.get_state()[1].copy(), torch.get_rng_state()

    assert torch.equal(points("train"), points("train"))
    assert np.array_equal(np.random.get_state()[1], states[0])
    assert torch.equal(torch.get_rng_state(), states[1])


def test_those_of_the_test_lie_beside_the_same_plane_and_are_others():
    train, test = rows(), rows("test")

    pca = PCA(2).fit(train)
    error = ((pca.inverse_transform(pca.transform(test)) - test) ** 2).mean()
    assert error == pytest.approx(0.28**2 / 3, rel=0.15)  # what is left is noise in one of three directions
    assert np.abs(test[:, None] - train).max(2).min() > 0


def test_they_load_as_float_images_without_labels_in_the_splits_of_any_data_set():
    config = DataConfig("points", val_size=10)

    train, val, test = (load(config, split) for split in ("train", "val", "test"))

    assert torch.equal(torch.cat([train.images, val.images]), points("train"))
    assert torch.equal(test.images, points("test"))
    assert (len(train), len(val), len(test)) == (50, 10, 1000)
    assert (train.shape.channels, train.shape.height, train.shape.width) == (1, 1, 3)
    assert (train.images.dtype, train.labels, train.shape.class_names) == (torch.float32, None, None)


def test_a_batch_is_twice_the_points_less_one_without_bounds():
    images = load(DataConfig("points", val_size=0))

    batch = images.batch(torch.tensor([3, 0]))["sample"]

    assert torch.equal(batch, 2 * points("train")[[3, 0]] - 1)
    assert images.batch(torch.arange(60))["sample"].min() < -1


@pytest.mark.parametrize(
    ("val_size", "split", "message"),
    [
        (60, "train", "`data.val_size` must be below the 60 images of the split train, got 60"),
        (0, "val", "`data.val_size` must be above 0 for the split val, got 0"),
        (0, "all", "`split` must be train, val or test, got 'all'"),
    ],
)
def test_a_split_that_does_not_exist_is_refused(val_size, split, message):
    with pytest.raises(ValueError, match=message):
        load(DataConfig("points", val_size=val_size), split)
