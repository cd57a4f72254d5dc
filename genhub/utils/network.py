"""Requests to the Hub that say what they wait for, try again, and end with a reason.

The client of `huggingface_hub` waits without end for some answers, retries some requests and not others, and takes any
answer for one of the Hub. Here every request has a time limit, a request that changes nothing is repeated when the
server or the way to it fails, and an answer is looked at before it is used. What still fails is a `HubError`, which
the libraries take for "offline", and go on with their caches.
"""

import logging
import re
import sys
import threading
import time
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils._http import default_client_factory

logger = logging.getLogger(__name__)
NOTICE_AFTER = 3.0  # seconds without an answer
PAUSES = (1.0, 2.0, 4.0)  # seconds before each further try
SILENCES = 2  # tries that may end without an answer
UPLOAD_TIMEOUT = 120.0  # seconds for an answer to what is not repeated: the Hub works on a commit
LARGEST_ANSWER = 64 * 2**20  # bytes of an answer that is no file
LARGEST_UNTOLD = 2**30  # bytes of a file whose length the server does not say
ANSWER_TIME = 60.0  # seconds for all of an answer that is no file
WINDOW, SLOWEST = 10.0, 1000  # seconds in which an answer has to come on, and bytes a second
BROKEN_FOR = 60.0  # seconds in which a server that failed is not asked again
TRANSIENT = {408, 500, 502, 503, 504}
REMEDY = (
    "`HF_HUB_OFFLINE=1` takes what is in the cache, `HF_HUB_DOWNLOAD_TIMEOUT` is the limit of one answer in seconds"
)
SAFE_NAME = re.compile(r"[\w.+=:-]+")  # of a commit or a blob: the client makes files of these names


class HubError(OfflineModeIsEnabled):
    """The Hub cannot be used: it does not answer, or with something that is no answer of a Hub."""


class Connection:
    """What the requests of this process know of the Hub.

    Args:
        failure: why the last server that failed is not asked again, since `connect`.
    """

    def __init__(self):
        self.is_installed = False
        self.lock = threading.Lock()
        self.forget()

    def forget(self):
        self.failure: HubError | None = None
        self.broken: dict[str, float] = {}  # server -> when it failed
        self.has_said = False

    def client(self) -> Any:
        """Makes the client of `huggingface_hub`, whose requests go through `send`."""
        client: Any = default_client_factory()
        sending = client.send
        client.send = lambda request, **options: self.send(sending, request, **options)
        return client

    def send(self, sending: Any, request: Any, **options) -> Any:
        """Sends a request; repeats it where that changes nothing.

        Raises:
            HubError: there is no answer, none of a Hub, or one that the client must not follow.
        """
        server, is_repeatable = request.url.netloc, _is_repeatable(request)
        is_hub = request.url.host == urlsplit(constants.ENDPOINT).hostname
        if self.failure is not None and time.monotonic() - self.broken.get(server, -BROKEN_FOR) < BROKEN_FOR:
            raise self.failure
        _limit_time(request, is_repeatable)
        problem = "no answer yet"
        timer = threading.Timer(NOTICE_AFTER, lambda: self._say(request, problem))
        timer.daemon = True
        timer.start()
        try:
            silences = 0
            for pause in (*PAUSES, None):
                response, problem, is_silent = _try(sending, request, is_repeatable and is_hub, options)
                if response is not None:
                    return response
                silences += is_silent
                if pause is None or silences == SILENCES:
                    break
                time.sleep(pause)
        except HubError as error:
            self.failure = error
            raise
        finally:
            timer.cancel()
        self.failure = HubError(f"{request.url.scheme}://{server.decode()} {problem}; {REMEDY}")
        self.broken[server] = time.monotonic()
        raise self.failure

    def _say(self, request: Any, problem: str):
        """Says once what is waited for."""
        with self.lock:
            has_said, self.has_said = self.has_said, True
        if not has_said:
            logger.warning("Waiting for %s %s (%s) ...", request.method, _shown(request), problem)


CONNECTION = Connection()


def connect() -> Connection:
    """Makes the requests of `huggingface_hub`, and of `datasets`, those of this module; a server that failed before is
    asked again."""
    if not CONNECTION.is_installed:
        set_client_factory(CONNECTION.client)
        CONNECTION.is_installed = True
    CONNECTION.forget()
    return CONNECTION


def _try(sending: Any, request: Any, is_repeatable: bool, options: dict) -> tuple[Any, str, bool]:
    """Sends a request once: its answer, or what is wrong, and whether the server kept silent."""
    library = sys.modules[type(request).__module__.partition(".")[0]]  # httpx, under the name of the day
    if options.get("stream"):
        request.headers["Accept-Encoding"] = "identity"  # a file has the length that is told, and unpacks to no more
    try:
        response = sending(request, **options | {"stream": True})
        _limit_answer(library, request, response, options.get("stream", False))
    except library.TransportError as error:
        if not is_repeatable:
            raise
        is_silent = isinstance(error, library.TimeoutException)
        cause = (
            "did not answer in time" if is_silent else f"could not be reached ({str(error) or type(error).__name__})"
        )
        return None, cause, is_silent
    except library.RequestError as error:  # redirected without end, or encoded as nothing is
        raise HubError(f"{request.url.host} sent an answer that cannot be followed ({error})") from error
    if is_repeatable and response.status_code in TRANSIENT:
        response.close()
        return None, f"answered {response.status_code} {response.reason_phrase}", False
    if response.is_success:
        _check_answer(request, response, options.get("stream", False))
    return response, "", False


def _limit_answer(library: Any, request: Any, response: Any, is_stream: bool):
    """Reads an answer that is not streamed, within limits; a stream ends by itself when it goes beyond them."""
    host = request.url.host
    response.stream = _watched(library, response, host)
    if is_stream:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise HubError(f"{host} sent {_shown(request)} packed, which was not asked for")
        return
    content, end = bytearray(), time.monotonic() + ANSWER_TIME
    try:
        for part in response.iter_bytes():
            content += part
            if len(content) > LARGEST_ANSWER or time.monotonic() > end:
                limit = f"{LARGEST_ANSWER:,} bytes" if len(content) > LARGEST_ANSWER else f"{ANSWER_TIME:.0f} s"
                raise HubError(f"{host} sent an answer to {_shown(request)} that does not end within {limit}")
    finally:
        response.close()
    response._content = bytes(content)  # as `Response.read` does, which has no limits


def _watched(library: Any, response: Any, host: str) -> Any:
    """Returns the stream of a response, which raises HubError when it goes on without end, or hardly at all."""
    stream, limit = response.stream, int(response.headers.get("Content-Length") or LARGEST_UNTOLD)

    class Watched(library.SyncByteStream):
        def __iter__(self):
            received, before, begun = 0, 0, time.monotonic()
            for part in stream:
                yield part
                received += len(part)
                if received > limit:
                    CONNECTION.failure = HubError(f"{host} sent more than {limit:,} bytes of a file")
                    raise CONNECTION.failure
                if time.monotonic() - begun > WINDOW:
                    if received - before < WINDOW * SLOWEST:
                        CONNECTION.failure = HubError(f"{host} sent less than {SLOWEST:,} bytes a second")
                        raise CONNECTION.failure
                    before, begun = received, time.monotonic()

        def close(self):
            stream.close()

    return Watched()


def _is_repeatable(request: Any) -> bool:
    """Whether a request changes nothing, or the same however often it is sent."""
    return request.method in ("GET", "HEAD") or (request.method == "POST" and "/commit/" not in request.url.path)


def _limit_time(request: Any, is_repeatable: bool):
    """Limits how long a request may wait for each answer."""
    limit = float(constants.HF_HUB_DOWNLOAD_TIMEOUT) if is_repeatable else UPLOAD_TIMEOUT
    asked = request.extensions.get("timeout") or {}
    kinds = ("connect", "read", "write", "pool")
    limits = {kind: limit if asked.get(kind) is None else min(limit, asked[kind]) for kind in kinds}
    request.extensions = {**request.extensions, "timeout": limits}


def _check_answer(request: Any, response: Any, is_stream: bool):
    """Raises HubError for a web page in place of data, and for names that lead out of the cache."""
    headers = response.headers
    for name in ("X-Repo-Commit", "X-Linked-Etag", "ETag"):
        value = headers.get(name, "").removeprefix("W/").strip('"')
        if value and "/resolve/" in request.url.path and (not SAFE_NAME.fullmatch(value) or ".." in value):
            raise HubError(f"{request.url.host} sent {value!r} as {name}, which is no name of a file")
    if "/api/" not in request.url.path or is_stream or request.method == "HEAD":
        return
    if "html" in headers.get("Content-Type", "") or response.content.lstrip()[:1] == b"<":
        raise HubError(
            f"{request.url.host} answered {_shown(request)} with a web page in place of data: check `HF_ENDPOINT`, "
            "and whether a proxy or a login page stands between"
        )
    if request.method == "GET" and response.content:
        for name in _names_in(response):
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise HubError(f"{request.url.host} lists the file {name!r}, which would lie outside its folder")


def _names_in(response: Any) -> list[str]:
    """Returns the names that an answer gives to files and commits."""
    try:
        content = response.json()
    except ValueError as error:
        raise HubError(f"{response.request.url.host} answered with something that is no JSON") from error
    entries = content if isinstance(content, list) else [content]
    entries = [entry for entry in entries if isinstance(entry, dict)]
    entries += [file for entry in entries for file in entry.get("siblings") or () if isinstance(file, dict)]
    names = [entry[key] for entry in entries for key in ("path", "rfilename", "sha", "oid") if key in entry]
    return [name for name in names if isinstance(name, str)]


def _shown(request: Any) -> str:
    """Returns the address of a request without its query, which may hold a signature."""
    return f"{request.url.scheme}://{request.url.netloc.decode()}{unquote(request.url.path)}"
