"""A generator that copies is found out, and one that makes new images is not: on real images."""

import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from torch.testing import assert_close

from genhub.data import DataConfig, load
from genhub.evaluation.memorisation import memorisation, nearest, report
from genhub.evaluation.metrics import squared_distances


def pixels(images):
    return images.flatten(1).float() / 255


@pytest.fixture(scope="module")
def sample():
    """10,000 and 1,000 real images, as pixels in [0, 1]."""
    config = DataConfig(source="sample", val_size=0)
    return pixels(load(config, "train").images), pixels(load(config, "test").images)


@pytest.fixture(scope="module")
def train(sample):
    return sample[0][:3000]


@pytest.fixture(scope="module")
def unseen(sample):
    """Real images that nothing else here has."""
    return sample[0][9000:]


@pytest.fixture(scope="module")
def test(sample):
    return sample[1]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- nearest neighbours


@pytest.mark.parametrize("block", [1, 37, 100, 500])
@pytest.mark.parametrize("dimensions", [3, 100])
def test_the_nearest_is_that_of_scipy_whatever_the_size_of_blocks(dimensions, block):
    queries, base = normal(100, dimensions, seed=1), normal(300, dimensions, seed=2)

    distance, place = nearest(queries, base, block=block)

    expected_distance, expected_place = cKDTree(base.double().numpy()).query(queries.double().numpy())
    assert place.tolist() == expected_place.tolist()
    assert_close(distance, torch.from_numpy(expected_distance), rtol=1e-12, atol=0)


def test_the_nearest_real_image_is_that_of_scipy(train, test):
    distance, place = nearest(test[:200], train)

    apart = torch.from_numpy(cdist(test[:200].double().numpy(), train.double().numpy()))
    assert_close(distance, apart.min(1).values, rtol=1e-5, atol=0)
    assert_close(distance, apart.gather(1, place[:, None]).squeeze(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", [1, 30, 500])
def test_what_is_its_own_neighbour_does_not_count(block):
    base, own = normal(200, 4), torch.tensor([3, 199, 0, 77, *range(100, 150)])

    distance, place = nearest(base[own], base, own, block)

    expected_distance, expected_place = cKDTree(base.double().numpy()).query(base[own].double().numpy(), k=2)
    assert nearest(base[own], base)[1].tolist() == own.tolist()
    assert place.tolist() == expected_place[:, 1].tolist()
    assert_close(distance, torch.from_numpy(expected_distance[:, 1]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("count", [2, 3, 8, 9])
def test_its_own_place_does_not_count_however_few_there_are(count):
    base = normal(count, 4)

    distance, place = nearest(base, base, torch.arange(count))

    assert (place != torch.arange(count)).all()
    assert (distance > 0).all()
    assert distance.isfinite().all()


def test_a_twin_of_its_own_does_count():
    base = torch.cat([normal(5, 4), normal(5, 4)])

    distance, place = nearest(base, base, torch.arange(10))

    assert distance.tolist() == [0.0] * 10
    assert place.tolist() == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]


def test_what_is_equal_is_at_distance_zero_though_products_are_rounded(train):
    copies = train[:500]

    distance, place = nearest(copies, train)

    rounded = squared_distances(copies, train).min(1).values
    assert (rounded > 0).any()  # else the law is empty
    assert distance.tolist() == [0.0] * 500
    assert_close(train[place], copies, rtol=0, atol=0)


def test_what_is_equal_wins_over_what_differs_in_one_pixel_by_one_grey_level(train):
    copies = train[:300]
    almost = copies.clone()
    almost[:, 400] += torch.where(almost[:, 400] < 0.5, 1, -1) / 255

    distance, place = nearest(copies, torch.cat([almost, train]))

    assert distance.max() == 0
    assert (place >= 300).all()


# ---- the report


def test_every_duplicate_is_counted_and_only_these(train, test, unseen):
    almost = train[:40].clone()
    almost[:, 400] += torch.where(almost[:, 400] < 0.5, 1, -1) / 255

    found = memorisation(torch.cat([unseen[:200], train[500:537], almost]), train, test)

    assert found.duplicates == 37


def test_one_that_copies_is_suspect(train, test):
    found = memorisation(train[:500], train, test)

    assert found.is_suspect
    assert (found.near, found.copies, found.duplicates) == (1, 1, 500)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_one_that_copies_now_and_then_is_suspect_by_as_much(share, train, test, unseen):
    copied = round(share * 1000)

    found = memorisation(torch.cat([train[:copied], unseen[copied:]]), train, test)

    assert found.is_suspect
    assert share <= found.near < share + 0.02


def test_one_that_adds_a_little_noise_to_what_it_copies_is_suspect_too(train, test):
    noisy = (train[:500] + 5 / 255 * normal(500, 784)).clamp(0, 1)

    found = memorisation(noisy, train, test)

    assert found.is_suspect
    assert found.duplicates == 0
    assert found.copies > 0.99


def test_real_images_that_were_held_out_are_not_suspect(train, test, unseen):
    found = memorisation(unseen, train, test)

    assert not found.is_suspect
    assert found.duplicates == 0
    assert found.near == pytest.approx(0.01, abs=0.01)


def test_fresh_real_images_copy_as_often_as_the_test_images_do(train, test, unseen):
    found = memorisation(unseen, train, test)

    error = (2 * found.test_copies * (1 - found.test_copies) / 1000) ** 0.5
    assert 0.1 < found.test_copies < 0.9
    assert abs(found.copies - found.test_copies) < 3 * error


def test_one_in_a_hundred_of_the_test_images_is_near_and_they_copy_as_they_do(train, test):
    found = memorisation(test, train, test)

    assert found.near == 0.01
    assert found.copies == found.test_copies


@pytest.mark.parametrize(("near", "of", "suspect"), [(20, 1000, False), (21, 1000, True), (3, 100, False)])
def test_more_than_twice_the_expected_share_is_suspect_unless_it_may_be_chance(near, of, suspect):
    distance = torch.tensor([0.5] * near + [10.0] * (of - near))
    train, places = torch.arange(4.0)[:, None], torch.zeros(of, dtype=torch.long)

    found = report(distance, places, torch.linspace(1, 2, of), places, train)

    assert found.near == near / of
    assert found.is_suspect is suspect


def test_a_copy_is_nearer_to_a_training_image_than_that_one_to_its_own_nearest():
    train = torch.tensor([[0.0], [1.0], [10.0]])  # nearest at 1, 1 and 9
    generated = torch.tensor([[-0.9], [-1.1], [1.5], [2.5], [9.0], [18.9], [19.1], [100.0]])
    test = torch.tensor([[-0.5], [30.0], [2.5], [40.0]])

    found = memorisation(generated, train, test)

    assert found.copies == 4 / 8  # -0.9, 1.5, 9 and 18.9
    assert found.test_copies == 1 / 4


def test_the_closest_pairs_come_in_rising_order_and_are_the_closest(train, test, unseen):
    generated = torch.cat([unseen, train[70:72]])

    found = memorisation(generated, train, test, closest=9)

    distance, _ = nearest(generated, train)
    ours, theirs = found.closest
    assert found.distance.tolist() == distance.sort().values[:9].tolist()
    assert ours[:2].tolist() == [1000, 1001]
    assert theirs[:2].tolist() == [70, 71]
    assert found.distance[:2].tolist() == [0, 0] != found.distance[2:4].tolist()
    assert_close(found.distance, (generated[ours].double() - train[theirs].double()).norm(dim=1))


def test_all_pairs_are_given_where_there_are_fewer(train, test):
    found = memorisation(test[:5], train, test)

    assert sorted(found.closest[0].tolist()) == [0, 1, 2, 3, 4]
    assert len(found.distance) == 5
