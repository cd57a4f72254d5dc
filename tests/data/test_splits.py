"""What is held out is drawn once, of each class its share, and never trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import ClassLabel
from pictures import encode, noise, write_folder, write_parquet

from genhub.commands.evaluation_data import load_images
from genhub.data import DataConfig, Images, load
from genhub.data.splits import MNIST, held_out, is_benchmark, rows_of, stratified_order

WAYS = {"memory": {}, "lazy": {"memory_limit_gb": 0}}
way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def labels_of(config: DataConfig, split: str) -> torch.Tensor:
    data = load(config, split)
    return data.labels if data.labels is not None else data.all_labels()


@pytest.mark.parametrize("sizes", [(300, 300), (1, 200, 7), (5,), (997, 3, 50, 50, 1)])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_each_stretch_of_the_order_holds_of_each_class_its_share(sizes, is_sorted):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)) * 7
    if not is_sorted:
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]

    order = stratified_order(labels, len(labels))

    assert torch.equal(order.sort().values, torch.arange(len(labels)))
    for start, stop in [(0, len(labels) // 3), (len(labels) // 2, len(labels)), (len(labels) // 4, len(labels) // 2)]:
        for label, size in enumerate(sizes):
            found = (labels[order[start:stop]] == 7 * label).sum().item()
            assert abs(found - (stop - start) * size / len(labels)) < 1 + len(sizes) / 2


def test_the_order_is_the_same_each_time_and_random_within_a_class():
    labels = torch.arange(100) // 50

    first, again, unlabelled = (stratified_order(given, 100) for given in (labels, labels, None))

    assert torch.equal(first, again)
    assert not torch.equal(unlabelled, torch.arange(100))
    own = first[first < 50]
    assert not torch.equal(own, own.sort().values)


@pytest.mark.parametrize(
    ("config", "total", "files", "expected"),
    [
        ({}, 60_000, (False, True), (5000, 0)),
        ({}, 300, (False, False), (30, 30)),
        ({}, 300, (True, True), (0, 0)),
        ({}, 3, (False, False), (1, 0)),
        ({"val_size": 0}, 300, (False, False), (0, 30)),
        ({"val_size": 0.05}, 10_000, (False, True), (500, 0)),
        ({"val_size": 12, "test_size": 7}, 300, (False, False), (12, 7)),
        ({"val_size": 12, "test_size": 7}, 300, (True, True), (12, 0)),
    ],
)
def test_sizes_are_numbers_or_shares(config, total, files, expected):
    assert held_out(DataConfig(**config), total, *files) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"val_size": 270},
            r"`data.val_size` must be below the 270 images of the split train, got 270; `data.val_size: 0.1`",
        ),
        (
            {"test_size": 300},
            r"`data.test_size` must be below the 300 images .* got 300; `data.test_size: 0.1` holds",
        ),
    ],
)
def test_sizes_leave_images_to_train_on(config, message):
    with pytest.raises(ValueError, match=message):
        held_out(DataConfig(**config), 300, False, False)


def test_splits_divide_the_rows_in_their_order():
    order = torch.tensor([3, 0, 4, 1, 2, 5])

    parts = [rows_of(split, 2, 1, order).tolist() for split in ("train", "val", "test")]

    assert parts == [[0, 3, 4], [1, 2], [5]]


@way
def test_folders_of_classes_are_held_out_class_by_class(tmp_path, way):
    pixels = noise(80, 4, 4)
    write_folder(tmp_path, {f"{'cat' if i < 60 else 'dog'}/{i:02}.png": encode(x) for i, x in enumerate(pixels)})
    config = DataConfig(str(tmp_path), val_size=0.25, **way)

    counts = {split: labels_of(config, split).bincount().tolist() for split in ("train", "val", "test")}
    images = np.concatenate([load(DataConfig(str(tmp_path), val_size=0.25), split).images for split in counts])[:, 0]

    assert counts == {"train": [39, 13], "val": [15, 5], "test": [6, 2]}
    assert sorted(map(np.ndarray.tobytes, images)) == sorted(map(np.ndarray.tobytes, pixels))


@way
def test_files_of_a_split_are_that_split(tmp_path, way):
    for number, split in enumerate(("train", "validation", "test")):
        columns = {"label": ([number] * 20, ClassLabel(num_classes=3))}
        write_parquet(tmp_path, [encode(image) for image in noise(20, 4, 4)], split=split, **columns)

    for size, counts in ((None, [20, 20, 20]), (5, [15, 5, 20])):
        config = DataConfig(str(tmp_path), val_size=size, **way)
        assert [len(load(config, split)) for split in ("train", "val", "test")] == counts
    assert labels_of(DataConfig(str(tmp_path), **way), "val").unique().tolist() == [1]


@pytest.mark.parametrize("way", [{}, {"memory_limit_gb": 0}, {"streaming": True}], ids=["memory", "lazy", "stream"])
@pytest.mark.parametrize("form", ["folder", "table"])
def test_what_is_evaluated_was_not_trained_on_however_it_is_read(tmp_path, form, way):
    pixels = noise(60, 4, 4)
    pixels[:, 0, 0] = np.arange(60)  # all differ
    labels = [number // 30 for number in range(60)]
    if form == "folder":
        write_folder(tmp_path, {f"{labels[i]}/{i:02}.png": encode(image) for i, image in enumerate(pixels)})
    else:
        write_parquet(tmp_path, [encode(image) for image in pixels], label=(labels, ClassLabel(names=["a", "b"])))
    config = DataConfig(str(tmp_path), val_size=0.1, **way)

    train = load(config)
    if not isinstance(train, Images):
        train = train.load()
    parts = [train, *(load_images(replace(config, memory_limit_gb=1), split) for split in ("val", "test"))]

    seen = [set(map(np.ndarray.tobytes, part.images.numpy())) for part in parts]
    assert [*map(len, seen)] == [48, 6, 6]
    assert len(set.union(*seen)) == 60
    for part in parts:  # each image has its own label
        places = part.images[:, 0, 0, 0].long()
        assert torch.equal(part.labels, torch.tensor(labels)[places])
    if form == "folder" or "streaming" not in way:
        assert [part.labels.bincount().tolist() for part in parts] == [[24, 24], [3, 3], [3, 3]]


def test_rare_classes_are_spread_over_all_parts():
    labels = torch.cat([torch.zeros(10_000), torch.arange(1, 101).repeat_interleave(3)]).long()

    order = stratified_order(labels, len(labels))

    rare = [(labels[rows_of(split, 1030, 1030, order)] > 0).sum().item() for split in ("train", "val", "test")]
    for found, share in zip(rare, (8240, 1030, 1030), strict=True):
        assert abs(found - 300 * share / 10_300) < 20


def test_sorted_digits_are_no_benchmark():
    digits = torch.arange(10).repeat_interleave(6000)
    mixed = digits[torch.randperm(60_000, generator=torch.Generator().manual_seed(0))]

    assert not is_benchmark(MNIST, digits)
    assert is_benchmark(MNIST, mixed)
    assert not is_benchmark(MNIST, mixed[1:])
    assert not is_benchmark(None, mixed)
    assert not is_benchmark(("cat", "dog"), mixed)
    assert not is_benchmark(MNIST, None)
