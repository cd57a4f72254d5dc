"""A data set names regular files of its own folder; nothing else is read, waited for or fetched."""

import http.server
import json
import os
import threading

import pyarrow as pa
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from pictures import encode, noise, write_folder, write_parquet
from pyarrow import parquet

from genhub.data import DataConfig, load
from genhub.data.image_files import load_image_files

PIXELS = noise(6, 5, 4)
FILES = [encode(image) for image in PIXELS]
WHOLE = {"val_size": 0, "test_size": 0}
WAYS = {"memory": {}, "lazy": {"memory_limit_gb": 0}, "stream": {"streaming": True}}
way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def write_cells(folder, *paths: str | None):
    """Writes a data set whose images are these paths, and one that is there."""
    cells = [{"bytes": FILES[0], "path": "whole.png"}, *({"bytes": None, "path": path} for path in paths)]
    schema = Features({"image": ImageFeature()}).arrow_schema
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"image": pa.array(cells, schema.field("image").type)}, schema), folder / "a.parquet")
    return folder


def read(folder, way):
    data = load(DataConfig(str(folder), **WHOLE, **way))
    return data.load() if hasattr(data, "load") else data


@pytest.fixture
def server(tmp_path):
    """A server that knows an image, and remembers what it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(FILES[1])

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@way
def test_what_lies_in_the_folder_or_is_linked_from_it_is_read(tmp_path, way):
    write_folder(tmp_path / "elsewhere", {"linked.png": FILES[3]})
    folder = write_folder(tmp_path / "set", {"parts/one": FILES[1], "two": FILES[2]})
    (folder / "link").symlink_to(tmp_path / "elsewhere" / "linked.png")

    images = read(write_cells(folder, "parts/one", str(folder / "two"), "link"), way)

    assert sorted(image.tobytes() for image in images.images[:, 0].numpy()) == sorted(x.tobytes() for x in PIXELS[:4])


OUTSIDE = ("../secret.png", "parts/../../secret.png", "{outside}/secret.png", "/dev/zero", "\0")


@way
@pytest.mark.parametrize("path", [*OUTSIDE, "{url}/a.png", "zip://a.png::{url}/a.zip", "file://{outside}/secret.png"])
def test_what_lies_elsewhere_is_refused_by_its_name_and_not_asked_for(tmp_path, path, way, server):
    write_folder(tmp_path, {"secret.png": FILES[1], "set/parts/other.txt": b""})
    url, asked = server
    path = path.format(outside=tmp_path, url=url)

    with pytest.raises(ValueError, match="names the image .*, which does not lie in it") as caught:
        read(write_cells(tmp_path / "set", path), way)

    assert repr(path) in str(caught.value)
    assert asked == []


@way
def test_a_pipe_and_a_missing_file_are_refused_and_not_waited_for(tmp_path, way):
    write_cells(tmp_path, ".pipe")
    os.mkfifo(tmp_path / ".pipe")
    with pytest.raises(ValueError, match=r"image '.pipe' of .*no regular file"):
        read(tmp_path, way)

    write_cells(tmp_path, "missing.png")
    with pytest.raises(ValueError, match=r"image 'missing.png' of .*No such file"):
        read(tmp_path, way)


@pytest.mark.parametrize("name", ["a.png", "metadata.csv"])
def test_a_pipe_in_a_folder_of_images_is_refused(tmp_path, name):
    write_folder(tmp_path, {"b.png": FILES[0]})
    os.mkfifo(tmp_path / name)

    with pytest.raises(ValueError, match=f"{name} must be a file or a folder"):
        read(tmp_path, {})


def test_a_pipe_in_place_of_an_archive_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.npz")

    with pytest.raises(ValueError, match=r"a.npz is no file"):
        load_image_files(tmp_path / "a.npz")


def test_metadata_name_files_of_their_folder(tmp_path):
    write_folder(tmp_path, {"secret.png": FILES[1], "set/a.png": FILES[0]})
    for name in ("../secret.png", str(tmp_path / "secret.png")):
        (tmp_path / "set/metadata.csv").write_text(f"file_name,label\na.png,1\n{name},2\n")

        with pytest.raises(ValueError, match=r"metadata.csv must name files of its folder, got .*secret.png"):
            read(tmp_path / "set", {})


CARDS = {
    "above": "data_files: ../other/*.parquet",
    "absolute": "data_files: [{{split: train, path: [{outside}/other/*.parquet]}}]",
    "an address": "data_files: {{train: '{url}/a.parquet'}}",
    "a folder above": "data_dir: ../other",
    "a chain": "data_files: 'zip://*.parquet::{url}/a.zip'",
}


@pytest.mark.parametrize("entry", CARDS.values(), ids=CARDS)
@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
def test_a_card_names_files_of_its_folder(tmp_path, entry, card, server):
    write_parquet(tmp_path / "other", FILES)
    write_parquet(tmp_path / "set", FILES)
    url, asked = server
    lines = f"configs:\n- config_name: default\n  {entry.format(outside=tmp_path, url=url)}\n"
    (tmp_path / "set" / card).write_text(f"---\n{lines}---\n# Card\n" if card == "README.md" else lines)

    with pytest.raises(ValueError, match=f"{card} must name files of its data set"):
        read(tmp_path / "set", {})

    assert asked == []


FORMS = {
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "an empty line": "\n{}".format,
    "a space": " {}".format,
    "a mark of the byte order": "\ufeff{}".format,
    "all of them": lambda text: "\ufeff \n" + text.replace("\n", "\r\n"),
    "returns": lambda text: text.removesuffix("\n# Card\n").replace("\n", "\r"),
    "spaces at its end": lambda text: text.replace("\n---\n#", "\n---  \n#"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_card_is_found_however_its_block_begins(tmp_path, form):
    write_parquet(tmp_path / "other", FILES)
    write_parquet(tmp_path / "set", FILES)
    text = f"---\nconfigs:\n- config_name: default\n  data_files: {tmp_path}/other/*.parquet\n---\n# Card\n"
    (tmp_path / "set/README.md").write_bytes(form(text).encode())

    with pytest.raises(ValueError, match=r"README.md must name files of its data set, got '.*/other"):
        read(tmp_path / "set", {})


def test_a_card_that_multiplies_is_refused_and_one_that_does_not_is_followed(tmp_path):
    write_parquet(tmp_path, FILES)
    card = tmp_path / "README.md"
    card.write_text("---\nconfigs:\n- config_name: default\n  data_files: train-*.parquet\n---\n")
    assert len(read(tmp_path, {})) == len(FILES)

    for text in ("a: &a [x]\nb: [*a, *a]\n", "a: " + "[" * 100 + "]" * 100, "a: [", "a: 2024-13-01"):
        card.write_text(f"---\n{text}\n---\n")
        with pytest.raises(ValueError, match=r"README.md cannot be read: it (must hold no alias|is)"):
            read(tmp_path, {})


@pytest.mark.parametrize("wrong", ["../other/data-00000-of-00001.arrow", "..", "", 3, None])
def test_the_lists_of_a_saved_data_set_name_what_lies_beside_them(tmp_path, wrong):
    whole = Dataset.from_dict({"image": FILES}).cast_column("image", ImageFeature())
    whole.save_to_disk(tmp_path / "set/train")
    whole.save_to_disk(tmp_path / "other")
    lists = tmp_path / "set/dataset_dict.json"
    lists.write_text(json.dumps({"splits": ["train"]}))
    assert len(read(tmp_path / "set", {})) == len(FILES)

    state = tmp_path / "set/train/state.json"
    before = json.loads(state.read_text())
    state.write_text(json.dumps(before | {"_data_files": [{"filename": wrong}]}))
    with pytest.raises(ValueError, match=r"state.json must name what lies beside it"):
        read(tmp_path / "set", {})
    state.write_text(json.dumps(before))
    lists.write_text(json.dumps({"splits": [wrong]}))
    with pytest.raises(ValueError, match=r"dataset_dict.json must name what lies beside it"):
        read(tmp_path / "set", {})


def test_a_table_that_grows_beyond_all_images_is_refused(tmp_path):
    schema = Features({"image": ImageFeature()}).arrow_schema
    cells = pa.array([{"bytes": FILES[0] + bytes(2**24), "path": None}], schema.field("image").type)
    parquet.write_table(pa.table({"image": cells}, schema), tmp_path / "a.parquet", compression="zstd")

    with pytest.raises(ValueError, match=r"a.parquet holds 0.0 GB in 0.0 MB, more than `data.memory_limit_gb`, 0.01"):
        read(tmp_path, {"memory_limit_gb": 0.01})
    assert len(read(tmp_path, {"memory_limit_gb": 1})) == 1
