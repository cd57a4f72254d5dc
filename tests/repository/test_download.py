"""A repository is found here or on the Hub, whatever the network does."""

import os
import shutil
import time
from pathlib import Path

import loopback_hub
import pytest
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from huggingface_hub import HfApi
from loopback_hub import break_down

import genhub
from genhub.repository.download import download
from genhub.repository.format import RepositoryError
from genhub.utils import blobs, network

FILES = {"model_index.json": b"{}", "unet/config.json": b'{"a": 1}', "unet/net.safetensors": bytes(range(256)) * 20}
INFO, TREE, FILE = "/api/models/[^/]+/[^/]+/revision/.*", "/api/models/.*/tree/.*", "/[^/]+/[^/]+/resolve/.*"
SILENCE = 0.2  # seconds
BLOCKS = {"down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}


@pytest.fixture
def online(hub, tmp_path):
    with loopback_hub.online(hub[0], tmp_path, SILENCE):
        yield hub[0]


@pytest.fixture
def name(online, request) -> str:
    """A repository of its own on the Hub."""
    name = f"user/{abs(hash(request.node.name))}"
    api = HfApi()
    api.create_repo(name)
    for path, content in FILES.items():
        api.upload_file(repo_id=name, path_in_repo=path, path_or_fileobj=content)
    return name


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name_of_none", ["/no/such/folder", "./nothing", "a/b/c"])
def test_a_name_that_is_no_repository_is_refused(name_of_none):
    with pytest.raises(RepositoryError, match="neither an existing folder nor a repository"):
        genhub.AutoPipeline.from_pretrained(name_of_none)


def test_a_complete_new_version_whose_files_are_not_in_place_yet_is_the_repository(tiny_repo, tmp_path):
    folder = shutil.copytree(tiny_repo, tmp_path / "repo", ignore=shutil.ignore_patterns("training"))
    shutil.copytree(folder, folder / ".saved")
    (folder / ".saved/metrics.json").unlink()

    assert download(folder) == folder / ".saved"
    assert download(folder, required="metrics.json") == folder


@pytest.mark.parametrize("is_flat", [False, True], ids=["in folders", "at the top"])
def test_a_pipeline_of_others_generates_in_three_lines_wherever_its_parts_lie(online, tmp_path, is_flat):
    """Those of google/ddpm-cifar10-32 lie at the top of their repository."""
    arguments = {"block_out_channels": (8, 8), "norm_num_groups": 4, "attention_head_dim": 4}
    DDPMPipeline(UNet2DModel(8, **arguments, **BLOCKS), DDPMScheduler()).save_pretrained(tmp_path / "repo")
    if is_flat:
        for path in [*(tmp_path / "repo").glob("*/*")]:
            path.rename(tmp_path / "repo" / path.name)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    HfApi().create_repo("someone/ddpm", exist_ok=True)
    HfApi().upload_folder(repo_id="someone/ddpm", folder_path=tmp_path / "repo", delete_patterns="*")

    pipe = genhub.AutoPipeline.from_pretrained("someone/ddpm")
    images = pipe(batch_size=2, num_inference_steps=2, output_type="np").images

    assert type(pipe).__name__ == "DDPMPipeline"
    assert images.shape == (2, 8, 8, 3)


@pytest.mark.parametrize("path", [INFO, TREE, FILE])
@pytest.mark.parametrize(
    "fault", [{"status": 503, "times": 3}, {"status": 500, "times": 1}, {"hang": 2 * SILENCE, "times": 1}], ids=str
)
def test_what_fails_for_a_while_is_asked_again(online, name, path, fault):
    break_down(online, {"path": path, **fault})

    assert contents(download(name)) == FILES


def test_a_file_that_is_cut_is_asked_again(online, name, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    break_down(online, {"path": FILE, "methods": ["GET"], "cut": True, "times": 2})

    assert contents(download(name)) == FILES


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"hang": 60}, "did not answer in time"),
        ({"status": 503}, "answered 503 Service Unavailable"),
        ({"html": "<html>Please log in</html>"}, "with a web page in place of data"),
        ({"path": TREE, "old": "unet/config.json", "new": "../../../x.json"}, "lists the file '../../../x.json'"),
        ({"path": INFO, "old": '"sha": "', "new": '"sha": "../../'}, "lists the file '../../"),
        ({"path": FILE, "headers": {"ETag": '"../../../x"'}}, "sent '../../../x' as ETag"),
        ({"path": FILE, "headers": {"X-Repo-Commit": "/x"}}, "sent '/x' as X-Repo-Commit"),
        ({"path": INFO, "old": "{", "new": "?"}, "something that is no JSON"),
        ({"path": INFO, "endless": {"size": 2**20}}, "that does not end within 2,097,152 bytes"),
        ({"path": INFO, "endless": {"size": 1, "pause": SILENCE / 10}}, "less than 1,000 bytes a second"),
        ({"path": INFO, "endless": {"size": 1000, "pause": SILENCE / 10}}, "that does not end within 1 s"),
        ({"path": FILE, "methods": ["GET"], "endless": {"size": 2**20}}, "more than 4,194,304 bytes of a file"),
        ({"path": FILE, "methods": ["GET"], "endless": {"size": 1, "pause": SILENCE / 10}}, "less than 1,000 bytes"),
        ({"path": FILE, "headers": {"Content-Encoding": "gzip"}}, "packed, which was not asked for"),
    ],
    ids=str,
)
def test_a_hub_that_is_none_is_one_line_in_time_and_leaves_nothing_behind(online, name, fault, reason, tmp_path):
    break_down(online, fault)
    start = time.monotonic()

    with pytest.raises(RepositoryError, match=reason) as caught:
        download(name)

    assert time.monotonic() - start < 10 * SILENCE
    assert "\n" not in str(caught.value)
    break_down(online)
    assert contents(download(name)) == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"hub"}


def test_what_is_waited_for_is_said_once(online, name, caplog):
    break_down(online, {"hang": SILENCE / 2})

    download(name)

    (line,) = [record.getMessage() for record in caplog.records if record.name == network.__name__]
    assert line.startswith(f"Waiting for GET {online}/api/models/{name}")


@pytest.mark.parametrize("fault", [{"hang": 60}, {"status": 503}, {"html": "<html>"}], ids=str)
def test_the_copy_in_the_cache_is_used_with_a_warning_where_the_hub_is_silent(online, name, fault, caplog):
    folder = download(name)
    break_down(online, fault)

    assert download(name) == folder
    assert any(f"The copy of {name} in the cache is used" in record.getMessage() for record in caplog.records)


def test_the_limits_of_time_and_the_way_out_are_named(online, name):
    break_down(online, {"hang": 60})

    with pytest.raises(
        RepositoryError, match=r"could not be reached \(http://127.*`HF_HUB_OFFLINE=1` .*`HF_HUB_DOWNLOAD_TIMEOUT`"
    ):
        download(name)


@pytest.mark.parametrize("file", ["unet/net.safetensors", "unet/config.json"])
@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"?" + content[1:]])
def test_a_damaged_file_of_the_cache_is_downloaded_again(online, name, file, damage, caplog):
    folder = download(name)
    (folder / file).resolve().write_bytes(damage(FILES[file]))

    assert contents(download(name)) == FILES
    assert f"{file} of {name} is damaged in the cache" in caplog.text
    caplog.clear()
    download(name)
    assert caplog.text == ""


def test_a_file_that_never_fits_its_hash_is_refused_and_is_found_again_later(online, name):
    wrong = {"path": FILE, "methods": ["GET"], "old": '"a": 1', "new": '"b": 2'}
    break_down(online, wrong)

    for _ in range(2):
        with pytest.raises(RepositoryError, match=r"unet/config.json is damaged: .* also when it is downloaded again"):
            download(name)

    break_down(online)
    assert contents(download(name)) == FILES


def test_a_file_that_arrives_damaged_is_downloaded_again(online, name):
    break_down(online, {"path": FILE, "methods": ["GET"], "old": '"a": 1', "new": '"b": 2', "times": 1})

    assert contents(download(name)) == FILES


def test_a_damaged_file_is_refused_where_no_hub_is(online, name):
    folder = download(name)
    os.truncate((folder / "unet/config.json").resolve(), 3)
    break_down(online, {"status": 503})

    with pytest.raises(RepositoryError, match=r"config.json is damaged: .* could not be downloaded again"):
        download(name)


def test_sharing_asks_again_and_names_what_keeps_silent(online, tiny_repo):
    break_down(online, {"path": ".*", "methods": ["GET", "POST"], "status": 503, "times": 2})
    assert genhub.push(tiny_repo, "user/shared").endswith("user/shared")

    for fault, reason in (({"hang": 60}, "did not answer in time"), ({"status": 503}, "answered 503")):
        break_down(online, {"methods": ["GET", "POST", "PUT"], **fault})
        with pytest.raises(RepositoryError, match=f"Could not upload to user/other .*{reason}"):
            genhub.push(tiny_repo, "user/other")


def test_only_what_was_asked_for_is_compared_with_its_hash(online, name, caplog):
    folder = download(name)
    os.truncate((folder / "unet/net.safetensors").resolve(), 3)

    download(name, allow_patterns=["model_index.json", "*/config.json"])

    assert caplog.text == ""
    assert (folder / "unet/net.safetensors").stat().st_size == 3


def test_a_file_that_has_not_changed_is_compared_once(online, name):
    download(name)
    read = blobs._fits_its_name.cache_info().misses

    download(name)

    assert blobs._fits_its_name.cache_info().misses == read
