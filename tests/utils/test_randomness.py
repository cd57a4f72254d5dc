"""Random numbers are a function of their key and of the place in the global batch, and of nothing else."""

import itertools

import pytest
import torch
from scipy import stats

from genhub.utils.randomness import BatchRandom, keyed_generator, seed_of

KEY = ("noise", 0, 17)
MANY = 200_000


def whole(*key, total=12):
    return BatchRandom(*key, rows=range(total), total=total)


def everything(draws):
    """Several draws of each kind, one after the other."""
    first = [draws.randn(1, 2, 3), draws.randint(4000), draws.rand(), draws.randn()]
    return [*first, draws.randint(2, 5), draws.rand(4), draws.permutation()]


def test_a_draw_has_the_own_rows_and_the_shape_that_was_asked_for():
    drawn = everything(BatchRandom(*KEY, rows=range(2, 5), total=12))

    assert [tuple(one.shape) for one in drawn] == [(3, 1, 2, 3), (3,), (3,), (3,), (3, 5), (3, 4), (3,)]
    assert [one.dtype for one in drawn[:3]] == [torch.float32, torch.int64, torch.float32]


@pytest.mark.parametrize(
    "bounds",
    [(0, 6, 12), (0, 4, 8, 12), (0, 3, 6, 9, 12), (0, 1, 12), (0, 0, 12), tuple(range(13))],
    ids=["2 processes", "3 processes", "2 processes of 2 parts", "uneven", "an empty part", "rows one by one"],
)
def test_the_rows_of_any_split_are_the_rows_of_the_whole_batch(bounds):
    parts = [everything(BatchRandom(*KEY, rows=range(*cut), total=12)) for cut in itertools.pairwise(bounds)]

    for expected, *rows in zip(everything(whole(*KEY)), *parts, strict=True):
        assert torch.equal(torch.cat(rows), expected)


def test_the_key_alone_decides_and_the_global_state_is_neither_read_nor_moved():
    state = torch.get_rng_state()
    first = everything(whole(*KEY))
    assert torch.equal(torch.get_rng_state(), state)

    with torch.random.fork_rng():
        torch.manual_seed(1234)
        everything(whole("another", "key"))
        second = everything(whole(*KEY))

    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    generator = keyed_generator(*KEY)
    assert torch.equal(torch.randn(12, 1, 2, 3, generator=generator), first[0])


def test_draws_of_different_keys_and_draws_of_one_key_are_unrelated():
    keys = [("noise", 0, 17), ("noise", 0, 18), ("noise", 1, 17), ("dropout", 0, 17), (0, "noise", 17), ("noise", 0)]
    one = whole("one", total=MANY)

    drawn = [whole(*key, total=MANY).randn() for key in keys] + [one.randn(), one.randn(), one.rand(), one.rand()]

    assert (torch.corrcoef(torch.stack(drawn)) - torch.eye(len(drawn))).abs().max() < 5 / MANY**0.5


@pytest.mark.parametrize(("kind", "cdf"), [("randn", stats.norm.cdf), ("rand", stats.uniform.cdf)])
def test_draws_have_the_distribution_that_their_name_says(kind, cdf):
    drawn = getattr(whole(*KEY, total=MANY), kind)()

    assert stats.kstest(drawn.numpy(), cdf).pvalue > 1e-3


def test_integers_are_uniform_below_the_bound():
    drawn = whole(*KEY, total=MANY).randint(10)

    assert stats.chisquare(torch.bincount(drawn, minlength=10).numpy()).pvalue > 1e-3


def test_each_number_stands_once_in_a_permutation_and_anywhere_equally_often():
    drawn = torch.stack([whole("order", index).permutation() for index in range(2000)])  # (2000, 12)

    assert torch.equal(drawn.sort(dim=1).values, torch.arange(12).expand(2000, 12))
    for place in drawn.T:
        assert stats.chisquare(torch.bincount(place, minlength=12).numpy()).pvalue > 1e-4


def test_keys_that_look_alike_are_told_apart_and_seeds_fill_63_bits():
    keys = [(1,), ("1",), (1, 1), (11,), ("a", "b"), ("ab",), ("a, b",), ("a", "b", ""), (-1,), (), ("",), (0,)]

    seeds = [seed_of(*key) for key in [*keys, *(("bits", i) for i in range(2000))]]

    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert all(abs(sum(seed >> bit & 1 for seed in seeds) / len(seeds) - 0.5) < 0.06 for bit in range(63))


def test_seeds_are_those_of_the_first_release():
    assert seed_of("image", 0, 7) == 2775734135166167259  # a copied number: published images must not change


def test_a_batch_without_draws_costs_no_generator(monkeypatch):
    monkeypatch.setattr("genhub.utils.randomness.keyed_generator", None)  # would fail if it were called

    BatchRandom(*KEY, rows=range(2), total=4)
