"""Distances between sets of features against SciPy, torchmetrics, prdc, and what can be worked out on paper."""

import math
import statistics
import warnings
from types import SimpleNamespace

import pytest
import scipy.linalg
import scipy.stats
import torch
from prdc import compute_prdc
from torch import nn
from torch.testing import assert_close
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from genhub.data import DataConfig, load
from genhub.evaluation import metrics
from genhub.evaluation.features import PixelSpace
from genhub.evaluation.metrics import (
    Gaussian,
    class_balance,
    effective_rank,
    frechet_distance,
    frechet_distance_at_infinity,
    kernel_distance,
    kth_distance,
    mean_of,
    neighbourhoods,
    over_halves,
    sliced_wasserstein_distance,
    squared_distances,
    squared_mmd,
)
from genhub.evaluation.references import add_noise
from genhub.utils.randomness import keyed_generator


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def features(count, dimensions=12, seed=0):
    """Features whose columns hang together, with a mean and a spread of their own."""
    mix = normal(dimensions, dimensions, seed=seed + 1000)
    return normal(count, dimensions, seed=seed) @ mix + normal(dimensions, seed=seed + 2000)


def rotation(dimensions):
    return torch.linalg.qr(normal(dimensions, dimensions, seed=7)).Q


def distance(x, y):
    return frechet_distance(Gaussian.fit(x), Gaussian.fit(y))


REAL, FAKE = features(400, seed=1), features(300, seed=2)


class Identity(nn.Module):
    """What torchmetrics takes for a feature extractor."""

    num_features = REAL.shape[1]

    def forward(self, x):
        return x


@pytest.fixture(scope="module")
def pictures():
    """10,000 real images."""
    return load(DataConfig(source="sample", val_size=0), "train").images


@pytest.fixture(scope="module")
def pix(pictures):
    return PixelSpace(pictures)


# ---- the Fréchet distance


def test_the_moments_are_the_mean_and_the_unbiased_covariance_in_double_precision():
    wide = (REAL * 1e-3 + 1e3).float()  # far from zero, where single precision would lose the covariance

    fitted = Gaussian.fit(wide)

    assert_close(fitted.mean, wide.double().mean(0), rtol=1e-12, atol=0)
    centred = wide.double() - wide.double().mean(0)
    assert_close(fitted.covariance, centred.T @ centred / (len(wide) - 1), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("count", [1, 5, 12])
def test_too_few_images_for_a_covariance_are_refused_and_how_many_it_takes_is_said(count):
    with pytest.raises(ValueError, match=f"at least 13 images for the covariance of 12 features, got {count}"):
        Gaussian.fit(REAL[:count])


def test_one_image_more_than_features_gives_a_covariance_of_full_rank():
    assert torch.linalg.matrix_rank(Gaussian.fit(REAL[:13]).covariance) == 12


def test_the_frechet_distance_is_that_of_the_matrix_square_root_of_scipy():
    p, q = Gaussian.fit(REAL), Gaussian.fit(FAKE)

    root = scipy.linalg.sqrtm((p.covariance @ q.covariance).numpy()).real

    expected = (p.mean - q.mean).square().sum() + (p.covariance + q.covariance).trace() - 2 * root.trace()
    assert frechet_distance(p, q) == pytest.approx(expected.item(), rel=1e-3)


def test_the_frechet_distance_is_that_of_torchmetrics():
    oracle = FrechetInceptionDistance(feature=Identity(), input_img_size=(12,)).set_dtype(torch.float64)
    oracle.update(REAL, real=True)
    oracle.update(FAKE, real=False)

    assert distance(REAL, FAKE) == pytest.approx(oracle.compute().item(), rel=1e-3)


def test_normal_distributions_whose_covariances_commute_differ_by_their_standard_deviations():
    turn, sd_p, sd_q, offset = rotation(6), torch.arange(1.0, 7).double(), normal(6).abs(), normal(6, seed=1)
    p, q = (
        Gaussian(mean, turn @ sd.square().diag() @ turn.T)
        for mean, sd in ((offset, sd_p), (torch.zeros(6).double(), sd_q))
    )

    expected = offset.square().sum() + (sd_p - sd_q).square().sum()

    assert frechet_distance(p, q) == pytest.approx(expected.item(), rel=1e-9)


def test_covariances_that_do_not_commute_are_as_far_apart_as_their_geometric_mean_says():
    a, b = torch.diag(torch.tensor([4.0, 1.0])).double(), torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double()
    zero = torch.zeros(2).double()

    # for 2 x 2 matrices, tr (AB)^1/2 = (tr AB + 2 (det AB)^1/2)^1/2
    expected = 5 + 4 - 2 * (10 + 2 * 12**0.5) ** 0.5

    assert frechet_distance(Gaussian(zero, a), Gaussian(zero, b)) == pytest.approx(expected, rel=1e-12)


def test_a_shift_costs_its_squared_length():
    assert distance(REAL, REAL + 0.5) == pytest.approx(12 * 0.25, rel=1e-6)


def test_a_point_and_a_cloud_are_apart_by_offset_and_total_variance():
    cloud, point = Gaussian.fit(REAL), Gaussian(torch.zeros(12).double(), torch.zeros(12, 12).double())

    expected = (cloud.mean.square().sum() + cloud.covariance.trace()).item()

    assert frechet_distance(cloud, point) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(point, cloud) == pytest.approx(expected, rel=1e-9)


def test_a_set_is_at_distance_zero_from_itself_also_in_dead_features():
    dead = torch.cat([REAL, torch.zeros(len(REAL), 20), REAL[:, :5]], 1)

    for x in (REAL, dead):
        assert abs(distance(x, x)) < 1e-3


def test_the_frechet_distance_is_symmetric():
    assert distance(REAL, FAKE) == pytest.approx(distance(FAKE, REAL), abs=1e-6)
    assert distance(REAL, FAKE) > 1


def test_turning_and_shifting_both_sets_changes_nothing_and_scaling_by_c_multiplies_by_c_squared():
    turn, before = rotation(12), distance(REAL, FAKE)

    assert distance(REAL @ turn + 3, FAKE @ turn + 3) == pytest.approx(before, rel=1e-9)
    assert distance(10 * REAL, 10 * FAKE) == pytest.approx(100 * before, rel=1e-9)


def test_the_number_and_order_of_images_matter_only_through_the_moments():
    order = torch.randperm(len(FAKE), generator=seeded())

    assert distance(REAL, FAKE[order]) == pytest.approx(distance(REAL, FAKE), rel=1e-9)


# ---- its uncertainty, and its value for infinitely many images


@pytest.mark.parametrize("figure", [lambda x: x.mean().item(), lambda x: x.square().mean().sqrt().item()])
def test_the_error_over_halves_is_that_of_independent_sets(figure):
    true = statistics.stdev(figure(normal(400, seed=seed)) for seed in range(300))

    estimate = statistics.mean(over_halves(figure, normal(400, seed=seed)) for seed in range(1000, 1030))

    assert 0.9 < estimate / true < 1.1


def test_the_error_of_a_frechet_distance_over_halves_is_that_of_independent_sets():
    real = Gaussian(torch.zeros(4).double(), torch.eye(4).double())

    def figure(x):
        return frechet_distance(real, Gaussian.fit(x))

    sets = [1.5 * normal(500, 4, seed=seed) + 0.5 for seed in range(100)]

    true = statistics.stdev(map(figure, sets))
    estimates = [over_halves(figure, x) for x in sets[:5]]
    assert 0.6 < min(estimates) / true
    assert max(estimates) / true < 1.6


def test_halves_are_halves_and_drawn_anew_each_time():
    seen = []

    over_halves(lambda part: seen.append(part) or 0.0, torch.arange(11), draws=7)

    assert [len(part) for part in seen] == [5] * 7
    assert all(len(part.unique()) == 5 for part in seen)
    assert len({tuple(part.tolist()) for part in seen}) == 7


def test_the_distance_at_infinity_is_nearer_to_the_truth_than_that_of_all_images():
    real, true = Gaussian(torch.zeros(16).double(), torch.eye(16).double()), 16 * 0.05**2
    off, off_at_infinity = [], []

    for seed in range(8):
        fake = normal(1000, 16, seed=seed) + 0.05
        off.append(frechet_distance(real, Gaussian.fit(fake)) - true)
        value = frechet_distance_at_infinity(real, fake, (100, 200, 400, 600, 800, 1000))
        off_at_infinity.append(value - true)

    assert statistics.mean(off) > 0.02  # the bias of few images
    assert abs(statistics.mean(off_at_infinity)) < 0.3 * statistics.mean(off)


def test_the_line_to_infinity_is_that_of_scipy(monkeypatch):
    points = []

    def figure(_, size):
        points.append((1 / size, 3 + 70 / size + normal(1, seed=len(points)).item()))
        return points[-1][1]

    monkeypatch.setattr(metrics, "Gaussian", SimpleNamespace(fit=len))
    monkeypatch.setattr(metrics, "frechet_distance", figure)
    value = frechet_distance_at_infinity(None, torch.zeros(100, 2), (10, 20, 50, 100), draws=3)

    line = scipy.stats.linregress(*zip(*points, strict=True))
    assert [round(1 / x) for x, _ in points] == [10] * 3 + [20] * 3 + [50] * 3 + [100] * 3
    assert value == pytest.approx(line.intercept, rel=1e-9)


def test_points_of_a_line_give_its_intercept_exactly(monkeypatch):
    monkeypatch.setattr(metrics, "Gaussian", SimpleNamespace(fit=len))
    monkeypatch.setattr(metrics, "frechet_distance", lambda _, size: 3 + 70 / size)

    value = frechet_distance_at_infinity(None, torch.zeros(100, 2), (10, 20, 50, 100))

    assert value == pytest.approx(3, rel=1e-9)


def test_images_that_are_all_alike_are_as_far_at_infinity_as_in_any_number():
    real = Gaussian(torch.tensor([1.0, 2.0]).double(), torch.diag(torch.tensor([3.0, 4.0])).double())

    value = frechet_distance_at_infinity(real, torch.zeros(50, 2), (10, 20, 50))

    assert value == pytest.approx(1 + 4 + 3 + 4, rel=1e-9)


# ---- the kernel distance


@pytest.fixture
def kid_of_torchmetrics():
    def kid(subsets, subset_size):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it keeps all features in memory
            oracle = KernelInceptionDistance(feature=Identity(), subsets=subsets, subset_size=subset_size)
        oracle.set_dtype(torch.float64)
        oracle.update(REAL[: len(FAKE)], real=True)
        oracle.update(FAKE, real=False)
        return [value.item() for value in oracle.compute()]

    return kid


def test_the_squared_mmd_is_the_kernel_distance_of_torchmetrics(kid_of_torchmetrics):
    value, _ = kid_of_torchmetrics(subsets=1, subset_size=len(FAKE))

    assert squared_mmd(REAL[: len(FAKE)], FAKE) == pytest.approx(value, rel=1e-3)


def test_mean_and_sd_over_subsets_are_those_of_torchmetrics_over_others(kid_of_torchmetrics):
    torch.manual_seed(0)
    expected, expected_sd = kid_of_torchmetrics(subsets=400, subset_size=50)

    value, spread = kernel_distance(REAL[: len(FAKE)], FAKE, subsets=400, subset_size=50)

    assert abs(value - expected) < 4 * (spread**2 + expected_sd**2) ** 0.5 / 400**0.5
    assert 0.8 < spread / expected_sd < 1.25


def test_the_squared_mmd_of_two_pairs_of_numbers_is_what_paper_says():
    x, y = torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[2.0], [3.0]]).double()

    # (x x' + 1)^3: 1 within x, 343 within y, and 1, 1, 27, 64 across
    assert squared_mmd(x, y) == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_squared_mmd_is_unbiased(shift):
    values = [
        squared_mmd(normal(10, 1, seed=2 * seed), normal(10, 1, seed=2 * seed + 1) + shift) for seed in range(3000)
    ]

    # of N(0, 1) and N(a, 1): differences of the first three moments, weighted 3, 3 and 1
    expected = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2

    error = statistics.stdev(values) / len(values) ** 0.5
    assert abs(statistics.mean(values) - expected) < 3 * error
    assert error < 0.3  # a mean with the diagonal is more than 2 off


def test_real_images_are_at_kernel_distance_zero_from_others(pix, pictures):
    parts = pix(pictures).double().split(500)

    values = [squared_mmd(x, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]

    error = statistics.stdev(values) / len(values) ** 0.5
    assert abs(statistics.mean(values)) < 3 * error
    assert error < 0.003


def test_the_kernel_distance_grows_with_noise(pix, pictures):
    real = pix(pictures[:1500])

    values = [kernel_distance(real, pix(add_noise(pictures[1500:3000], sd)), 20, 1000)[0] for sd in (0, 5, 10, 20)]

    assert values == sorted(values)
    assert values[-1] > 0.005 > abs(values[0])


def test_the_mean_over_subsets_is_an_estimate_for_the_whole_and_their_sd_falls_with_their_size():
    whole = squared_mmd(REAL, FAKE)

    (small, small_sd), (large, large_sd) = (kernel_distance(REAL, FAKE, 200, size) for size in (30, 120))

    assert abs(small - whole) < 4 * small_sd / 200**0.5
    assert abs(large - whole) < 4 * large_sd / 200**0.5
    assert large_sd < small_sd / 1.8


def test_subsets_are_no_larger_than_half_of_the_smaller_set_so_that_they_differ():
    small = FAKE[:40]

    for sets in ((REAL, small), (small, REAL)):
        assert kernel_distance(*sets, 5, 1000) == kernel_distance(*sets, 5, 20)
        assert kernel_distance(*sets, 5, 1000) != kernel_distance(*sets, 5, 19)


def test_one_subset_has_no_spread():
    assert math.isnan(kernel_distance(REAL, FAKE, subsets=1, subset_size=100)[1])


@pytest.mark.parametrize(("real", "fake"), [(400, 3), (3, 300)])
def test_images_too_few_to_draw_subsets_from_are_refused(real, fake):
    kernel_distance(REAL[: real + 1], FAKE[: fake + 1])

    with pytest.raises(ValueError, match=f"at least 4 images on each side, got {real} and {fake}"):
        kernel_distance(REAL[:real], FAKE[:fake])


# ---- precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 0.5), (0.3, 2.0)])
def test_neighbourhoods_meet_as_prdc_says(k, shift, scale):
    real, fake = normal(300, 4, seed=1), scale * normal(200, 4, seed=2) + shift

    found = neighbourhoods(real, fake, k)

    expected = compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    assert {name: value for name, (value, _) in vars(found).items()} == pytest.approx(expected, rel=1e-12)


def test_what_lies_on_the_edge_of_a_ball_is_outside_as_prdc_says():
    real, fake = (torch.randint(6, (count, 2), generator=seeded(count)).double() for count in (60, 50))

    found = neighbourhoods(real, fake, 3)

    expected = compute_prdc(real.numpy(), fake.numpy(), nearest_k=3)
    assert {name: value for name, (value, _) in vars(found).items()} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("block", [1, 7, 200, 299])
def test_the_size_of_blocks_changes_nothing(block):
    real, fake = normal(300, 4, seed=1), normal(200, 4, seed=2)

    assert neighbourhoods(real, fake, block=block) == neighbourhoods(real, fake)


def test_equal_sets_are_as_precise_varied_dense_and_covering_as_can_be():
    exact = (1000 * REAL).round()  # integers, so that a distance is the same in both directions to the last bit

    found = neighbourhoods(exact, exact.clone())

    assert [value for value, _ in vars(found).values()] == pytest.approx([1, 1, 1, 1])


def test_sets_far_apart_have_nothing_in_common():
    found = neighbourhoods(REAL, FAKE + 1e4)

    assert list(vars(found).values()) == [(0, 0)] * 4


def test_a_generator_of_one_mode_is_precise_but_covers_only_that_mode():
    far = torch.tensor([1e3, 0, 0]).double()
    real = torch.cat([normal(75, 3, seed=1), normal(25, 3, seed=2) + far])

    one_mode = neighbourhoods(real, real[:75] + 1e-9)
    swapped = neighbourhoods(real[:75] + 1e-9, real)

    assert [one_mode.precision[0], one_mode.recall[0], one_mode.coverage[0]] == [1, 0.75, 0.75]
    assert [swapped.precision[0], swapped.recall[0], swapped.coverage[0]] == [0.75, 1, 1]


def test_a_ball_reaches_to_the_kth_neighbour_and_density_counts_the_balls():
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # k = 1: balls of radius 1, 1, 2, 4
    fake = torch.tensor([[0.5], [3.5], [100.0], [101.0], [103.0]])  # of radius 3, 3, 1, 1, 2

    found = neighbourhoods(real, fake, k=1)

    assert kth_distance(real, 1).tolist() == [1, 1, 4, 16]
    assert kth_distance(real, 2).tolist() == [9, 4, 9, 36]
    # 0.5 lies in the balls of 0 and 1, 3.5 in those of 3 and 7; all of them hold one; 0.5 and 3.5 hold 0, 1, 3
    assert [value for value, _ in vars(found).values()] == pytest.approx([2 / 5, 3 / 4, 4 / 5, 1])


def test_images_that_crowd_in_the_middle_are_denser_than_real_ones():
    crowd = neighbourhoods(normal(500, 10, seed=1), 0.7 * normal(500, 10, seed=2))

    assert crowd.precision[0] > 0.95
    assert crowd.density[0] > 1.5
    assert crowd.recall[0] < 0.6


def test_the_standard_errors_are_those_of_means_over_the_images_asked():
    real, fake = normal(300, 4, seed=1), normal(200, 4, seed=2) + 1
    found = neighbourhoods(real, fake)

    for name, count in (("precision", 200), ("recall", 300), ("coverage", 300)):
        share, error = getattr(found, name)
        assert 0.1 < share < 0.95
        assert error == pytest.approx((share * (1 - share) / (count - 1)) ** 0.5)
    balls = (squared_distances(fake, real) < kth_distance(real, 5)).sum(1).double() / 5
    assert found.density == pytest.approx((balls.mean().item(), balls.std().item() / 200**0.5))


def test_a_mean_comes_with_its_sd_over_the_root_of_its_number():
    numbers = [1.0, 2.0, 4.0, 9.0]

    assert mean_of(torch.tensor(numbers)) == pytest.approx((4, statistics.stdev(numbers) / 2))


@pytest.mark.parametrize(("real", "fake"), [(5, 100), (100, 5)])
def test_fewer_images_than_neighbours_are_refused(real, fake):
    with pytest.raises(ValueError, match=f"more than 5 images on each side, got {real} and {fake}"):
        neighbourhoods(REAL[:real], FAKE[:fake], k=5)


def test_distances_by_products_are_distances():
    assert_close(squared_distances(REAL, FAKE), torch.cdist(REAL, FAKE).square())
    assert (squared_distances(REAL.float(), REAL.float()) >= 0).all()


# ---- the balance of classes


def one_hot(counts):
    classes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return 0.6 * torch.eye(len(counts))[classes] + 0.4 / len(counts)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([7] * 10, 0),
        ([0, 0, 50, 0], math.log(4)),
        ([10, 10, 0, 0], math.log(2)),
        ([3, 1], 0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
    ],
)
def test_the_balance_of_classes_is_the_divergence_of_their_shares_from_equal_ones(counts, expected):
    assert class_balance(one_hot(counts)) == pytest.approx(expected, abs=1e-12)


# ---- randomness


def test_figures_are_functions_of_their_seeds_and_leave_other_randomness_alone():
    real = Gaussian.fit(REAL)

    def figures(seed):
        everything = (
            kernel_distance(REAL, FAKE, 5, 50, seed),
            (over_halves(lambda x: x.mean().item(), FAKE, 5),),
            frechet_distance_at_infinity(real, FAKE, (50, 100, 200), 2),
            *vars(neighbourhoods(REAL, FAKE)).values(),
        )
        return [pytest.approx(numbers, rel=1e-9) for numbers in everything]

    torch.manual_seed(1)
    state = torch.get_rng_state()

    first = figures(0)

    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert [numbers.expected for numbers in figures(0)] == first
    other = [numbers.expected for numbers in figures(1)]
    assert other[0] != first[0]
    assert other[1:] == first[1:]


# ---- MIND: the sliced Wasserstein distance


@pytest.mark.parametrize("sizes", [(200, 200), (120, 200), (200, 77)])
def test_the_sliced_wasserstein_distance_is_the_mean_of_scipy_s_over_the_directions(sizes):
    real, fake = REAL[: sizes[0]], FAKE[: sizes[1]]
    units = torch.randn(30, 12, generator=keyed_generator("directions", 4), dtype=torch.float64)
    units /= units.norm(dim=1, keepdim=True)

    distances = [scipy.stats.wasserstein_distance(real @ unit, fake @ unit) for unit in units]

    found = sliced_wasserstein_distance(real, fake, directions=30, seed=4, block=7)
    assert found == pytest.approx(statistics.mean(distances), rel=1e-9)


def test_the_sliced_wasserstein_distance_of_a_shift_is_its_mean_length_along_a_direction():
    shift = normal(3, seed=5)
    line = REAL[:, :1]

    assert sliced_wasserstein_distance(line, line - 2.5) == pytest.approx(2.5)  # one dimension: in each direction
    found = sliced_wasserstein_distance(REAL[:, :3], REAL[:, :3] + shift, directions=20_000)
    assert found == pytest.approx(shift.norm().item() / 2, rel=0.02)  # the mean of abs(cos) on a sphere


def test_the_sliced_wasserstein_distance_is_symmetric_homogeneous_and_zero_on_the_same_set():
    expected = sliced_wasserstein_distance(REAL, FAKE, 50)

    assert sliced_wasserstein_distance(FAKE, REAL, 50) == pytest.approx(expected)
    assert sliced_wasserstein_distance(3 * REAL, 3 * FAKE, 50) == pytest.approx(3 * expected)
    assert sliced_wasserstein_distance(REAL, REAL.flip(0), 50) == pytest.approx(0, abs=1e-12)
    assert sliced_wasserstein_distance(REAL, REAL.repeat(2, 1), 50) == pytest.approx(0, abs=1e-12)


def test_the_sliced_wasserstein_distance_sees_what_equal_moments_hide():
    real = features(2000, 3, seed=1)
    gaussian = Gaussian.fit(real)
    coin = normal(2000, 3, seed=8).sign()  # two values a dimension
    coin = (coin - coin.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(coin.T.cov())).T
    fake = gaussian.mean + coin @ torch.linalg.cholesky(gaussian.covariance).T

    assert distance(real, fake) == pytest.approx(0, abs=1e-6)
    assert sliced_wasserstein_distance(real, fake) > 3 * sliced_wasserstein_distance(
        real, features(4000, 3, seed=1)[2000:]
    )


def test_the_effective_rank_counts_equal_eigenvalues_and_no_scale_or_rotation_changes_it():
    turn = rotation(12)

    assert effective_rank(torch.diag(torch.tensor([2.0] * 5 + [0.0] * 7))) == pytest.approx(5)
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(4 / 3**0.75)  # exp of their entropy
    covariance = Gaussian.fit(REAL).covariance
    assert effective_rank(5 * turn @ covariance @ turn.T) == pytest.approx(effective_rank(covariance))
