"""A Hugging Face Hub on the loopback: enough for the real clients to create, upload, list, download and load.

`serve(folder)` runs it in a process of its own. It holds everything in memory; any bearer token may write; `main` is
the only branch. `break_down(url, ...)` makes it fail as networks do. Not there: Xet, pull requests, tags, paged
listings, private repositories.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import ClassVar
from unittest.mock import patch
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import Request, urlopen

USER = "user"
KINDS = {None: "models", "model": "models", "dataset": "datasets", "space": "spaces"}
LFS_PATTERNS = ("*.bin", "*.gif", "*.onnx", "*.parquet", "*.png", "*.safetensors")
DATE = "2026-01-01T00:00:00.000000Z"


class Refusal(Exception):
    """A status, a message, and the code from which the client chooses its exception."""

    def __init__(self, status: int, message: str, code: str | None = None, **body):
        super().__init__(message)
        self.status, self.body = status, {"error": message, **body}
        self.headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {}


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def content_oid(file: dict) -> str:
    return file["lfs"]["oid"] if "lfs" in file else file["oid"]


def listing(files: dict[str, dict]) -> dict[str, dict]:
    """Every file and folder of a commit, by path."""
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
    entries = {path: {"type": "file", "path": path, **file} for path, file in files.items()}
    entries |= {path: {"type": "directory", "path": path, "oid": git_oid(path.encode())} for path in folders}
    return dict(sorted(entries.items()))


class Repository:
    """The commits of a repository (oid -> path -> file) and the contents of its files (oid -> bytes)."""

    def __init__(self):
        self.commits, self.objects, self.main = {}, {}, ""
        self.add_commit({})

    def add_commit(self, files: dict[str, dict]):
        self.main = hashlib.sha1(json.dumps([self.main, files]).encode()).hexdigest()
        self.commits[self.main] = files

    def oid(self, revision: str) -> str:
        oid = self.main if revision == "main" else revision
        if oid not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    def after(self, files: dict[str, dict], key: str, value: dict) -> dict[str, dict]:
        """The files after one operation of a commit."""
        path = value["path"]
        if key == "deletedFile":
            return {name: file for name, file in files.items() if name != path}
        if key == "lfsFile":
            oid, data = value["oid"], self.objects[value["oid"]]
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()
            lfs = {"oid": oid, "sha256": oid, "size": len(data), "pointerSize": len(pointer)}
            return {**files, path: {"oid": git_oid(pointer), "size": len(data), "lfs": lfs}}
        data = base64.b64decode(value["content"])
        self.objects[git_oid(data)] = data
        return {**files, path: {"oid": git_oid(data), "size": len(data)}}


class Handler(BaseHTTPRequestHandler):
    """The endpoints: a method returns what to send as JSON, or None when it has answered by itself."""

    protocol_version = "HTTP/1.1"
    fault: ClassVar[dict] = {}  # of the request that is answered
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self):
        """Sends what the endpoint of the request returns or raises, unless a fault is due."""
        url = urlsplit(self.path)
        self.query, self.body = parse_qs(url.query), self.read_body()
        if url.path == "/faults":
            self.server.faults = json.loads(self.body)
            return self.send(200, b"{}")
        self.fault = self.next_fault(unquote(url.path))
        if "hang" in self.fault:
            time.sleep(self.fault["hang"])
        if "status" in self.fault:
            return self.send(self.fault["status"], b"{}")
        if "html" in self.fault:
            return self.send(200, self.fault["html"].encode(), {"Content-Type": "text/html"})
        try:
            for method, pattern, endpoint in ROUTES:
                if re.fullmatch(method, self.command) and (match := re.fullmatch(pattern, url.path)):
                    groups = {key: unquote(value or "") for key, value in match.groupdict().items()}
                    reply = endpoint(self, **groups)
                    break
            else:
                raise Refusal(404, f"No such repository or endpoint: {url.path}", "RepoNotFound")
        except Refusal as refusal:
            self.send(refusal.status, json.dumps(refusal.body).encode(), refusal.headers)
        else:
            if reply is not None:
                self.send(200, json.dumps(reply).encode())

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def next_fault(self, path: str) -> dict:
        """Returns the first fault for this request that is left, and counts it."""
        for fault in self.server.faults:
            if fault["times"] and re.fullmatch(fault["path"], path) and self.command in fault["methods"]:
                fault["times"] -= 1
                return fault
        return {}

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status: int, data: bytes, headers: dict | None = None):
        if {"old", "new"} <= self.fault.keys():
            data = data.replace(self.fault["old"].encode(), self.fault["new"].encode())
        headers = {**(headers or {}), **self.fault.get("headers", {})}
        self.send_response(status)
        length = {"Transfer-Encoding": "chunked"} if "endless" in self.fault else {"Content-Length": len(data)}
        for name, value in {**length, **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if "endless" in self.fault:
            return self.send_endless(**self.fault["endless"])
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if "cut" in self.fault else data)
        self.close_connection |= "cut" in self.fault

    def send_endless(self, size: int, pause: float = 0.0):
        """Sends chunks of an answer without end, until the client hangs up."""
        with suppress(ConnectionError):
            while self.command != "HEAD":
                self.wfile.write(b"%x\r\n%s\r\n" % (size, b" " * size))
                time.sleep(pause)
        self.close_connection = True

    def require_token(self):
        if not re.fullmatch(r"Bearer \S+", self.headers.get("Authorization", "")):
            raise Refusal(401, "Invalid username or password.")

    def repo(self, kind: str, name: str) -> Repository:
        repo = self.server.repos.get((kind.rstrip("/") or "models", name))
        if repo is None:
            raise Refusal(404, "Repository not found", "RepoNotFound")
        return repo

    def files(self, kind: str, name: str, revision: str) -> dict[str, dict]:
        repo = self.repo(kind, name)
        return repo.commits[repo.oid(revision)]

    def whoami(self) -> dict:
        self.require_token()
        return {"type": "user", "name": USER, "fullname": USER, "orgs": []}

    def validate_yaml(self) -> dict:
        return {"errors": [], "warnings": []}

    def create(self) -> dict:
        self.require_token()
        body = json.loads(self.body)
        kind, name = KINDS[body.get("type")], f"{body.get('organization') or USER}/{body['name']}"
        folder = "" if kind == "models" else f"{kind}/"
        reply = {"url": f"{self.server.url}/{folder}{name}", "name": name, "id": name}
        if (kind, name) in self.server.repos:
            raise Refusal(409, f"You already created this repo: {name}", **reply)
        self.server.repos[kind, name] = Repository()
        return reply

    def info(self, kind: str, name: str, revision: str) -> dict:
        repo = self.repo(kind, name)
        oid = repo.oid(revision or "main")
        siblings = [{"rfilename": path, "blobId": file["oid"], **file} for path, file in repo.commits[oid].items()]
        reply = {"id": name, "sha": oid, "lastModified": DATE, "siblings": siblings, "tags": [], "private": False}
        return reply | {"gated": False, "downloads": 0, "likes": 0}

    def models(self) -> list[dict]:
        """The models of an author, of those whose cards have a tag if one is asked for."""
        (author,), tags = self.query["author"], self.query.get("filter", [])
        names = [name for kind, name in self.server.repos if kind == "models" and name.startswith(f"{author}/")]
        return [{"id": name, "private": False} for name in names if all(tag in self.tags(name) for tag in tags)]

    def tags(self, name: str) -> list[str]:
        repo = self.repo("models", name)
        file = repo.commits[repo.main].get("README.md")
        text = "" if file is None else repo.objects[content_oid(file)].decode().partition("\n---\n")[0]
        return re.findall(r"(?m)^ *- (.+)$", text)

    def tree(self, kind: str, name: str, revision: str, path: str) -> list[dict]:
        entries = listing(self.files(kind, name, revision))
        if path and path not in entries:
            raise Refusal(404, f"{path} does not exist on {revision}", "EntryNotFound")
        prefix, is_recursive = f"{path}/" if path else "", self.query.get("recursive") in (["1"], ["true"])
        below = {key.removeprefix(prefix): entry for key, entry in entries.items() if key.startswith(prefix)}
        return [entry for key, entry in below.items() if is_recursive or "/" not in key]

    def paths_info(self, kind: str, name: str, revision: str) -> list[dict]:
        entries = listing(self.files(kind, name, revision))
        return [entries[path] for path in parse_qs(self.body.decode()).get("paths", []) if path in entries]

    def preupload(self, kind: str, name: str, revision: str) -> dict:
        """Says which files go through LFS: those of a known kind, as in the Hub's default .gitattributes."""
        self.require_token()
        files, reply = self.files(kind, name, revision), []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            is_large = any(fnmatchcase(PurePosixPath(path).name, pattern) for pattern in LFS_PATTERNS)
            oid = content_oid(files[path]) if path in files else None
            mode = "lfs" if is_large else "regular"
            reply.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": reply}

    def lfs_batch(self, kind: str, name: str) -> dict:
        self.require_token()
        repo, objects = self.repo(kind, name), []
        for item in json.loads(self.body)["objects"]:
            href = f"{self.server.url}/lfs/{kind.rstrip('/') or 'models'}/{name}/{item['oid']}"
            actions = {} if item["oid"] in repo.objects else {"actions": {"upload": {"href": href}}}
            objects.append({"oid": item["oid"], "size": item["size"], **actions})
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, kind: str, name: str, oid: str) -> dict:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, f"The content does not have the sha256 {oid}")
        self.repo(kind, name).objects[oid] = self.body
        return {}

    def commit(self, kind: str, name: str, revision: str) -> dict:
        self.require_token()
        repo, (_, *operations) = self.repo(kind, name), map(json.loads, self.body.splitlines())
        files = self.files(kind, name, revision)
        for operation in operations:
            files = repo.after(files, operation["key"], operation["value"])
        repo.add_commit(files)
        url = f"{self.server.url}/{name}/commit/{repo.main}"
        return {"success": True, "commitOid": repo.main, "commitUrl": url, "hookOutput": ""}

    def resolve(self, kind: str, name: str, revision: str, path: str):
        repo = self.repo(kind, name)
        oid = repo.oid(revision)
        file = repo.commits[oid].get(path)
        headers = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if file is None:
            return self.send(404, b"{}", headers | {"X-Error-Code": "EntryNotFound", "X-Error-Message": path})
        headers["ETag"], data = f'"{content_oid(file)}"', repo.objects[content_oid(file)]
        if "lfs" in file:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": len(data)}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None or self.command == "HEAD":
            return self.send(200, data, headers)
        first, stop = int(span[1]), min(int(span[2] or len(data)) + 1, len(data))
        headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(data)}"
        return self.send(206, data[first:stop], headers)


API = "/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
PAGE = "/(?P<kind>(?:(?:datasets|spaces)/)?)(?P<name>[^/]+/[^/]+)"
REVISION = "(?P<revision>[^/]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/validate-yaml", Handler.validate_yaml),
    ("POST", "/api/repos/create", Handler.create),
    ("GET", "/api/models", Handler.models),
    ("GET", f"{API}(?:/revision/{REVISION})?", Handler.info),
    ("GET", f"{API}/tree/{REVISION}(?:/(?P<path>.+))?", Handler.tree),
    ("POST", f"{API}/paths-info/{REVISION}", Handler.paths_info),
    ("POST", f"{API}/preupload/{REVISION}", Handler.preupload),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", "/lfs/(?P<kind>[a-z]+)/(?P<name>[^/]+/[^/]+)/(?P<oid>[0-9a-f]{64})", Handler.lfs_put),
    ("POST", f"{API}/commit/{REVISION}", Handler.commit),
    ("GET|HEAD", f"{PAGE}/resolve/{REVISION}/(?P<path>.+)", Handler.resolve),
]


class LoopbackHub(ThreadingHTTPServer):
    """The server, which no other machine can reach."""

    request_queue_size = 64

    def handle_error(self, *args):
        """Says nothing of clients that went away while an answer hung."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url, self.repos = f"http://127.0.0.1:{self.server_port}", {}
        self.faults = []


@contextmanager
def serve(home: Path | None = None) -> Iterator[tuple[str, dict[str, str]]]:
    """Runs a Hub as a process; yields its URL and the environment of its clients, with HF_HOME at `home` or fresh."""
    hub = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    with tempfile.TemporaryDirectory() as fresh, hub:
        try:
            url = hub.stdout.readline().strip()
            if not url:
                raise RuntimeError("The Hub did not start.")
            foreign = re.compile("HF_|HUGGING|.*_PROXY$", re.IGNORECASE)
            env = {name: value for name, value in os.environ.items() if not foreign.match(name)}
            env |= {"HF_ENDPOINT": url, "HF_HOME": str(home or fresh), "HF_TOKEN": "any"}
            env |= {f"HF_HUB_DISABLE_{feature}": "1" for feature in ("XET", "TELEMETRY", "PROGRESS_BARS")}
            yield url, {**env, "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
        finally:
            hub.terminate()


@contextmanager
def online(url: str, home: Path, silence: float) -> Iterator[None]:
    """Makes this process a client of a Hub, with an empty cache, which waits for `silence` seconds at most."""
    import datasets
    from huggingface_hub import constants

    from genhub.utils import network

    at_hub = {"ENDPOINT": url, "HF_HUB_OFFLINE": False, "HF_HUB_CACHE": str(home / "hub"), "HF_HUB_DISABLE_XET": True}
    at_hub |= {"HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}"}
    at_hub |= {"HF_HUB_DOWNLOAD_TIMEOUT": silence, "HF_HUB_ETAG_TIMEOUT": silence}
    limits = {"LARGEST_ANSWER": 2**21, "LARGEST_UNTOLD": 2**22, "ANSWER_TIME": 5 * silence, "WINDOW": 2 * silence}
    limits |= {"NOTICE_AFTER": silence / 4, "PAUSES": (0.01, 0.02, 0.03)}
    settings = [(constants, at_hub), (network, limits)]
    settings += [
        (datasets.config, {"HF_ENDPOINT": url, "HF_DATASETS_CACHE": home / "datasets", "HF_HUB_OFFLINE": False})
    ]
    with ExitStack() as stack:
        for module, values in settings:
            stack.enter_context(patch.multiple(module, **values))
        stack.enter_context(patch.dict(os.environ, {"HF_TOKEN": "any"}))
        stack.callback(network.connect)
        stack.callback(break_down, url)
        yield


def break_down(url: str, *faults: dict):
    """Makes a Hub fail; without faults it is well again.

    Args:
        faults: which requests (`path`, a pattern, `methods`, and how many `times`) meet what: they `hang` for seconds,
            send chunks without end (`endless`: their size, and the pause between them),
            get a `status`, a page of `html` or other `headers`, are `cut` in the middle, or have `new` in place of
            `old`.
    """
    complete = [{"path": ".*", "methods": ["GET", "HEAD"], "times": 10**6} | fault for fault in faults]
    urlopen(Request(f"{url}/faults", json.dumps(complete).encode(), method="PUT")).close()


if __name__ == "__main__":
    server = LoopbackHub()
    print(server.url, flush=True)
    server.serve_forever()
