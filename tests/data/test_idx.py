"""The four files of MNIST: read as they are, and every flaw named with its file."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from pictures import noise, write_folder

from genhub.data import DataConfig, load

IMAGES, LABELS = noise(12, 5, 4), np.arange(12, dtype=np.uint8) % 10
NAMES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")}
NAMES["test"] = tuple(name.replace("train", "t10k") for name in NAMES["train"])


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_folder(folder, pack=lambda content: content, suffix="", **flaws):
    files = {}
    for split, parts in (("train", (IMAGES, LABELS)), ("test", (IMAGES[::-1], LABELS[::-1]))):
        files |= {name: idx(part) for name, part in zip(NAMES[split], parts, strict=True)}
    files |= {NAMES["train"][kind == "labels"]: content for kind, content in flaws.items()}
    return write_folder(folder, {name + suffix: pack(content) for name, content in files.items()})


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")], ids=["plain", "gz"])
def test_the_files_are_read_into_their_splits(tmp_path, pack, suffix):
    config = DataConfig(str(idx_folder(tmp_path, pack, suffix)), val_size=3)

    train, val, test = (load(config, split) for split in ("train", "val", "test"))

    assert np.array_equal(torch.cat([train.images, val.images])[:, 0], IMAGES)
    assert np.array_equal(torch.cat([train.labels, val.labels]), LABELS)
    assert np.array_equal(test.images[:, 0], IMAGES[::-1])
    assert np.array_equal(test.labels, LABELS[::-1])
    assert (len(train), len(val), train.labels.dtype) == (9, 3, torch.int64)


FLAWS = {
    "empty": ({"images": b""}, "train-images.* must begin with the bytes 00 00 08 03, got"),
    "ends in the magic": ({"images": idx(IMAGES)[:3]}, "train-images.* must begin with the bytes"),
    "ends in the header": ({"images": idx(IMAGES)[:10]}, "train-images.* ends within its header"),
    "truncated": ({"images": idx(IMAGES)[:-1]}, "train-images.* must be 256 bytes .* got 255"),
    "too long": ({"labels": idx(LABELS) + b"\0"}, "train-labels.* must be 20 bytes .* got more"),
    "not of bytes": ({"images": idx(IMAGES, kind=13)}, "train-images.* must begin with"),
    "labels for images": ({"images": idx(LABELS)}, "train-images.* must begin with"),
    "images for labels": ({"labels": idx(IMAGES)}, "train-labels.* must begin with"),
    "of different length": ({"labels": idx(LABELS[:-1])}, "train-images.* 12 images, .*train-labels.* 11 labels"),
    "no image": ({"images": idx(IMAGES[:0]), "labels": idx(LABELS[:0])}, "train-images.* holds no image"),
}


@pytest.mark.parametrize(("flaws", "message"), FLAWS.values(), ids=FLAWS)
@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")], ids=["plain", "gz"])
def test_a_flaw_is_named_with_its_file(tmp_path, pack, suffix, flaws, message):
    folder = idx_folder(tmp_path, pack, suffix, **flaws)

    with pytest.raises(ValueError, match=message):
        load(DataConfig(str(folder), val_size=0))


DAMAGE = {
    "truncated": lambda gz: gz[:-9],
    "another magic": lambda gz: b"PK" + gz[2:],
    "no deflate": lambda gz: gz[:10] + b"\xff" * 8 + gz[18:],
    "another checksum": lambda gz: gz[:-8] + bytes(8),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_gz_is_named(tmp_path, damage):
    folder = idx_folder(tmp_path, lambda content: damage(gzip.compress(content)), ".gz")

    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        load(DataConfig(str(folder), val_size=0))


def test_no_more_is_read_than_the_header_promises(tmp_path):
    bomb = gzip.compress(bytes(2**24))
    folder = idx_folder(tmp_path, lambda content: gzip.compress(content) + bomb * 20, ".gz")  # 320 MB

    tracemalloc.start()
    with pytest.raises(ValueError, match=r"must be 256 bytes long by its header, got more"):
        load(DataConfig(str(folder), val_size=0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2**22


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")], ids=["plain", "gz"])
@pytest.mark.parametrize(
    ("sizes", "message"),
    [((10**6, 999, 5), "GB by its header"), ((2**32 - 1,) * 3, "GB"), ((10**6, 99, 9), "got 256")],
)
def test_a_header_that_promises_more_than_there_is_takes_no_memory(tmp_path, pack, suffix, sizes, message):
    flaw = bytes((0, 0, 8, 3)) + struct.pack(">3I", *sizes) + IMAGES.tobytes()

    with pytest.raises(ValueError, match=message):
        load(DataConfig(str(idx_folder(tmp_path, pack, suffix, images=flaw)), val_size=0))


@pytest.mark.parametrize("missing", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_missing_file_is_named(tmp_path, missing):
    (idx_folder(tmp_path) / missing).unlink()

    for split in ("train", "test"):
        with pytest.raises(ValueError, match=f"has no {missing}"):
            load(DataConfig(str(tmp_path), val_size=0), split)


def test_the_last_images_are_the_test_where_there_is_no_file_of_them(tmp_path):
    whole = load(DataConfig(str(idx_folder(tmp_path)), val_size=0))
    for path in tmp_path.glob("t10k*"):
        path.unlink()

    train, test = (load(DataConfig(str(tmp_path), val_size=0, test_size=0.25), split) for split in ("train", "test"))

    assert torch.equal(torch.cat([train.images, test.images]), whole.images)
    assert len(test) == 3


def test_the_folder_that_torchvision_leaves_is_read(tmp_path):
    expected = load(DataConfig(str(idx_folder(tmp_path / "MNIST" / "raw")), val_size=0))

    for folder in (tmp_path, tmp_path / "MNIST"):
        assert torch.equal(load(DataConfig(str(folder), val_size=0)).images, expected.images)


@pytest.mark.parametrize(
    ("change", "shape"),
    [({"size": 4}, (1, 4, 4)), ({"size": 7, "channels": 1}, (1, 7, 7)), ({"channels": 3}, (3, None, None))],
)
def test_images_come_in_another_shape_on_request(tmp_path, change, shape):
    plain = load(DataConfig(str(idx_folder(tmp_path)), val_size=0))

    changed = load(DataConfig(str(tmp_path), val_size=0, **change))

    expected = tuple(b or a for a, b in zip(plain.images.shape[1:], shape, strict=True))
    assert tuple(changed.images.shape) == (len(plain), *expected)
    assert torch.equal(changed.labels, plain.labels)
    if "size" not in change:
        assert torch.equal(changed.images, plain.images.expand(-1, 3, -1, -1))
