"""What the Hub of the tests does for the real clients, and what it refuses."""

import base64
import hashlib
import json
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from itertools import count

import pytest
from loopback_hub import LFS_SIZE, serve

NUMBERS = count()
WEIGHTS = bytes(range(256)) * 20
CARD = "---\nlicense: mit\ntags:\n- genhub\n---\n# A card\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("hub")) as (url, env):
        yield url, env


@pytest.fixture
def client(hub, tmp_path):
    """Runs client code in a fresh interpreter with an empty cache; returns the JSON that it prints last."""

    def run(code, env=None):
        env = {**(env or hub[1]), "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def send(hub):
    """Sends one request and returns the status, the headers and the body of the answer."""

    def request(method, path, body=None, token="any", **headers):
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        url = path if path.startswith("http") else hub[0] + path
        headers = {"Authorization": f"Bearer {token}"} | headers if token else headers
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    return request


@pytest.fixture
def repo(send):
    """The name of a new, empty model repository of user."""
    name = f"repo{next(NUMBERS)}"
    assert send("POST", "/api/repos/create", {"name": name, "organization": "user"})[0] == 200
    return f"user/{name}"


def commit_of(*operations, **header):
    lines = [("header", {"summary": "A commit", **header}), *operations]
    return "\n".join(json.dumps({"key": key, "value": value}) for key, value in lines).encode()


def regular(path, data):
    return "file", {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}


def lfs(path, data):
    oid = hashlib.sha256(data).hexdigest()
    return "lfsFile", {"path": path, "algo": "sha256", "oid": oid, "size": len(data)}


def upload_link(send, repo, data):
    item = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
    batch = {"operation": "upload", "transfers": ["basic"], "objects": [item]}
    status, _, body = send("POST", f"/{repo}.git/info/lfs/objects/batch", batch)
    assert status == 200
    return json.loads(body)["objects"][0].get("actions", {}).get("upload", {}).get("href")


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_files(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_a_snapshot_is_the_folder_that_was_uploaded(client, tmp_path):
    files = {
        "README.md": CARD.encode(),
        "config.json": b"{}",
        "empty.txt": b"",
        "unet/model.safetensors": WEIGHTS,
        "weights.pkl": b"\x80\x04N.",
        "noise": b"\xff\xfe\x00",
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
        print(json.dumps({
            "url": url, "oid": commit.oid, "sha": info.sha,
            "license": info.card_data.license, "tags": info.tags,
            "listed": api.list_repo_files(url.repo_id),
            "folders": [entry.path for entry in api.list_repo_tree(url.repo_id) if hasattr(entry, "tree_id")],
            "lfs": [file.rfilename for file in info.siblings if file.lfs],
            "sizes": {file.rfilename: file.size for file in info.siblings},
            "paths": [entry.path for entry in api.get_paths_info(url.repo_id, ["unet", "config.json", "no"])],
            "attributes": snapshot_download(url.repo_id, allow_patterns=".gitattributes", local_dir="first"),
            "snapshot": snapshot_download(url.repo_id, ignore_patterns=".gitattributes", local_dir="second"),
        }))
    """)

    assert {k: v for k, v in files_of(tmp_path / "second").items() if not k.startswith(".cache")} == files
    assert b"*.safetensors filter=lfs" in (tmp_path / "first/.gitattributes").read_bytes()
    assert set(report["listed"]) == {*files, ".gitattributes"}
    assert set(report["lfs"]) == {"unet/model.safetensors", "weights.pkl", "noise"}
    assert {name: len(data) for name, data in files.items()}.items() <= report["sizes"].items()
    assert report["folders"] == ["folder", "unet"]
    assert report["paths"] == ["unet", "config.json"]
    assert report["oid"] == report["sha"]
    assert (report["license"], report["tags"]) == ("mit", ["genhub"])
    assert report["url"].endswith("/user/snapshot")


def test_every_commit_stays_readable_by_its_oid(client):
    report = client("""
        import json
        from huggingface_hub import HfApi, hf_hub_download, snapshot_download
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
            "sha": api.model_info("user/history", revision=first).sha,
            "head": api.model_info("user/history").sha,
        }))
    """)

    first, second, third, last = report["oids"]
    assert len({first, second, third, last}) == 4
    assert all(len(oid) == 40 and set(oid) <= set("0123456789abcdef") for oid in report["oids"])
    assert report["unchanged"] == third
    assert report["texts"] == ["first", "second", "new"]
    assert [len(files) for files in report["files"]] == [2, 3, 2]
    assert (report["sha"], report["head"]) == (first, last)


def test_patterns_choose_what_is_uploaded_and_what_is_deleted(client, tmp_path):
    write_files(tmp_path / "one", dict.fromkeys(["keep.txt", "old.txt", "logs/a.log", "skip.tmp"], b"1"))
    write_files(tmp_path / "two", dict.fromkeys(["new.txt", "new.json"], b"2"))

    report = client("""
        import json
        from huggingface_hub import HfApi
        api = HfApi()
        api.create_repo("user/patterns")
        api.upload_folder(repo_id="user/patterns", folder_path="one", ignore_patterns="*.tmp")
        before = api.list_repo_files("user/patterns")
        api.upload_folder(
            repo_id="user/patterns", folder_path="two",
            allow_patterns="*.txt", delete_patterns=["old.*", "logs/*"],
        )
        print(json.dumps([before, api.list_repo_files("user/patterns")]))
    """)

    assert report[0] == [".gitattributes", "keep.txt", "logs/a.log", "old.txt"]
    assert report[1] == [".gitattributes", "keep.txt", "new.txt"]


def test_a_client_recognises_every_refusal(client):
    report = client("""
        import json
        from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download
        api, name, report = HfApi(), "user/refusals", {}
        def attempt(label, call, *args, **kwargs):
            try:
                call(*args, **kwargs)
                report[label] = "accepted"
            except Exception as error:
                status = getattr(getattr(error, "response", None), "status_code", "")
                report[label] = f"{type(error).__name__} {status}".strip()
        def upload(repo_id=name, path="a.txt", data=b"a", **kwargs):
            return api.upload_file(repo_id=repo_id, path_in_repo=path, path_or_fileobj=data, **kwargs)
        bad, good = "---\\nlicense: [\\n---\\n", "---\\nlicense: mit\\n---\\n"

        attempt("create without token", api.create_repo, name, token=False)
        attempt("create", api.create_repo, name)
        attempt("create again", api.create_repo, name)
        attempt("create if absent", api.create_repo, name, exist_ok=True)
        first = upload().oid
        attempt("upload without token", upload, data=b"b", token=False)
        attempt("upload to no repo", upload, "user/absent")
        attempt("upload to no revision", upload, revision="absent")
        attempt("upload to an old commit", upload, data=b"b", revision=first)
        attempt("upload a bad card", upload, path="README.md", data=bad.encode())
        attempt("upload a pickle", upload, path="a.pkl", data=b"\\x80\\x04N.")
        attempt("upload after a stale parent", upload, data=b"b", parent_commit=first)
        attempt("delete no file", api.delete_file, "absent.txt", name)
        attempt("download no file", hf_hub_download, name, "absent.txt")
        attempt("download no revision", hf_hub_download, name, "a.txt", revision="0" * 40)
        attempt("download no repo", snapshot_download, "user/absent")
        attempt("info of no namespace", api.model_info, "gpt2")
        attempt("tree of no folder", lambda: list(api.list_repo_tree(name, "absent")))
        attempt("validate a wrong license", ModelCard("---\\nlicense: MIT License\\n---\\n").validate)
        attempt("validate a card", ModelCard(good).validate)
        attempt("delete without token", api.delete_repo, name, token=False)
        attempt("delete", api.delete_repo, name)
        attempt("delete again", api.delete_repo, name)
        attempt("delete if present", api.delete_repo, name, missing_ok=True)
        attempt("info of a deleted repo", api.model_info, name)
        report["user"] = api.whoami()["name"]
        print(json.dumps(report))
    """)

    assert report == {
        "create without token": "HfHubHTTPError 401",
        "create": "accepted",
        "create again": "HfHubHTTPError 409",
        "create if absent": "accepted",
        "upload without token": "RepositoryNotFoundError 401",
        "upload to no repo": "RepositoryNotFoundError 404",
        "upload to no revision": "RevisionNotFoundError 404",
        "upload to an old commit": "RevisionNotFoundError 404",
        "upload a bad card": "ValueError",
        "upload a pickle": "accepted",
        "upload after a stale parent": "HfHubHTTPError 412",
        "delete no file": "RemoteEntryNotFoundError 404",
        "download no file": "RemoteEntryNotFoundError 404",
        "download no revision": "RevisionNotFoundError 404",
        "download no repo": "RepositoryNotFoundError 404",
        "info of no namespace": "RepositoryNotFoundError 404",
        "tree of no folder": "RemoteEntryNotFoundError 404",
        "validate a wrong license": "ValueError",
        "validate a card": "accepted",
        "delete without token": "HfHubHTTPError 401",
        "delete": "accepted",
        "delete again": "RepositoryNotFoundError 404",
        "delete if present": "accepted",
        "info of a deleted repo": "RepositoryNotFoundError 404",
        "user": "user",
    }


def test_diffusers_pushes_and_loads_its_own_classes_and_those_of_the_repo(client):
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
        DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=4)).push_to_hub("user/ddpm")
        loaded = DiffusionPipeline.from_pretrained("user/ddpm")
        same = all(torch.equal(a, b) for a, b in zip(unet.parameters(), loaded.unet.parameters()))

        repo = Path("custom")
        loaded.save_pretrained(repo)
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
        image = custom(num_inference_steps=2, output_type="np").images
        print(json.dumps({
            "files": HfApi().list_repo_files("user/ddpm"), "loaded": type(loaded).__name__, "same": same,
            "untrusted": untrusted, "custom": [type(custom).__name__, type(custom.unet).__name__],
            "shape": list(image.shape),
        }))
    """)

    assert {"README.md", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"} < {*report["files"]}
    assert report["loaded"] == "DDPMPipeline"
    assert report["same"]
    assert "trust_remote_code=True" in report["untrusted"]
    assert report["custom"] == ["TinyPipeline", "TinyUNet"]
    assert report["shape"] == [1, 8, 8, 1]


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
        Dataset.from_dict({"label": [7]}).push_to_hub("user/pushed")
        loaded = load_dataset("user/rows", split="train")
        streamed = load_dataset("user/rows", split="train", streaming=True)
        pinned = load_dataset("user/rows", split="train", revision=first)
        print(json.dumps({
            "loaded": loaded.to_dict() == rows, "pinned": pinned.to_dict() == rows,
            "streamed": [row["label"] for row in streamed] == rows["label"],
            "first": first, "sha": api.dataset_info("user/rows").sha,
            "pushed": load_dataset("user/pushed", split="train")["label"][:],
        }))
    """)

    assert report["loaded"]
    assert report["pinned"]
    assert report["streamed"]
    assert report["sha"] == report["first"]
    assert report["pushed"] == [7]


def test_repositories_outlive_the_server(client, tmp_path):
    with serve(tmp_path / "hub") as (_, env):
        client(
            """
            from huggingface_hub import HfApi
            HfApi().create_repo("user/model")
            HfApi().upload_file(repo_id="user/model", path_in_repo="weights.bin", path_or_fileobj=b"weights")
            print(0)
            """,
            env,
        )

    with serve(tmp_path / "hub", tmp_path / "another home") as (_, env):
        report = client(
            """
            from huggingface_hub import HfApi
            path = HfApi().hf_hub_download("user/model", "weights.bin")
            print(f'"{open(path).read()}"')
            """,
            env,
        )

    assert report == "weights"
    assert env["HF_HOME"] == str(tmp_path / "another home")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/whoami-v2", None),
        ("POST", "/api/repos/create", {"name": "new"}),
        ("DELETE", "/api/repos/delete", {"name": "repo0"}),
        ("POST", "/api/models/{repo}/preupload/main", {"files": []}),
        ("POST", "/api/models/{repo}/commit/main", commit_of()),
        ("POST", "/{repo}.git/info/lfs/objects/batch", {"objects": []}),
    ],
)
@pytest.mark.parametrize("token", [None, " "])
def test_nothing_is_written_without_a_token(send, repo, method, path, body, token):
    status, _, _ = send(method, path.format(repo=repo), body, token=token)

    assert status == 401


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        *[("user", name) for name in ("", ".", "..", "a--b", "a..b", "-a", "a-", "a.git", "a/b", "a b")],
        ("user", "é"),
        ("user", "a" * 97),
        *[(namespace, "a") for namespace in ("..", "a/b", ".a", "a b")],
    ],
)
def test_an_invalid_name_is_no_repository(send, namespace, name):
    status, _, body = send("POST", "/api/repos/create", {"name": name, "organization": namespace})

    assert status == 400
    assert "Invalid repository name" in json.loads(body)["error"]


def test_an_existing_repository_is_a_conflict_that_names_it(send, hub, repo):
    status, _, body = send("POST", "/api/repos/create", {"name": repo.split("/")[1], "organization": "user"})

    assert status == 409
    assert json.loads(body).items() >= {"url": f"{hub[0]}/{repo}", "name": repo, "id": repo}.items()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/models/user/absent", "RepoNotFound"),
        ("/api/datasets/{repo}", "RepoNotFound"),
        ("/api/models/%2e%2e/models", "RepoNotFound"),
        ("/user/absent/resolve/main/a.txt", "RepoNotFound"),
        ("/datasets/{repo}/resolve/main/a.txt", "RepoNotFound"),
        ("/api/models/{repo}/revision/absent", "RevisionNotFound"),
        ("/api/models/{repo}/tree/%2e%2e%2frepo", "RevisionNotFound"),
        ("/{repo}/resolve/0000000000000000000000000000000000000000/a.txt", "RevisionNotFound"),
        ("/{repo}/resolve/main/absent.txt", "EntryNotFound"),
        ("/api/models/{repo}/tree/main/absent", "EntryNotFound"),
    ],
)
def test_what_is_missing_is_named_by_an_error_code(send, repo, path, code):
    status, headers, _ = send("GET", path.format(repo=repo))

    assert (status, headers["X-Error-Code"]) == (404, code)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"not json", 400),
        (commit_of(summary=""), 400),
        (commit_of(("unknown", {"path": "a"})), 400),
        (commit_of(("file", {"path": "a", "content": "not base64!"})), 400),
        (commit_of(*[regular(path, b"a") for path in ["a", "../a"]]), 400),
        (commit_of(regular("a//b", b"a")), 400),
        (commit_of(regular(".git/config", b"a")), 400),
        (commit_of(regular("large.txt", b"a" * LFS_SIZE)), 400),
        (commit_of(lfs("a.bin", WEIGHTS)), 400),
        (commit_of(regular("README.md", b"---\ntags: mit\n---\n")), 400),
        (commit_of(("deletedFile", {"path": "absent"})), 404),
        (commit_of(("deletedFolder", {"path": "absent/"})), 404),
        (commit_of(regular("a", b"a"), parentCommit="0" * 40), 412),
    ],
)
def test_a_refused_commit_changes_nothing(send, repo, body, status):
    before = send("GET", f"/api/models/{repo}")[2]

    answer, _, reason = send("POST", f"/api/models/{repo}/commit/main", body)

    assert answer == status
    assert json.loads(reason)["error"]
    assert send("GET", f"/api/models/{repo}")[2] == before


@pytest.mark.parametrize(
    ("sent", "query", "status"),
    [
        (WEIGHTS, "", 200),
        (WEIGHTS[::-1], "", 400),
        (WEIGHTS[:-1], "", 400),
        (b"", "", 400),
        (WEIGHTS, "&ticket=forged", 403),
    ],
)
def test_an_object_is_stored_only_as_it_was_announced(send, repo, sent, query, status):
    link = upload_link(send, repo, WEIGHTS)
    if query:
        link = link.split("&")[0] + query

    answer, _, _ = send("PUT", link, sent, token=None)

    assert answer == status
    assert (upload_link(send, repo, WEIGHTS) is None) == (status == 200)


def test_a_commit_may_name_only_objects_of_its_own_repository(send, repo):
    send("POST", "/api/repos/create", {"name": "lender", "organization": "user"})
    send("PUT", upload_link(send, "user/lender", WEIGHTS), WEIGHTS)
    body = commit_of(lfs("a.bin", WEIGHTS))

    here, _, reason = send("POST", f"/api/models/{repo}/commit/main", body)
    there, _, _ = send("POST", "/api/models/user/lender/commit/main", body)

    assert (here, there) == (400, 200)
    assert "does not exist" in json.loads(reason)["error"]


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ("license: [", "could not be parsed"),
        ("a: b: c", "could not be parsed"),
        ("license: mit\nlicense: mit", "duplicated mapping key"),
        ("- a list", "must be of type object"),
        ("only text", "must be of type object"),
        ("license: 5", '"license" must be one of'),
        ("license: MIT", '"license" must be one of'),
        ("license: {name: mit}", '"license" must be one of'),
        ("tags: gan", '"tags" must be an array'),
        ("tags: [gan, 5]", '"tags[1]" must be a string'),
        ("datasets: mnist", '"datasets" must be an array'),
        ("datasets: [../data/mnist]", '"../data/mnist" is not valid'),
        ("base_model: /tmp/model", '"/tmp/model" is not valid'),
        ("library_name: [diffusers]", '"library_name" must be a string'),
        ("model-index: [{name: a}]", '"model-index[0].results" is required'),
        ("model-index: [{name: a, results: [{task: {}}]}]", '[0].results[0].task.type" is required'),
    ],
)
def test_a_card_with_wrong_metadata_is_refused(send, repo, metadata, error):
    text = f"---\n{metadata}\n---\n# A card\n"
    card = commit_of(regular("README.md", text.encode()))

    status, _, body = send("POST", "/api/validate-yaml", {"content": text, "repoType": "model"}, token=None)
    committed, _, reason = send("POST", f"/api/models/{repo}/commit/main", card)

    assert (status, committed) == (400, 400)
    assert error in json.loads(body)["errors"][0]["message"]
    assert json.loads(reason)["errors"] == json.loads(body)["errors"]


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (CARD, 0),
        ("---\nlicense: [mit, apache-2.0]\n---", 0),
        ("---\r\ndatasets: [zalando-datasets/fashion_mnist]\r\nday: 2024-01-01\r\n---\r\n", 0),
        ("# No metadata", 1),
    ],
)
def test_a_good_card_is_accepted(send, repo, text, warnings):
    card = commit_of(regular("README.md", text.encode()))

    status, _, body = send("POST", "/api/validate-yaml", {"content": text, "repoType": "model"}, token=None)
    committed, _, _ = send("POST", f"/api/models/{repo}/commit/main", card)
    info, _, _ = send("GET", f"/api/models/{repo}")

    assert (status, committed, info) == (200, 200, 200)
    assert len(json.loads(body)["warnings"]) == warnings
    assert json.loads(body)["errors"] == []


def test_a_file_is_served_with_its_digest_and_in_parts(send, repo):
    send("PUT", upload_link(send, repo, WEIGHTS), WEIGHTS)
    commit = commit_of(lfs("a.bin", WEIGHTS), regular("a.txt", b"hello\n"))
    oid = json.loads(send("POST", f"/api/models/{repo}/commit/main", commit)[2])["commitOid"]

    _, headers, empty = send("HEAD", f"/{repo}/resolve/main/a.bin", token=None)
    whole = send("GET", f"/{repo}/resolve/{oid}/a.bin", token=None)
    middle = send("GET", f"/{repo}/resolve/main/a.bin", Range="bytes=10-19")
    end = send("GET", f"/{repo}/resolve/main/a.bin", Range=f"bytes={len(WEIGHTS) - 3}-")
    beyond = send("GET", f"/{repo}/resolve/main/a.bin", Range="bytes=99999-")
    text = send("GET", f"/{repo}/resolve/main/a.txt")

    digest = f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    assert (headers["ETag"], headers["X-Linked-Etag"], headers["X-Repo-Commit"]) == (digest, digest, oid)
    assert headers["X-Linked-Size"] == headers["Content-Length"] == str(len(WEIGHTS))
    assert (empty, whole[2]) == (b"", WEIGHTS)
    assert (middle[0], middle[2]) == (206, WEIGHTS[10:20])
    assert middle[1]["Content-Range"] == f"bytes 10-19/{len(WEIGHTS)}"
    assert (end[0], end[2]) == (206, WEIGHTS[-3:])
    assert beyond[0] == 416
    assert text[1]["ETag"] == '"ce013625030ba8dba906f756967f9e9ca394464a"'  # git hash-object
    assert text[1]["X-Linked-Etag"] is None


@pytest.mark.parametrize(
    ("path", "size", "sample", "mode"),
    [
        ("config.json", 2, b"{}", "regular"),
        ("notes.txt", LFS_SIZE - 1, b"text", "regular"),
        ("notes.txt", LFS_SIZE, b"text", "lfs"),
        ("unet/model.safetensors", 2, b"{}", "lfs"),
        ("samples.png", 4, b"\x89PNG", "lfs"),
        ("data/train-00000-of-00001.parquet", 4, b"PAR1", "lfs"),
        ("noise", 2, b"\xff\xff", "lfs"),
        ("zeros", 2, b"\0\0", "lfs"),
        ("cut.txt", 600, b"a" * 511 + "é".encode()[:1], "regular"),
    ],
)
def test_large_and_binary_files_go_through_lfs(send, repo, path, size, sample, mode):
    body = {"files": [{"path": path, "size": size, "sample": base64.b64encode(sample).decode()}]}

    _, _, answer = send("POST", f"/api/models/{repo}/preupload/main", body)

    assert json.loads(answer)["files"][0]["uploadMode"] == mode


def test_a_commit_may_arrive_in_chunks(send, repo):
    body = commit_of(regular("a.txt", b"a" * 9999), ("deletedFile", {"path": ".gitattributes"}))

    status, _, _ = send("POST", f"/api/models/{repo}/commit/main", iter([body[:7000], body[7000:]]))
    _, _, tree = send("GET", f"/api/models/{repo}/tree/main")

    assert status == 200
    assert [(file["path"], file["size"]) for file in json.loads(tree)] == [("a.txt", 9999)]


def test_a_private_repository_is_hidden_from_strangers(send):
    send("POST", "/api/repos/create", {"name": "private", "organization": "user", "visibility": "private"})

    stranger, owner = (send("GET", "/api/models/user/private", token=token) for token in (None, "any"))

    assert (stranger[0], stranger[1]["X-Error-Code"]) == (401, "RepoNotFound")
    assert json.loads(owner[2])["private"] is True
