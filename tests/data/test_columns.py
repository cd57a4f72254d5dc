"""Which column is meant is clear, or asked."""

import json
import os

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from pictures import encode, noise, write_folder
from pyarrow import parquet

from genhub.data import DataConfig, load

CELLS = [{"bytes": encode(image), "path": None} for image in noise(6, 5, 4)]
NUMBERS = [1, 0, 1, 0, 2, 2]
WHOLE = {"val_size": 0, "test_size": 0}


def write(folder, **columns) -> str:
    """Writes a table: column -> (values, feature)."""
    features = Features({name: feature for name, (_, feature) in columns.items()})
    table = Dataset.from_dict({name: values for name, (values, _) in columns.items()}, features=features)
    table.to_parquet(folder / "train.parquet")
    return str(folder)


IMAGE = (CELLS, Image())
CLASSES = (NUMBERS, ClassLabel(names=["a", "b", "c"]))


@pytest.mark.parametrize("name", ["label", "labels", "class", "target"])
@pytest.mark.parametrize("kind", ["int8", "uint16", "int64"])
def test_a_column_called_like_labels_is_one(tmp_path, name, kind):
    folder = write(tmp_path, image=IMAGE, **{name: (NUMBERS, Value(kind))}, other=(NUMBERS, Value("int64")))

    assert load(DataConfig(folder, **WHOLE)).labels.tolist() == NUMBERS


def test_the_column_that_is_named_is_taken(tmp_path):
    reverse = NUMBERS[::-1]
    folder = write(
        tmp_path,
        mask=([CELLS[0]] * 6, Image()),
        image=IMAGE,
        fine_label=CLASSES,
        coarse_label=(reverse, CLASSES[1]),
        weather=(list("xyxyzz"), Value("string")),
    )

    def read(label):
        config = DataConfig(folder, **WHOLE, image_column="image", label_column=label)
        images = load(config)
        assert np.array_equal(images.images[:, 0], noise(6, 5, 4))
        return None if images.labels is None else images.labels.tolist()

    assert read("fine_label") == NUMBERS
    assert read("coarse_label") == reverse
    assert read("weather") == [0, 1, 0, 1, 2, 2]
    assert read("none") is None


@pytest.mark.parametrize(
    ("columns", "config", "message"),
    [
        ({"mask": IMAGE}, {}, "`data.image_column` must say which column to take: image or mask"),
        ({"a": CLASSES, "b": CLASSES}, {}, "`data.label_column` must say which column to take: a or b"),
        ({"a": CLASSES, "label": (NUMBERS, Value("int8"))}, {}, "must say which column to take: a or label"),
        ({"a": CLASSES}, {"label_column": "aa"}, r"`data.label_column` must be a, got 'aa' \(did you mean 'a'\?\)"),
        (
            {"a": ([0.5] * 6, Value("float32"))},
            {"label_column": "a"},
            "must be left out: no column can be that, got 'a'",
        ),
        ({"a": CLASSES}, {"image_column": "a"}, "`data.image_column` must be image, got 'a'"),
        ({"a": (list("abcabc"), Value("string"))}, {"label_column": "a", "streaming": True}, "labels in a are words"),
    ],
)
def test_columns_that_are_not_clear_are_asked_for(tmp_path, columns, config, message):
    folder = write(tmp_path, image=IMAGE, **columns)

    with pytest.raises(ValueError, match=message):
        load(DataConfig(folder, **WHOLE, **config))


@pytest.mark.parametrize("source", ["points", "archive.npz"])
def test_data_without_columns_name_none(tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("archive.npz", images=noise(6, 5, 4))

    with pytest.raises(ValueError, match="`data.label_column` must be left out: .* has no columns, got 'label'"):
        load(DataConfig(source, **WHOLE, label_column="label"))


@pytest.mark.parametrize("way", [{}, {"memory_limit_gb": 0}])
def test_words_number_the_classes_alike_in_all_splits(tmp_path, way):
    words = {"train": list("bacbac"), "test": list("cccccb")}
    features = Features({"image": Image(), "label": Value("string")})
    saved = DatasetDict({k: Dataset.from_dict({"image": CELLS, "label": v}, features) for k, v in words.items()})
    saved.save_to_disk(tmp_path)

    train, test = (load(DataConfig(str(tmp_path), **WHOLE, **way), split) for split in words)

    assert train.class_names == test.class_names == ("a", "b", "c")
    if not way:
        assert train.labels.tolist() == [1, 0, 2, 1, 0, 2]
        assert test.labels.tolist() == [2] * 5 + [1]


def test_what_save_to_disk_wrote_is_read(tmp_path):
    Dataset.from_dict(
        {"image": CELLS, "label": NUMBERS}, Features({"image": Image(), "label": CLASSES[1]})
    ).save_to_disk(tmp_path)

    images = load(DataConfig(str(tmp_path), **WHOLE))

    assert np.array_equal(images.images[:, 0], noise(6, 5, 4))
    assert images.labels.tolist() == NUMBERS


@pytest.mark.parametrize("names", [("x_{}", "y_{}"), ("{}_images", "{}_labels")])
def test_an_archive_may_hold_splits(tmp_path, names):
    pixels, arrays = noise(6, 5, 4), {}
    for split in ("train", "test"):
        arrays |= {names[0].format(split): pixels, names[1].format(split): np.array(NUMBERS)[:, None]}
    np.savez(tmp_path / "a.npz", **arrays)

    for split in ("train", "test"):
        images = load(DataConfig(str(tmp_path / "a.npz"), **WHOLE), split)
        assert np.array_equal(images.images[:, 0], pixels)
        assert images.labels.tolist() == NUMBERS


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 4, 3)])
def test_an_archive_comes_in_another_shape_on_request(tmp_path, shape):
    np.savez(tmp_path / "a.npz", noise(*shape))

    for channels in (1, 3):
        images = load(DataConfig(str(tmp_path / "a.npz"), **WHOLE, size=8, channels=channels))
        assert images.images.shape == (6, channels, 8, 8)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.zip", "unpack it"),
        ("a.pkl", "numpy.savez"),
        ("a.mat", "numpy.savez"),
        ("a.parquet", "the folder"),
        ("a", "a"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_way_out(tmp_path, name, remedy):
    (tmp_path / name).write_bytes(b"?")

    with pytest.raises(ValueError, match=f"must be a folder or an .npz archive, got .*{remedy}"):
        load(DataConfig(str(tmp_path / name)))


def test_columns_that_could_hold_classes_are_named_where_none_is_taken(tmp_path):
    folder = write(tmp_path, image=IMAGE, kind=(list("abcabc"), Value("string")), weight=([0.5] * 6, Value("float32")))

    said = load(DataConfig(folder, **WHOLE)).notes
    assert said == ("No column is taken for classes; `data.label_column` can name one of kind.",)
    for column in ("kind", "none"):
        assert load(DataConfig(folder, **WHOLE, label_column=column)).notes == ()


def test_words_of_one_split_only_name_the_classes(tmp_path):
    files = {"train/a.png": CELLS[0]["bytes"], "train/b.png": CELLS[1]["bytes"], "test/c.png": CELLS[2]["bytes"]}
    write_folder(tmp_path, files | {"train/metadata.csv": b"file_name,label\na.png,x\nb.png,y\n"})

    assert load(DataConfig(str(tmp_path), **WHOLE)).class_names == ("x", "y")
    assert load(DataConfig(str(tmp_path), **WHOLE), "test").labels is None


def test_arrays_of_other_names_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=noise(6, 5, 4), y=np.array(NUMBERS))
    np.savez(tmp_path / "b.npz", x_test=noise(6, 5, 4))

    with pytest.raises(ValueError, match="must hold one array of images, .* got pictures, y"):
        load(DataConfig(str(tmp_path / "a.npz"), **WHOLE))
    with pytest.raises(ValueError, match="has no split 'train', only test"):
        load(DataConfig(str(tmp_path / "b.npz"), **WHOLE))


NAMED = ClassLabel(names=["a", "b", "c"])
WRONG = {
    "negative": (-7, Value("int64"), "0 to 65535, got -7 in row 4"),
    "none": (-1, NAMED, "0 to 2, got -1 in row 4; `data.label_column: none`"),
    "huge": (2**62, Value("int64"), f"0 to 65535, got {2**62} in row 4"),
    "unsigned": (2**64 - 1, Value("uint64"), "0 to 65535, got .* in row 4"),
    "without a name": (3, NAMED, "0 to 2, got 3 in row 4"),
}


@pytest.mark.parametrize(("value", "feature", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("way", [{}, {"memory_limit_gb": 0}, {"streaming": True}], ids=["memory", "lazy", "stream"])
def test_a_label_that_is_no_class_is_refused_by_its_row(tmp_path, value, feature, message, way):
    schema = Features({"image": Image(), "label": feature}).arrow_schema
    rows = {"image": CELLS, "label": [0, 1, 2, 0, value, 1]}
    arrays = [pa.array(rows[field.name], field.type) for field in schema]
    parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), tmp_path / "train.parquet")

    message = message.replace(" in row 4", "") if "streaming" in way else message
    with pytest.raises(ValueError, match=f"column label of .* must hold labels of {message}"):
        load(DataConfig(str(tmp_path), **WHOLE, **way)).load()


def test_the_labels_of_an_archive_are_classes(tmp_path):
    for value, message in ((-1, "got -1 in row 2"), (2**40, f"got {2**40} in row 2")):
        np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.array([0, 1, value]))
        with pytest.raises(ValueError, match=message):
            load(DataConfig(str(tmp_path / "a.npz"), **WHOLE))


def test_an_archive_that_is_a_bomb_or_holds_objects_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.zeros((2**12, 64, 64), np.uint8))
    with pytest.raises(ValueError, match=r"GB by its header, more than `data.memory_limit_gb`, 0.01"):
        load(DataConfig(str(path), memory_limit_gb=0.01, **WHOLE))

    np.savez(path, images=np.array([None, "x"], dtype=object))
    with pytest.raises(ValueError, match=r"not a readable archive of arrays \(images.npy holds objects"):
        load(DataConfig(str(path), **WHOLE))

    np.savez(path, images=np.zeros((3, 4, 4), np.uint8))
    for old, new in ((b"(3, 4, 4)", b"(9, 4, 4)"), (b"(3, 4, 4)", b"(2, 4, 4)"), (b"|u1", b"|x1"), (b"PK", b"KP")):
        (tmp_path / "b.npz").write_bytes(path.read_bytes().replace(old, new))
        with pytest.raises(ValueError, match="is not a readable archive of arrays"):
            load(DataConfig(str(tmp_path / "b.npz"), **WHOLE))


@pytest.mark.parametrize("name", ["a.zip", "photos/a.csv.gz", "a.JSONL.ZST"])
def test_a_folder_with_an_archive_is_refused_before_it_is_unpacked(tmp_path, name):
    write_folder(tmp_path, {name: b"?", "a.csv": b"image\na.png\n"})

    with pytest.raises(ValueError, match="must be a folder without archives, got the archive .*; unpack it"):
        load(DataConfig(str(tmp_path)))


def test_texts_without_end_are_no_data_set(tmp_path):
    (tmp_path / "a.jsonl").touch()
    os.truncate(tmp_path / "a.jsonl", 5 << 30)  # takes no room

    with pytest.raises(ValueError, match=r"have 5.0 GB, more than `data.memory_limit_gb`, 4.0"):
        load(DataConfig(str(tmp_path)))


@pytest.mark.parametrize("name", [None, False, ["1"]])
def test_names_of_classes_are_texts(name, tmp_path):
    images = [{"bytes": encode(image), "path": None} for image in noise(2, 4, 4)]
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    Dataset.from_dict({"image": images, "label": [0, 1]}, features=features).save_to_disk(tmp_path / "saved")
    file = tmp_path / "saved/dataset_info.json"
    info = json.loads(file.read_text())
    info["features"]["label"]["names"][1] = name
    file.write_text(json.dumps(info))

    with pytest.raises(ValueError, match=r"The names of the classes in the column label must be texts, got"):
        load(DataConfig(str(tmp_path / "saved"), val_size=0, test_size=0))
