"""A data set of the Hub is loaded whatever the network does, or ends in one line; damage in the cache is repaired."""

import logging
import os
from pathlib import Path

import loopback_hub
import numpy as np
import pytest
from huggingface_hub import HfApi
from loopback_hub import break_down
from pictures import encode, noise, write_parquet

from genhub.data import DataConfig, load

PIXELS = noise(6, 5, 4)
SILENCE = 0.5  # seconds


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with loopback_hub.serve(tmp_path_factory.mktemp("home")) as (url, _):
        yield url


@pytest.fixture
def online(hub, tmp_path):
    with loopback_hub.online(hub, tmp_path, SILENCE):
        yield hub


@pytest.fixture
def name(online, request, tmp_path) -> str:
    name = f"user/{abs(hash(request.node.name))}"
    folder = write_parquet(tmp_path / "set", [encode(image) for image in PIXELS])
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    HfApi().create_repo(name, repo_type="dataset")
    HfApi().upload_folder(repo_id=name, repo_type="dataset", folder_path=folder)
    return name


def read(name: str, **way) -> np.ndarray:
    return load(DataConfig(name, val_size=0, test_size=0, **way)).images[:, 0].numpy()


@pytest.mark.parametrize("fault", [{"status": 503, "times": 2}, {"hang": 2 * SILENCE, "times": 1}], ids=str)
def test_what_fails_for_a_while_is_asked_again(online, name, fault, caplog):
    break_down(online, {"path": f".*{name}.*", **fault})

    assert np.array_equal(read(name), PIXELS)
    assert "cache is used" not in caplog.text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"hang": 60}, "did not answer in time"),
        ({"status": 503}, "answered 503"),
        ({"path": "/api/.*", "html": "<html>"}, "with a web page in place of data"),
        ({"path": ".*", "methods": ["GET"], "endless": {"size": 1, "pause": SILENCE / 10}}, "less than 1,000 bytes"),
        ({"path": ".*/tree/.*", "old": '"path": "train', "new": '"path": "../train'}, "lists the file"),
    ],
    ids=str,
)
def test_a_hub_that_is_none_is_one_line_that_names_the_way_out(online, name, fault, reason):
    break_down(online, fault)

    with pytest.raises(ValueError, match=reason) as caught:
        read(name)

    assert "\n" not in str(caught.value)
    assert "use `sample`" in str(caught.value)


def test_the_copy_in_the_cache_is_used_with_a_warning_where_the_hub_is_silent(online, name, caplog):
    read(name)
    break_down(online, {"hang": 60})

    assert np.array_equal(read(name), PIXELS)
    assert f"The copy of {name} in the cache is used" in caplog.text


def test_a_damaged_file_of_the_cache_is_downloaded_again(online, name, tmp_path, caplog):
    read(name)
    (file,) = (tmp_path / "hub").glob("datasets--*/snapshots/*/*.parquet")
    content = file.read_bytes()
    file.resolve().write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    os.rename(tmp_path / "datasets", tmp_path / "old")

    with caplog.at_level(logging.WARNING):
        assert np.array_equal(read(name), PIXELS)

    assert f"A file of {name} is damaged in the cache" in caplog.text
    assert file.read_bytes() == content


def test_a_card_of_the_hub_names_files_of_its_repository(online, name):
    card = "---\nconfigs:\n- config_name: default\n  data_files: /etc/*.parquet\n---\n"
    HfApi().upload_file(repo_id=name, repo_type="dataset", path_in_repo="README.md", path_or_fileobj=card.encode())

    with pytest.raises(ValueError, match="must name files of its data set, got '/etc/"):
        read(name)


def test_a_cell_of_the_hub_names_no_file_of_this_machine(online, name, tmp_path):
    import pyarrow as pa
    from datasets import Features
    from datasets import Image as ImageFeature
    from pyarrow import parquet

    secret = Path(tmp_path, "secret.png")
    secret.write_bytes(encode(PIXELS[0]))
    schema = Features({"image": ImageFeature()}).arrow_schema
    for path in (str(secret), f"hf://datasets/{name}-other/a.png", f"hf://datasets/{name}@main/../../a.png"):
        cells = [{"bytes": None, "path": path}]
        parquet.write_table(pa.table({"image": pa.array(cells, schema.field("image").type)}, schema), tmp_path / "a")
        HfApi().upload_file(
            repo_id=name,
            repo_type="dataset",
            path_in_repo="train-00000-of-00001.parquet",
            path_or_fileobj=(tmp_path / "a").read_bytes(),
        )
        with pytest.raises(ValueError, match="names the image"):
            read(name)
        os.rename(tmp_path / "datasets", tmp_path / f"old{len(path)}")
