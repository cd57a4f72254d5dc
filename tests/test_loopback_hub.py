"""The Hub of the tests does for the real clients what ours rely on; its refusals reach them as their own errors."""

import json
import subprocess
import sys
import textwrap

import pytest
from loopback_hub import serve

WEIGHTS = bytes(range(256)) * 20


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with serve() as (_, env):
        yield env


@pytest.fixture
def client(hub, tmp_path):
    """Runs client code in a fresh interpreter with an empty cache; returns the JSON that it prints last."""

    def run(code):
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
        env = {**hub, "HF_HOME": str(tmp_path / "home")}
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def files_of(folder):
    paths = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.relative_to(folder).parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_a_snapshot_is_the_folder_that_was_uploaded(client, tmp_path):
    files = {
        "README.md": b"---\nlicense: mit\n---\n# A card\n",
        "config.json": b"{}",
        "empty.txt": b"",
        "unet/model.safetensors": WEIGHTS,
        "folder/a name with spaces & ümlaut.txt": b"text",
    }
    write_files(tmp_path / "repo", files)

    report = client("""
        import json
        from huggingface_hub import HfApi, snapshot_download
        api = HfApi()
        url = api.create_repo("user/snapshot")
        commit = api.upload_folder(repo_id=url.repo_id, folder_path="repo")
        info = api.model_info("user/snapshot", files_metadata=True)
        snapshot_download(url.repo_id, local_dir="copy")
        print(json.dumps({
            "url": url, "oid": commit.oid, "sha": info.sha,
            "listed": api.list_repo_files(url.repo_id),
            "folders": [entry.path for entry in api.list_repo_tree(url.repo_id) if hasattr(entry, "tree_id")],
            "lfs": [file.rfilename for file in info.siblings if file.lfs],
            "sizes": {file.rfilename: file.size for file in info.siblings},
            "paths": [entry.path for entry in api.get_paths_info(url.repo_id, ["unet", "config.json", "no"])],
        }))
    """)

    assert files_of(tmp_path / "copy") == files
    assert set(report["listed"]) == set(files)
    assert report["lfs"] == ["unet/model.safetensors"]
    assert report["sizes"] == {name: len(data) for name, data in files.items()}
    assert report["folders"] == ["folder", "unet"]
    assert set(report["paths"]) == {"unet", "config.json"}
    assert report["oid"] == report["sha"]
    assert report["url"].endswith("/user/snapshot")


def test_every_commit_stays_readable_by_its_oid(client):
    report = client("""
        import json
        from huggingface_hub import HfApi, hf_hub_download
        api = HfApi()
        api.create_repo("user/history")
        def read(path, revision):
            return open(hf_hub_download("user/history", path, revision=revision)).read()
        def upload(path, text):
            return api.upload_file(repo_id="user/history", path_in_repo=path, path_or_fileobj=text).oid
        first = upload("a.txt", b"first")
        upload("weights.bin", b"old")
        second = upload("weights.bin", b"new")
        third = upload("a.txt", b"second")
        unchanged = upload("a.txt", b"second")
        last = api.delete_file("a.txt", "user/history").oid
        print(json.dumps({
            "oids": [first, second, third, last], "unchanged": unchanged,
            "texts": [read("a.txt", first), read("a.txt", third), read("weights.bin", second)],
            "files": [api.list_repo_files("user/history", revision=oid) for oid in (first, third, last)],
        }))
    """)

    assert len({*report["oids"]}) == 4
    assert report["unchanged"] == report["oids"][2]
    assert report["texts"] == ["first", "second", "new"]
    assert report["files"] == [["a.txt"], ["a.txt", "weights.bin"], ["weights.bin"]]


def test_a_client_recognises_every_refusal(client):
    report = client("""
        import json
        from huggingface_hub import HfApi, hf_hub_download, snapshot_download
        api, name, report = HfApi(), "user/refusals", {}
        def attempt(label, call, *args, **kwargs):
            try:
                call(*args, **kwargs)
                report[label] = "accepted"
            except Exception as error:
                report[label] = f"{type(error).__name__} {error.response.status_code}"
        def upload(repo_id=name, **kwargs):
            return api.upload_file(repo_id=repo_id, path_in_repo="a.txt", path_or_fileobj=b"a", **kwargs)

        attempt("create without token", api.create_repo, name, token=False)
        attempt("create", api.create_repo, name)
        attempt("create again", api.create_repo, name)
        attempt("create if absent", api.create_repo, name, exist_ok=True)
        attempt("upload", upload)
        attempt("upload without token", upload, token=False)
        attempt("upload to no repo", upload, "user/absent")
        attempt("upload to no revision", upload, revision="absent")
        attempt("download no file", hf_hub_download, name, "absent.txt")
        attempt("download no revision", hf_hub_download, name, "a.txt", revision="0" * 40)
        attempt("download no repo", snapshot_download, "user/absent")
        attempt("tree of no folder", lambda: list(api.list_repo_tree(name, "absent")))
        report["user"] = api.whoami()["name"]
        print(json.dumps(report))
    """)

    assert report == {
        "create without token": "HfHubHTTPError 401",
        "create": "accepted",
        "create again": "HfHubHTTPError 409",
        "create if absent": "accepted",
        "upload": "accepted",
        "upload without token": "HfHubHTTPError 401",
        "upload to no repo": "RepositoryNotFoundError 404",
        "upload to no revision": "RevisionNotFoundError 404",
        "download no file": "RemoteEntryNotFoundError 404",
        "download no revision": "RevisionNotFoundError 404",
        "download no repo": "RepositoryNotFoundError 404",
        "tree of no folder": "RemoteEntryNotFoundError 404",
        "user": "user",
    }


def test_diffusers_loads_classes_of_its_own_and_those_of_the_repository_that_it_trusts(client):
    report = client("""
        import json
        from pathlib import Path
        import torch
        from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel
        from huggingface_hub import HfApi
        unet = UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8,),
            down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), norm_num_groups=4,
        )
        repo = Path("custom")
        DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=4)).save_pretrained(repo)
        HfApi().create_repo("user/ddpm")
        HfApi().upload_folder(repo_id="user/ddpm", folder_path=repo)
        loaded = DiffusionPipeline.from_pretrained("user/ddpm")
        same = all(torch.equal(a, b) for a, b in zip(unet.parameters(), loaded.unet.parameters()))

        index = json.loads((repo / "model_index.json").read_text())
        index |= {"_class_name": ["pipeline", "TinyPipeline"], "unet": ["unet_tiny", "TinyUNet"]}
        (repo / "model_index.json").write_text(json.dumps(index))
        code = "from diffusers import DDPMPipeline\\nclass TinyPipeline(DDPMPipeline): pass"
        (repo / "pipeline.py").write_text(code)
        code = "from diffusers import UNet2DModel\\nclass TinyUNet(UNet2DModel): pass"
        (repo / "unet/unet_tiny.py").write_text(code)
        HfApi().create_repo("user/custom")
        HfApi().upload_folder(repo_id="user/custom", folder_path=repo)
        try:
            untrusted = str(DiffusionPipeline.from_pretrained("user/custom"))
        except ValueError as error:
            untrusted = str(error)
        custom = DiffusionPipeline.from_pretrained("user/custom", trust_remote_code=True)
        print(json.dumps({
            "loaded": type(loaded).__name__, "same": same, "untrusted": untrusted,
            "custom": [type(custom).__name__, type(custom.unet).__name__],
        }))
    """)

    assert report["loaded"] == "DDPMPipeline"
    assert report["same"]
    assert "trust_remote_code=True" in report["untrusted"]
    assert report["custom"] == ["TinyPipeline", "TinyUNet"]


def test_datasets_loads_and_streams_parquet(client):
    report = client("""
        import json
        from datasets import Dataset, load_dataset
        from huggingface_hub import HfApi
        rows = {"label": list(range(500)), "text": [f"row {i}" for i in range(500)]}
        Dataset.from_dict(rows).to_parquet("repo/data/train-00000-of-00001.parquet")
        api = HfApi()
        api.create_repo("user/rows", repo_type="dataset")
        first = api.upload_folder(repo_id="user/rows", repo_type="dataset", folder_path="repo").oid
        loaded = load_dataset("user/rows", split="train", revision=first)
        streamed = load_dataset("user/rows", split="train", streaming=True)
        print(json.dumps([loaded.to_dict() == rows, [row["label"] for row in streamed] == rows["label"]]))
    """)

    assert report == [True, True]
