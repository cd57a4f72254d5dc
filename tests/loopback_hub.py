"""A Hugging Face Hub on the loopback: the real clients run on it, and it refuses what the real Hub refuses.

    python tests/loopback_hub.py --root DIR [--port 0]

prints its URL and keeps its repositories under DIR, where the next start finds them. Every bearer token may
write to every namespace; `main` is the only branch. Left out: Xet, pull requests, tags, paged listings.
"""

import argparse
import base64
import codecs
import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

USER = "user"
KINDS = {None: "models", "model": "models", "dataset": "datasets", "space": "spaces"}
REPO_NAME = re.compile(r"(?!.*(?:--|\.\.))\w(?:[\w.-]{0,94}\w)?(?<!\.git)", re.ASCII)
LFS_SIZE = 10_000_000
LFS_PATTERNS = """*.7z *.arrow *.bin *.bz2 *.ckpt *.flac *.ftz *.gif *.gz *.h5 *.jpeg *.jpg *.joblib *.lfs.*
*.mds *.mlmodel *.model *.mp3 *.mp4 *.msgpack *.npy *.npz *.onnx *.ot *.parquet *.pb *.pickle *.pkl *.png
*.pt *.pth *.rar *.safetensors *.tar *.tflite *.tgz *.wasm *.wav *.webp *.xz *.zip *.zst *tfevents*
""".split()
LICENSES = """afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0
etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3
llama3.1 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 other pddl
postgresql unknown unlicense wtfpl zlib""".split()
YAML_BLOCK = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
METRICS = [{"type": str, "value": object}]
RESULTS = [{"task": {"type": str}, "dataset": {"type": str, "name": str}, "metrics": METRICS}]
MODELS = [{"name": str, "results": RESULTS}]
CARD = {"tags": [str], "datasets": [str], "library_name": str, "pipeline_tag": str, "model-index": MODELS}


class Refusal(Exception):
    """A status, a message, and the code from which the client chooses its exception."""

    def __init__(self, status: int, message: str, code: str | None = None, **body: Any):
        super().__init__(message)
        self.status, self.body = status, {"error": message, **body}
        self.headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {}


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, as the Hub's parser does and PyYAML does not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        if len({key.value for key, _ in node.value}) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "duplicated mapping key", node.start_mark)
        return super().construct_mapping(node, deep)


def mismatches(value: Any, schema: Any, label: str = "") -> Iterator[str]:
    """Departures from a type, [schema] or {key: schema}, of which only the outermost keys are optional."""
    if isinstance(schema, list) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from mismatches(item, schema[0], f"{label}[{index}]")
    elif isinstance(schema, dict) and isinstance(value, dict):
        for key, inner in schema.items():
            path = f"{label}.{key}" if label else key
            if key in value:
                yield from mismatches(value[key], inner, path)
            elif label:
                yield f'"{path}" is required'
    elif isinstance(schema, list | dict) or not isinstance(value, schema):
        expected = {list: "an array", dict: "of type object"}.get(type(schema), "a string")
        yield f'"{label or "value"}" must be {expected}'


def read_card(text: str) -> tuple[dict, list[str]]:
    """The metadata of a README.md and the Hub's objections to it."""
    block = YAML_BLOCK.search(text)
    try:
        card = yaml.load(block[1], UniqueKeyLoader) if block else None
    except yaml.YAMLError as error:
        return {}, [f"YAML metadata could not be parsed: {error}"]
    errors = list(mismatches({} if card is None else card, CARD))
    if not isinstance(card, dict):
        return {}, errors
    for key in ("license", "datasets", "base_model"):
        values = card.get(key, [])
        for value in values if isinstance(values, list) else [values]:
            if key == "license" and value not in LICENSES:
                errors.append(f'"license" must be one of [{", ".join(LICENSES)}]')
            elif key != "license" and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(value)):
                errors.append(f'"{key}" with value "{value}" is not valid. Use an id from https://hf.co')
    return card, errors


def upload_mode(path: str, size: int, sample: bytes) -> str:
    """`lfs` for what is large, named in the default .gitattributes, or not text."""
    by_name = any(fnmatchcase(PurePosixPath(path).name, pattern) for pattern in LFS_PATTERNS)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # the sample may end within a character
        is_text = b"\0" not in sample
    except UnicodeDecodeError:
        is_text = False
    return "regular" if size < LFS_SIZE and is_text and not by_name else "lfs"


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def content_oid(file: dict) -> str:
    return file["lfs"]["oid"] if "lfs" in file else file["oid"]


def listing(files: dict[str, dict]) -> dict[str, dict]:
    """Every file and every folder of a commit, by its path."""
    entries = {path: {"type": "file", "path": path, **file} for path, file in files.items()}
    for folder in {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}:
        inside = sorted((path, file["oid"]) for path, file in files.items() if path.startswith(folder + "/"))
        oid = hashlib.sha1(json.dumps(inside).encode()).hexdigest()
        entries[folder] = {"type": "directory", "path": folder, "oid": oid, "size": 0}
    return dict(sorted(entries.items()))


def write(path: Path, data: bytes) -> None:
    """Writes a file of which a reader sees all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{threading.get_ident()}")
    part.write_bytes(data)
    part.replace(path)


class Repository:
    """A folder: repo.json names the head of main, commits/<oid>.json files, objects/<oid> their contents."""

    lock = threading.Lock()

    def __init__(self, folder: Path, state: dict | None = None):
        self.folder = folder
        self.state = state or json.loads((folder / "repo.json").read_text())

    def object(self, oid: str) -> Path:
        return self.folder / "objects" / oid

    def commit_oid(self, revision: str) -> str:
        """The commit that is meant by `main` or by 40 hexadecimal digits."""
        oid = self.state["main"] if revision == "main" else revision
        if not re.fullmatch("[0-9a-f]{40}", oid) or not (self.folder / f"commits/{oid}.json").exists():
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    def commit(self, revision: str) -> dict:
        return json.loads((self.folder / f"commits/{self.commit_oid(revision)}.json").read_text())

    def add_commit(self, files: dict[str, dict], title: str) -> str:
        """Writes a commit, named by the digest of all that it says, and moves `main` to it."""
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        commit = {"parent": self.state["main"], "date": date, "title": title, "files": files}
        data = json.dumps(commit).encode()
        self.state["main"] = hashlib.sha1(data).hexdigest()
        write(self.folder / f"commits/{self.state['main']}.json", data)
        write(self.folder / "repo.json", json.dumps(self.state).encode())
        return self.state["main"]

    def regular_file(self, data: bytes) -> dict:
        write(self.object(git_oid(data)), data)
        return {"oid": git_oid(data), "size": len(data)}

    def lfs_file(self, path: str, oid: str, size: int | None = None) -> dict:
        """A file of which the tree holds only a pointer to an object that must have been uploaded before."""
        found = re.fullmatch("[0-9a-f]{64}", oid) and self.object(oid).exists()
        if not found or size not in (None, self.object(oid).stat().st_size):
            raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {path} ({oid})")
        size = self.object(oid).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()
        lfs = {"oid": oid, "sha256": oid, "size": size, "pointerSize": len(pointer)}
        return {"oid": git_oid(pointer), "size": size, "lfs": lfs}

    def changed(self, files: dict[str, dict], key: str, value: dict) -> dict[str, dict]:
        """The files after one operation of a commit."""
        path = value["path"].rstrip("/")
        if any(part in ("", ".", "..", ".git") for part in path.split("/")):
            raise Refusal(400, f"Invalid path: {path}")
        if key in ("deletedFile", "deletedFolder"):
            prefix = path + "/" * (key == "deletedFolder")
            gone = [name for name in files if name == prefix or (prefix != path and name.startswith(prefix))]
            if not gone:
                raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            return {name: file for name, file in files.items() if name not in gone}
        if key == "lfsFile":
            return {**files, path: self.lfs_file(path, value["oid"], value.get("size"))}
        if key != "file":
            raise Refusal(400, f"Unknown operation: {key}")
        data = base64.b64decode(value["content"], validate=True)
        if len(data) >= LFS_SIZE:
            raise Refusal(400, f"{path} must be uploaded by LFS: it has {LFS_SIZE} bytes or more")
        if path == "README.md" and (errors := read_card(data.decode())[1]):
            errors = [{"message": error} for error in errors]
            raise Refusal(400, "Invalid metadata in README.md", errors=errors)
        return {**files, path: self.regular_file(data)}


class Handler(BaseHTTPRequestHandler):
    """The endpoints: a method returns what to send as JSON, or None when it has answered by itself."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self) -> None:
        """Sends what the endpoint of the request returns or raises."""
        url = urlsplit(self.path)
        self.query, self.body = parse_qs(url.query), self.read_body()
        try:
            for methods, pattern, endpoint in ROUTES:
                if self.command in methods and (match := re.fullmatch(pattern, url.path)):
                    groups = {key: unquote(value or "") for key, value in match.groupdict().items()}
                    reply = endpoint(self, **groups)
                    break
            else:
                raise Refusal(404, f"No such repository or endpoint: {url.path}", "RepoNotFound")
        except Refusal as refusal:
            self.send(refusal.status, json.dumps(refusal.body).encode(), refusal.headers)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self.send(400, json.dumps({"error": f"Malformed request: {error!r}"}).encode())
        else:
            if reply is not None:
                self.send(200, json.dumps(reply, default=str).encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": len(data), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def require_token(self, code: str | None = None) -> None:
        if not re.fullmatch(r"Bearer \S+", self.headers.get("Authorization", "")):
            raise Refusal(401, "Invalid username or password.", code)

    def repo(self, kind: str, name: str) -> Repository:
        folder = self.server.root / kind / name
        if not all(map(REPO_NAME.fullmatch, name.split("/"))) or not (folder / "repo.json").exists():
            raise Refusal(404, "Repository not found", "RepoNotFound")
        repo = Repository(folder)
        if repo.state["private"]:
            self.require_token("RepoNotFound")
        return repo

    def page(self, kind: str, name: str) -> str:
        return "/".join([self.server.url, *([kind] if kind != "models" else []), name])

    def whoami(self) -> dict:
        self.require_token()
        return {"type": "user", "name": USER, "fullname": USER, "orgs": []}

    def validate_yaml(self) -> None:
        text = json.loads(self.body)["content"]
        errors = [{"message": error} for error in read_card(text)[1]]
        missing = [{"message": "empty or missing yaml metadata in repo card"}]
        reply = {"errors": errors, "warnings": [] if YAML_BLOCK.search(text) else missing}
        self.send(400 if errors else 200, json.dumps(reply).encode())

    def named(self) -> tuple[str, str]:
        """The kind and the id in a request about a whole repository."""
        self.require_token()
        body = json.loads(self.body)
        namespace, name = body.get("organization") or USER, body["name"]
        if not REPO_NAME.fullmatch(namespace) or not REPO_NAME.fullmatch(name):
            raise Refusal(400, f"Invalid repository name: {namespace}/{name}")
        return KINDS[body.get("type")], f"{namespace}/{name}"

    def create(self) -> dict:
        kind, name = self.named()
        reply = {"url": self.page(kind, name), "name": name, "id": name}
        folder = self.server.root / kind / name
        private = json.loads(self.body).get("visibility") == "private"
        with Repository.lock:
            if (folder / "repo.json").exists():
                raise Refusal(409, f"You already created this repo: {name}", **reply)
            lines = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS)
            repo = Repository(folder, {"private": private, "main": None})
            repo.add_commit({".gitattributes": repo.regular_file(lines.encode())}, "initial commit")
        return reply

    def delete(self) -> dict:
        with Repository.lock:
            shutil.rmtree(self.repo(*self.named()).folder)
        return {}

    def info(self, kind: str, name: str, revision: str) -> dict:
        repo = self.repo(kind, name)
        oid = repo.commit_oid(revision or "main")
        commit = repo.commit(oid)
        files, card = commit["files"], {}
        if "README.md" in files:
            card = read_card(repo.object(content_oid(files["README.md"])).read_text("utf-8"))[0]
        reply = {key: card[key] for key in ("library_name", "pipeline_tag", "model-index") if key in card}
        reply |= {"id": name, "sha": oid, "lastModified": commit["date"], "private": repo.state["private"]}
        reply |= {"cardData": card, "tags": card.get("tags", []), "gated": False, "downloads": 0, "likes": 0}
        reply["siblings"] = [{"rfilename": path} for path in files]
        for sibling in reply["siblings"] if "blobs" in self.query else []:
            file = files[sibling["rfilename"]]
            sibling |= {"blobId": file["oid"], **file}
        return reply

    def tree(self, kind: str, name: str, revision: str, path: str) -> list[dict]:
        entries = listing(self.repo(kind, name).commit(revision)["files"])
        if path and path not in entries:
            raise Refusal(404, f"{path} does not exist on {revision}", "EntryNotFound")
        if path and entries[path]["type"] == "file":
            return [entries[path]]
        prefix, recursive = f"{path}/" if path else "", self.query.get("recursive") in (["1"], ["true"])
        below = {key[len(prefix) :]: entry for key, entry in entries.items() if key.startswith(prefix)}
        return [entry for key, entry in below.items() if recursive or "/" not in key]

    def paths_info(self, kind: str, name: str, revision: str) -> list[dict]:
        entries = listing(self.repo(kind, name).commit(revision)["files"])
        return [entries[path] for path in parse_qs(self.body.decode()).get("paths", []) if path in entries]

    def writable(self, kind: str, name: str, revision: str) -> Repository:
        self.require_token("RepoNotFound")  # what the client makes of a 401 on https
        repo = self.repo(kind, name)
        if revision != "main":
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo

    def preupload(self, kind: str, name: str, revision: str) -> dict:
        files, reply = self.writable(kind, name, revision).commit(revision)["files"], []
        for file in json.loads(self.body)["files"]:
            mode = upload_mode(file["path"], file["size"], base64.b64decode(file["sample"]))
            oid = content_oid(files[file["path"]]) if file["path"] in files else None
            reply.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": reply}

    def ticket(self, kind: str, name: str, oid: str, size: int) -> str:
        return hmac.new(self.server.secret, f"{kind}/{name} {oid} {size}".encode(), "sha256").hexdigest()

    def lfs_batch(self, kind: str, name: str) -> dict:
        repo, objects = self.writable(kind := kind.rstrip("/") or "models", name, "main"), []
        for item in json.loads(self.body)["objects"]:
            oid, size = item["oid"], item["size"]
            query = f"size={size}&ticket={self.ticket(kind, name, oid, size)}"
            href = f"{self.server.url}/lfs/{kind}/{name}/{oid}?{query}"
            actions = {} if repo.object(oid).exists() else {"actions": {"upload": {"href": href}}}
            objects.append({"oid": oid, "size": size, **actions})
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, kind: str, name: str, oid: str) -> dict:
        size = int(self.query["size"][0])
        if self.query["ticket"] != [self.ticket(kind, name, oid, size)]:
            raise Refusal(403, "No batch request has asked for this upload")
        if len(self.body) != size or hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, f"The content does not have {size} bytes with the sha256 {oid}")
        write(self.server.root / kind / name / "objects" / oid, self.body)
        return {}

    def commit(self, kind: str, name: str, revision: str) -> dict:
        header, *operations = (json.loads(line) for line in self.body.splitlines())
        if header["key"] != "header" or not header["value"]["summary"] or "create_pr" in self.query:
            raise Refusal(400, "A commit needs a header with a summary, and cannot be a pull request")
        with Repository.lock:
            repo = self.writable(kind, name, revision)
            if header["value"].get("parentCommit", repo.state["main"]) != repo.state["main"]:
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            files = repo.commit("main")["files"]
            for operation in operations:
                files = repo.changed(files, operation["key"], operation["value"])
            oid = repo.add_commit(files, header["value"]["summary"])
        url = f"{self.page(kind, name)}/commit/{oid}"
        return {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""}

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repo = self.repo(kind.rstrip("/") or "models", name)
        headers = {"X-Repo-Commit": repo.commit_oid(revision), "Accept-Ranges": "bytes"}
        file = repo.commit(revision)["files"].get(path)
        if file is None:
            headers |= {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return self.send(404, b'{"error": "Entry not found"}', headers)
        headers["ETag"] = f'"{content_oid(file)}"'
        if "lfs" in file:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": file["size"]}
        data = repo.object(content_oid(file)).read_bytes()
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None or self.command == "HEAD":
            return self.send(200, data, headers)
        first, stop = int(span[1]), min(int(span[2] or len(data)) + 1, len(data))
        if first >= stop:
            return self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(data)}"
        return self.send(206, data[first:stop], headers)


API = "/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
PAGE = "/(?P<kind>(?:datasets/|spaces/)?)(?P<name>[^/]+/[^/]+)"
REVISION = "(?P<revision>[^/]+)"
ROUTES = [
    (["GET"], "/api/whoami-v2", Handler.whoami),
    (["POST"], "/api/validate-yaml", Handler.validate_yaml),
    (["POST"], "/api/repos/create", Handler.create),
    (["DELETE"], "/api/repos/delete", Handler.delete),
    (["GET"], f"{API}(?:/revision/{REVISION})?", Handler.info),
    (["GET"], f"{API}/tree/{REVISION}(?:/(?P<path>.+))?", Handler.tree),
    (["POST"], f"{API}/paths-info/{REVISION}", Handler.paths_info),
    (["POST"], f"{API}/preupload/{REVISION}", Handler.preupload),
    (["POST"], rf"{PAGE}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    (["PUT"], "/lfs/(?P<kind>[a-z]+)/(?P<name>[^/]+/[^/]+)/(?P<oid>[0-9a-f]{64})", Handler.lfs_put),
    (["POST"], f"{API}/commit/{REVISION}", Handler.commit),
    (["GET", "HEAD"], f"{PAGE}/resolve/{REVISION}/(?P<path>.+)", Handler.resolve),
]


class LoopbackHub(ThreadingHTTPServer):
    """The server, which no other machine can reach."""

    request_queue_size = 64

    def __init__(self, root: Path, port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.root, self.secret = root, os.urandom(16)
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve(root: Path, home: Path | None = None) -> Iterator[tuple[str, dict[str, str]]]:
    """Runs a Hub as a process; yields its URL and a client's environment with HF_HOME at `home`, or fresh."""
    command = [sys.executable, __file__, "--root", str(root)]
    hub = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with tempfile.TemporaryDirectory() as fresh, hub:
        try:
            url = hub.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"The Hub on {root} did not start.")
            foreign = re.compile("HF_|HUGGING|.*_PROXY$", re.IGNORECASE)
            env = {name: value for name, value in os.environ.items() if not foreign.match(name)}
            env |= {"HF_ENDPOINT": url, "HF_HOME": str(home or fresh), "HF_TOKEN": "any"}
            env |= {f"HF_HUB_DISABLE_{feature}": "1" for feature in ("XET", "TELEMETRY", "PROGRESS_BARS")}
            yield url, {**env, "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
        finally:
            hub.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of the repositories")
    parser.add_argument("--port", type=int, default=0, help="0 means any free one")
    arguments = parser.parse_args()
    server = LoopbackHub(arguments.root, arguments.port)
    print(server.url, flush=True)
    server.serve_forever()
