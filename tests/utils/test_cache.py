"""What was computed once is read from disk, if it is whole; a hash tells apart all that differs."""

import itertools
import os

import pytest
import torch
from faults import FAULTS, KILLED, every_call
from safetensors.torch import save_file

from genhub.utils.cache import _hash, cached, content_hash
from genhub.utils.files import is_leftover

TENSORS = {"a": torch.arange(12.0).view(3, 4), "b": torch.tensor([1, 2, 3], dtype=torch.uint8)}


@pytest.fixture
def files(monkeypatch, tmp_path):
    monkeypatch.setenv("GENHUB_CACHE", str(tmp_path))
    return lambda: [path for path in tmp_path.rglob("*") if path.is_file()]


def copies() -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in TENSORS.items()}


def equal(tensors) -> bool:
    return tensors.keys() == TENSORS.keys() and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_tensors_are_computed_once_for_each_key(files):
    calls = []

    def compute():
        calls.append(None)
        return copies()

    for key in ("one", "one", "other", "one"):
        assert equal(cached("kind", key, compute))

    assert len(calls) == len(files()) == 2


DAMAGE = {
    "nothing left": lambda whole: b"",
    "cut in the header": lambda whole: whole[:60],
    "the last byte lost": lambda whole: whole[:-1],
    "a value changed": lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_computed_and_written_again(files, damage):
    cached("kind", "key", copies)
    (file,) = files()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))

    assert equal(cached("kind", "key", copies))

    assert files() == [file]
    assert file.read_bytes() == whole


@pytest.mark.parametrize("fault", FAULTS)
def test_wherever_storing_fails_the_tensors_are_there_and_the_entry_is_whole_or_none(fault, monkeypatch, tmp_path):
    made = itertools.count()

    def prepare():
        (root := tmp_path / f"{next(made)}").mkdir()
        return root

    def store(root):
        os.environ["GENHUB_CACHE"] = str(root)  # of a forked child
        assert equal(cached("kind", "key", copies))

    for outcome in every_call(store, prepare, fault):
        assert not outcome.error
        assert outcome.code == (0 if fault in ("error", "full") else KILLED)
        monkeypatch.setenv("GENHUB_CACHE", str(outcome.root))
        whole = [path for path in outcome.root.rglob("*") if path.is_file() and not is_leftover(path)]
        if whole:
            assert equal(cached("kind", "key", lambda: pytest.fail("the entry is not whole")))
        else:
            assert equal(cached("kind", "key", copies))


def test_what_another_key_gave_or_does_not_fit_is_computed(files):
    cached("kind", "other", lambda: {"a": torch.zeros(1)})
    (other,) = files()
    other.rename(other.with_name("key.safetensors"))
    assert equal(cached("kind", "key", copies))

    ones = cached("kind", "key", lambda: {"a": torch.ones(2)}, lambda stored: stored.keys() == {"a"})
    assert ones["a"].tolist() == [1, 1]


def test_an_entry_of_an_earlier_release_is_read(files):
    cached("kind", "key", copies)
    (file,) = files()
    save_file(copies(), file, {"hash": _hash(copies())})

    assert equal(cached("kind", "key", lambda: {}))


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENHUB_CACHE", str(tmp_path / "file"))

    assert equal(cached("kind", "key", copies))


def test_contents_that_look_alike_are_told_apart_and_pieces_count_as_one():
    zeros = torch.zeros(4)
    contents = [("a", "bc"), ("ab", "c"), ("abc",), ("", "abc"), (zeros,), (zeros.view(2, 2),), (zeros.int(),), ()]

    assert len({content_hash(*content) for content in contents}) == len(contents)
    for pieces in ([b"ab", b"", b"c"], [memoryview(b"a"), b"bc"], ["abc"[:1].encode(), b"bc"]):
        assert content_hash("x", pieces) == content_hash("x", b"abc") == content_hash("x", "abc")
    assert content_hash("x", []) == content_hash("x", b"")


def test_hashes_are_those_of_the_first_release():
    assert (
        content_hash("a", TENSORS["a"], b"bytes") == "be7f6750cdfef279b04fa2adafb89ee9"
    )  # a copied value: caches outlive a release
