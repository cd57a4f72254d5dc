"""What is loaded and how it is split; every bad source is refused in one clear sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Value
from pictures import encode, noise, write_folder, write_parquet

from genhub.data import DataConfig, load

GREY, COLOUR = noise(6, 5, 4), noise(6, 5, 4, 3)


def test_train_and_val_divide_the_training_file():
    everything = load(DataConfig("sample", val_size=0))
    config = DataConfig("sample", val_size=100)

    train, val, test = (load(config, split) for split in ("train", "val", "test"))

    assert torch.equal(torch.cat([train.images, val.images]), everything.images)
    assert torch.equal(torch.cat([train.labels, val.labels]), everything.labels)
    assert len(val) == 100
    assert not torch.equal(test.images[:100], everything.images[:100])
    assert (train.shape.channels, train.shape.height, len(train.shape.class_names)) == (1, 28, 10)


def feature(kind: str):
    """A kind of column of `datasets`."""
    from datasets import ClassLabel, List

    known = {"names": ClassLabel(names=["a", "b"]), "list": List(Value("int8"))}
    return known.get(kind) or Value(kind)


@pytest.mark.parametrize(
    ("kind", "values", "expected", "class_names"),
    [
        ("names", [0, 1, 1, 0, 1, 0], [0, 1, 1, 0, 1, 0], ("a", "b")),
        ("int64", [65_535, 1, 0, 7, 7, 7], [65_535, 1, 0, 7, 7, 7], None),
        ("uint8", [255, 0, 0, 0, 0, 0], [255, 0, 0, 0, 0, 0], None),
        ("string", ["b", "a10", "a9", "b", "b", "b"], [2, 1, 0, 2, 2, 2], ("a9", "a10", "b")),
        ("bool", [True, False, True, True, True, True], [1, 0, 1, 1, 1, 1], None),
        ("list", [[1]] * 6, None, None),
        (None, None, None, None),
    ],
)
@pytest.mark.parametrize("lazily", [False, True])
def test_labels_are_numbers_or_absent(tmp_path, kind, values, expected, class_names, lazily):
    columns = {} if kind is None else {"label": (values, feature(kind))}
    write_parquet(tmp_path, [encode(image) for image in COLOUR], **columns)

    data = load(DataConfig(str(tmp_path), val_size=0, memory_limit_gb=0 if lazily else 1))

    if not lazily:
        assert np.array_equal(data.images, COLOUR.transpose(0, 3, 1, 2))
        assert (None if data.labels is None else data.labels.tolist()) == expected
    else:
        seen = next(data.batches(6, 0, 6, 0, "cpu"))
        assert seen.get("labels", torch.tensor([])).sort().values.tolist() == sorted(expected or [])
    assert data.shape.class_names == class_names


def test_a_folder_of_images_has_its_subfolders_for_classes(tmp_path):
    files = {"train/shoe/a.png": encode(GREY[0]), "train/bag/b.jpg": encode(GREY[1], "JPEG")}
    write_folder(tmp_path, files | {"test/bag/c.bmp": encode(GREY[2], "BMP")})

    train, test = (load(DataConfig(str(tmp_path), val_size=0), split) for split in ("train", "test"))

    assert {train.shape.class_names[label] for label in train.labels} == {"shoe", "bag"}
    shoe = train.labels.tolist().index(train.shape.class_names.index("shoe"))
    assert np.array_equal(train.images[shoe, 0], GREY[0])
    assert np.array_equal(test.images[:, 0], GREY[2:3])


def parquet(*encoded, **columns):
    return lambda folder: write_parquet(folder, encoded, **columns)


def files(**content):
    return lambda folder: write_folder(folder, {name.replace("_", "."): one for name, one in content.items()})


def cut_parquet(folder):
    for path in write_parquet(folder, [encode(image) for image in GREY], shards=2).glob("*1-of*"):
        path.write_bytes(path.read_bytes()[:200])


def only_text(folder):
    from datasets import Dataset

    Dataset.from_dict({"words": ["a"]}).to_parquet(folder / "train.parquet")


GOOD = encode(GREY[0])
BAD = {
    "an empty folder": (lambda folder: None, "holds no file"),
    "files of no known kind": (files(a_xyz=b"?"), "Could not load"),
    "no image column": (only_text, "has no image column, only words"),
    "text": (files(a_txt=b"some words"), "has no image column"),
    "no row": (parquet(), "has no image"),
    "a split that is missing": (lambda f: write_parquet(f, [GOOD], split="test"), "has no split 'train', only test"),
    "a truncated parquet file": (cut_parquet, "train-00001-of-00002.parquet is not a readable parquet file"),
    "an empty parquet file": (files(train_parquet=b""), "train.parquet is not a readable parquet file"),
    "a truncated image": (files(A_png=GOOD, B_png=GOOD[:60]), "B.png.* is not a readable image"),
    "a first image of text": (files(A_png=b"hello", B_png=GOOD), "A.png.* is not a readable image .of no format"),
    "a truncated image in a table": (parquet(GOOD, GOOD[:60]), "Picture 1.PNG.* is not a readable image"),
    "an empty image": (parquet(GOOD, b""), "Picture 1.PNG.* is empty"),
    "a gap": (parquet(GOOD, None), "Image 1 .* is empty"),
    "a first gap": (parquet(None, GOOD), "is empty"),
    "a gap in the labels": (parquet(GOOD, GOOD, label=([1, None], feature("names"))), "has gaps"),
    "two sizes": (parquet(GOOD, encode(GREY[0, 1:])), "1.PNG.* is 4x4 with 1 .* first one 4x5 .*`data.size`"),
    "grey and colour": (parquet(GOOD, encode(COLOUR[0])), "4x5 with 3 channel.*first one 4x5 with 1.*`data.channels`"),
    "16 bits": (parquet(encode(GREY[0].astype(np.uint16))), "more than 8 bits"),
}


@pytest.mark.parametrize("way", [{}, {"memory_limit_gb": 0}, {"streaming": True}], ids=["memory", "lazy", "stream"])
@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_a_bad_folder_is_refused_in_one_clear_sentence(tmp_path, make, message, way):
    make(tmp_path)
    config = DataConfig(str(tmp_path), val_size=0, **way)

    with pytest.raises(ValueError, match=message.replace("Image 1", "Image 1" if not way else "image")) as caught:
        next(load(config).batches(2, 0, 2, 0, "cpu"))

    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("way", [{}, {"memory_limit_gb": 0}, {"streaming": True}], ids=["memory", "lazy", "stream"])
def test_size_and_channels_bring_all_to_one_shape(tmp_path, way):
    parquet(encode(GREY[0]), encode(COLOUR[0, 1:]), encode(COLOUR[0].repeat(3, 1)))(tmp_path)
    data = load(DataConfig(str(tmp_path), val_size=0, size=8, channels=1, **way))

    batch = next(data.batches(3, 0, 3, 0, "cpu"))

    assert batch["sample"].shape == (3, 1, 8, 8)
    assert (data.shape.channels, data.shape.height, data.shape.width) == (1, 8, 8)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/nowhere/at/all", "must be an existing folder or a Hub id, got '/nowhere/at/all'.*`sample`"),
        ("./nowhere", "must be an existing folder or a Hub id"),
        ("~/no/where", "must be an existing folder or a Hub id"),
        ("someone/something", "someone/something.*reach.*Check the name and the network, or use `sample`"),
        (__file__, "must be a folder or an .npz archive, got the file .*test_load.py"),
    ],
)
def test_a_source_that_is_not_there_names_the_alternatives(source, message, streaming):
    with pytest.raises(ValueError, match=message):
        load(DataConfig(source, streaming=streaming))


@pytest.mark.parametrize("source", ["celeba-fces", "celeba-fces/train/images", "./celeba_faces"])
def test_a_source_that_is_misspelt_names_the_nearest_folder(tmp_path, source, monkeypatch):
    for name in ("celeba-faces", "mnist"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data/celeba-fces.txt").touch()
    monkeypatch.chdir(tmp_path)

    for path in (tmp_path / "data" / source, Path("data", source)):
        with pytest.raises(ValueError, match=r"data/celeba.fa?ces\S* .did you mean 'celeba-faces'\?. ?"):
            load(DataConfig(str(path)))
    with pytest.raises(ValueError, match=r"got '.*/nowhere'\. Check"):
        load(DataConfig(str(tmp_path / "data/nowhere")))


@pytest.mark.parametrize("way", [{}, {"memory_limit_gb": 0}, {"streaming": True}], ids=["memory", "lazy", "stream"])
def test_a_split_must_hold_something(tmp_path, way):
    folder = str(parquet(GOOD, GOOD)(tmp_path))

    for val_size in (2, 3):
        with pytest.raises(ValueError, match=f"`data.val_size` must be below the 2 images .* got {val_size}"):
            load(DataConfig(folder, val_size=val_size, **way))
    with pytest.raises(ValueError, match="`data.val_size` must be above 0"):
        load(DataConfig(folder, val_size=0, **way), "val")
    with pytest.raises(ValueError, match="has no split 'test', and `data.test_size`, 0.1, holds out none of its 2"):
        load(DataConfig(folder, val_size=0, **way), "test")
    with pytest.raises(ValueError, match="must be train, val or test, got 'dev'"):
        load(DataConfig(folder, val_size=0, **way), "dev")


@pytest.mark.parametrize(
    "wrong",
    [
        {"val_size": -1},
        {"val_size": 1.5},
        {"test_size": float("nan")},
        {"random_crop": -1},
        {"size": 0},
        {"channels": 2},
        {"workers": 0},
        {"shuffle_buffer": 0},
    ],
)
def test_a_setting_out_of_range_is_named(wrong):
    with pytest.raises(ValueError, match=f"`data.{next(iter(wrong))}`.* must be"):
        DataConfig(**wrong)
