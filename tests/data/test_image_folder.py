"""A folder of images is read by one rule, in which the name of a file means nothing."""

import os

import numpy as np
import pyarrow as pa
import pytest
from pictures import encode, noise, write_folder
from pyarrow import parquet

from genhub.data import DataConfig, Images, load
from genhub.data.image_folder import natural_key

PIXELS = noise(12, 5, 4)
FILES = [encode(image) for image in PIXELS]
WHOLE = {"val_size": 0, "test_size": 0}


def read(folder, split: str = "train", **config) -> dict[bytes, str | None]:
    """Returns the class of each image by its pixels."""
    images = load(DataConfig(str(folder), **WHOLE | config), split)
    names = [None] * len(images) if images.labels is None else [images.class_names[i] for i in images.labels]
    return dict(zip(map(np.ndarray.tobytes, images.images[:, 0].numpy()), names, strict=True))


def expected(*names: str | None) -> dict[bytes, str | None]:
    return {pixels.tobytes(): name for pixels, name in zip(PIXELS, names, strict=False)}


LAYOUTS = {
    "files with the names of splits": (["train_01.png", "test.png", "val.png", "validation-2.PNG"], [None] * 4),
    "classes with the names of splits": (["train/a.png", "boat/a.png", "test/b.png"], ["train", "boat", "test"]),
    "classes within classes": (["cat/a.png", "cat/wild/lion/a.png", "dog/a.png"], ["cat", "cat", "dog"]),
    "numbers": (["10/a.png", "2/a.png", "1/a.png"], ["10", "2", "1"]),
    "a single folder": (["photos/a.png", "photos/b.png"], [None, None]),
    "a folder in a folder": (["photos/all/cat/a.png", "photos/all/dog/a.png"], ["cat", "dog"]),
    "a folder with brackets": (["shots [v2]/a.png", "shots [v1]/a?.png"], ["shots [v2]", "shots [v1]"]),
    "a training folder alone": (["train/cat/a.png", "train/dog/a.png"], ["cat", "dog"]),
    "other files": (
        ["cat/a.png", "dog/a.png", "README.md", "cat/notes.txt", ".hidden/a.png", "._a.png"],
        ["cat", "dog"],
    ),
}


@pytest.mark.parametrize("way", [{}, {"memory_limit_gb": 0}, {"streaming": True}], ids=["memory", "lazy", "stream"])
@pytest.mark.parametrize(("paths", "names"), LAYOUTS.values(), ids=LAYOUTS)
def test_folders_are_classes_and_names_of_files_mean_nothing(tmp_path, paths, names, way):
    write_folder(tmp_path / "my [photos] *", dict(zip(paths, FILES, strict=False)))
    folder = tmp_path / "my [photos] *"

    data = load(DataConfig(str(folder), **WHOLE, **way))
    images = data if isinstance(data, Images) else data.load()
    found = [None] * len(images) if images.labels is None else [images.class_names[label] for label in images.labels]
    assert dict(zip(map(np.ndarray.tobytes, images.images[:, 0].numpy()), found, strict=True)) == expected(*names)
    assert list(data.shape.class_names or ()) == sorted({*names} - {None}, key=natural_key)


def test_folders_of_splits_are_splits_if_all_are(tmp_path):
    names = ["Training/cat/a.png", "Training/dog/b.png", "valid/dog/c.png", "test/cat/d.png"]
    write_folder(tmp_path, dict(zip(names, FILES, strict=False)))

    parts = [read(tmp_path, split, val_size=None) for split in ("train", "val", "test")]

    whole = [*expected("cat", "dog", "dog", "cat").items()]
    assert parts == [dict(whole[:2]), dict(whole[2:3]), dict(whole[3:])]


def test_splits_need_no_classes(tmp_path):
    write_folder(tmp_path, {"train/a.png": FILES[0], "train/b.png": FILES[1], "test/c.png": FILES[2]})

    assert read(tmp_path) == expected(None, None)
    assert len(read(tmp_path, "test")) == 1


def test_a_single_folder_in_all_splits_stands_for_its_content(tmp_path):
    names = ["train/images/cat/a.png", "train/images/dog/b.png", "test/images/cat/c.png"]
    flat = [name.replace("images/", "") for name in names]
    for folder, paths in (("deep", names), ("flat", flat)):
        write_folder(tmp_path / folder, dict(zip(paths, FILES, strict=False)))

    for folder in ("deep", "flat"):
        assert read(tmp_path / folder) == expected("cat", "dog")
        assert set(read(tmp_path / folder, "test").values()) == {"cat"}


def test_names_are_in_one_order_whatever_comes_first():
    names = ["b", "10", "1b", "02", "2", "1", "a"]

    assert sorted(names, key=natural_key) == ["1", "1b", "02", "2", "10", "a", "b"]
    assert len({tuple(natural_key(name)) for name in [*names, "002"]}) == len(names) + 1


def test_links_are_followed(tmp_path):
    write_folder(tmp_path / "elsewhere", {"dog/a.png": FILES[1], "one.png": FILES[0]})
    (tmp_path / "linked" / "cat").mkdir(parents=True)
    (tmp_path / "linked" / "cat" / "a.png").symlink_to(tmp_path / "elsewhere" / "one.png")
    (tmp_path / "linked" / "dog").symlink_to(tmp_path / "elsewhere" / "dog", target_is_directory=True)

    assert read(tmp_path / "linked") == expected("cat", "dog")


def loop(folder):
    (folder / "a" / "again").symlink_to(folder, target_is_directory=True)


@pytest.mark.parametrize(
    ("paths", "change", "message"),
    [
        (["a/a.png", "b/b.png"], loop, "again must not lead back to the folder"),
        (["a/a.png"], lambda folder: (folder / "b.png").symlink_to("nowhere"), "b.png must be a file or a folder"),
        (["a/a.png"], lambda folder: os.mkfifo(folder / "b.png"), "b.png must be a file or a folder"),
        (["a/a.png", "b.png", "b/c.png"], None, "all in folders, a class each, or all in none: b.png beside a, b"),
        (["train/a/a.png", "train/b/a.png", "test/a.png"], None, "must all have folders of classes, or none"),
        (["data_batch_1", "batches.meta"], None, "holds CIFAR in pickles.*uoft-cs/cifar10"),
    ],
)
def test_a_folder_against_the_rule_is_refused(tmp_path, paths, change, message):
    write_folder(tmp_path, dict(zip(paths, FILES, strict=False)))
    if change is not None:
        change(tmp_path)

    with pytest.raises(ValueError, match=message):
        load(DataConfig(str(tmp_path), **WHOLE))


def test_unreadable_photographs_can_be_left_out(tmp_path):
    write_folder(tmp_path, {"b.png": FILES[0], "a.heic": b"?", "c.png": FILES[1][:40]})

    with pytest.raises(ValueError, match=r"a.heic.* is not a readable .*c.png.* is not a readable"):
        load(DataConfig(str(tmp_path), **WHOLE))
    images = load(DataConfig(str(tmp_path), **WHOLE, on_bad_image="skip"))

    assert np.array_equal(images.images[:, 0], PIXELS[:1])
    assert images.notes == (f"2 of 3 images of {tmp_path} are left out: they cannot be read.",)


TABLES = {
    "metadata.csv": "file_name,label,text\na.png,10,a cat\nb.png,2,\nc.png,10,a dog\n",
    "metadata.jsonl": '{"file_name": "b.png", "label": 2}\n{"file_name": "a.png", "label": 10, "text": "a cat"}\n'
    '{"file_name": "c.png", "label": 10, "text": "a dog"}\n',
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("place", ["", "train/", "photos/"])
def test_metadata_give_labels_and_captions(tmp_path, name, place):
    files = {f"{place}{letter}.png": file for letter, file in zip("abc", FILES, strict=False)}
    write_folder(tmp_path, files | {f"{place}{name}": TABLES[name].encode()})

    images = load(DataConfig(str(tmp_path), **WHOLE, captions="text"))

    assert images.labels.tolist() == [10, 2, 10]
    assert images.captions.tolist() == ["a cat", "", "a dog"]


def test_metadata_above_the_splits_are_of_all(tmp_path):
    rows = b"file_name,label\ntrain/a.png,cat\ntrain/b.png,dog\ntest/c.png,dog\n"
    names = ("train/a.png", "train/b.png", "test/c.png")
    write_folder(tmp_path, dict(zip(names, FILES, strict=False)) | {"metadata.csv": rows})

    assert read(tmp_path) == expected("cat", "dog")
    assert set(read(tmp_path, "test").values()) == {"dog"}


def test_folders_and_metadata_are_two_candidates_for_the_label(tmp_path):
    rows = b"file_name,label\ncat/a.png,old\ndog/b.png,new\n"
    write_folder(tmp_path, {"cat/a.png": FILES[0], "dog/b.png": FILES[1], "metadata.csv": rows})

    with pytest.raises(ValueError, match="`data.label_column` must say which column to take: label or folder"):
        read(tmp_path)
    assert read(tmp_path, label_column="folder") == expected("cat", "dog")
    assert read(tmp_path, label_column="label") == expected("old", "new")
    assert read(tmp_path, label_column="none") == expected(None, None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("file_name,label\na.png,1\n", "metadata.csv must have a row for each image, got none for b.png"),
        ("file_name,label\na.png,1\nb.png,1\nd.png,1\n", "metadata.csv must name files of its folder, got d.png"),
        ("file_name,label\na.png,1\nb.png,1\nb.png,2\n", "must have one row for each image, got several for b.png"),
        ("file,label\na.png,1\nb.png,1\n", "metadata.csv must have a column file_name"),
        ("file_name,image\na.png,1\nb.png,1\n", "metadata.csv must have a column file_name, and none called image"),
        ("", "metadata.csv is not readable"),
    ],
)
def test_metadata_fit_their_images(tmp_path, rows, message):
    write_folder(tmp_path, {"a.png": FILES[0], "b.png": FILES[1], "metadata.csv": rows.encode()})

    with pytest.raises(ValueError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("source", ["photos", "./photos", "../here/photos", "link"])
def test_a_folder_may_be_named_from_the_working_folder(source, tmp_path, monkeypatch):
    write_folder(tmp_path / "here" / "photos", dict(zip(["a.png", "b.png"], FILES, strict=False)))
    (tmp_path / "here" / "link").symlink_to("photos")
    monkeypatch.chdir(tmp_path / "here")

    for way in ({}, {"memory_limit_gb": 0}):
        data = load(DataConfig(source, **WHOLE, **way))
        assert len(data if isinstance(data, Images) else data.load()) == 2


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.parquet"])
def test_metadata_of_more_than_the_images_are_not_read(name, tmp_path):
    write_folder(tmp_path, {"a.png": FILES[0], name: b""})
    if name == "metadata.csv":
        os.truncate(tmp_path / name, 5 << 30)  # takes no room
    else:
        names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000_000, np.int32)), pa.array(["a.png"]))
        parquet.write_table(pa.table({"file_name": names}), tmp_path / name)  # some kilobytes

    with pytest.raises(
        ValueError, match=r"metadata\.\w+ is not readable .it has [\d,]+ rows and [\d,]+ bytes for 1 images"
    ):
        load(DataConfig(str(tmp_path), **WHOLE))


def test_metadata_have_no_more_columns_than_a_person_would_make(tmp_path):
    head = ",".join(["file_name", *map(str, range(1000))])
    write_folder(tmp_path, {"a.png": FILES[0], "metadata.csv": f"{head}\na.png{',' * 1000}\n".encode()})

    with pytest.raises(ValueError, match=r"must have at most 1,000 columns, got 1,001"):
        load(DataConfig(str(tmp_path), **WHOLE))


def test_links_make_no_tree_without_end_and_names_are_texts(tmp_path):
    write_folder(tmp_path / "links", {"a.png": FILES[0]})
    for level in range(40):
        (tmp_path / "links" / f"{level}").mkdir()
        for name in ("left", "right"):
            (tmp_path / "links" / f"{level}" / name).symlink_to(f"../{level + 1}")
    (tmp_path / "links" / "40").mkdir()
    write_folder(tmp_path / "deep" / "/".join(["d"] * 100), {"a.png": FILES[0]})
    write_folder(tmp_path / "bytes", {"a.png": FILES[0]})
    os.rename(tmp_path / "bytes" / "a.png", os.fsencode(tmp_path / "bytes") + b"/\xff.png")

    for name, rule in (("links", "at most 100 links"), ("deep", "at most 64 folders deep"), ("bytes", "in UTF-8")):
        with pytest.raises(ValueError, match=rule):
            load(DataConfig(str(tmp_path / name)))
