"""Images are mirrored and shifted by their position in the stream, whoever makes the batch."""

import itertools

import pytest
import torch
from pictures import encode, noise, write_parquet
from scipy import stats

from genhub.data import DataConfig, load
from genhub.data.augmentation import Augmentation
from genhub.utils.randomness import hash_uniform

POSITIONS = torch.arange(20_000)


def test_hashed_numbers_are_uniform_and_independent_of_their_neighbours():
    numbers = hash_uniform(POSITIONS, 0)

    assert stats.kstest(numbers, "uniform").pvalue > 0.01
    for other in (hash_uniform(POSITIONS, 1), hash_uniform(POSITIONS, 0, 1), numbers.roll(1)):
        assert abs(torch.corrcoef(torch.stack([numbers, other]))[0, 1]) < 0.03
    assert torch.equal(hash_uniform(POSITIONS[7:9], 0), numbers[7:9])


def test_half_of_the_images_are_mirrored():
    images = torch.arange(6.0).reshape(1, 1, 2, 3).repeat(20_000, 1, 1, 1)

    changed = Augmentation(True, 0, 0.0)(images, POSITIONS, seed=3)

    is_flipped = (changed == images.flip(3)).flatten(1).all(1)
    assert torch.equal(changed[~is_flipped], images[~is_flipped])
    assert abs(is_flipped.float().mean() - 0.5) < 0.02


def test_all_shifts_are_equally_likely_and_the_border_is_filled():
    images = torch.zeros(20_000, 2, 5, 5)
    images[:, :, 2, 2] = 1

    changed = Augmentation(False, 2, -1.0)(images, POSITIONS, seed=0)

    places = (changed[:, 0] == 1).flatten(1).float().argmax(1).bincount(minlength=25)
    assert stats.chisquare(places.numpy()).pvalue > 0.01
    assert torch.equal(changed[:, 0], changed[:, 1])
    corner = changed[(changed[:, 0, 0, 0] == 1)]
    assert ((corner[:, 0] == -1).flatten(1).sum(1) == 16).all()  # shifted by two: two rows and two columns are new


@pytest.mark.parametrize("way", [{}, {"memory_limit_gb": 0}], ids=["memory", "lazy"])
def test_two_processes_change_the_images_of_one(tmp_path, way):
    write_parquet(tmp_path, [encode(image) for image in noise(11, 8, 8)])
    data = load(DataConfig(str(tmp_path), 0, 0, random_flip=True, random_crop=2, **way))

    def take(size, start, stride):
        batches = data.batches(size, start, stride, 5, "cpu")
        taken = [batch["sample"] for batch in itertools.islice(batches, 6)]
        batches.close()
        return torch.stack(taken)

    whole = take(4, 0, 4)
    assert torch.equal(torch.cat([take(2, 0, 4), take(2, 2, 4)], 1), whole)
    assert torch.equal(take(4, 8, 4)[:4], whole[2:])
    plain = load(DataConfig(str(tmp_path), 0, 0, **way))
    assert not torch.equal(next(plain.batches(4, 0, 4, 5, "cpu"))["sample"], whole[0])


def test_only_training_images_are_changed(tmp_path):
    write_parquet(tmp_path, [encode(image) for image in noise(20, 8, 8)])
    config = DataConfig(str(tmp_path), random_flip=True)

    assert [load(config, split).augmentation is not None for split in ("train", "val", "test")] == [True, False, False]


@pytest.mark.parametrize("config", [{"source": "points"}, {"encode": "vae"}])
def test_what_is_no_image_is_not_mirrored(config):
    with pytest.raises(ValueError, match=r"`data.random_flip` and `data.random_crop` must be (off|left out)"):
        load(DataConfig(**config, random_flip=True))
