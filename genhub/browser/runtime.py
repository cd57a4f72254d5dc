"""ONNX Runtime Web from the npm registry: fetched once, checked against its integrity hash, kept in the cache."""

import base64
import hashlib
import io
import os
import tarfile
import urllib.request

from huggingface_hub import constants

from genhub.utils.cache import cache_folder
from genhub.utils.files import atomic_write, expanded, make_folder
from genhub.utils.reading import one_line

VERSION = "1.30.0"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # `npm view`
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
ABOUT = f"ONNX Runtime Web {VERSION}, MIT licence, Copyright (c) Microsoft Corporation. {URL}\n"
LARGEST = 64 * 2**20  # bytes of the archive
TIMEOUT = 60.0  # seconds without an answer


def runtime(folder: str | os.PathLike | None = None) -> dict[str, bytes]:
    """Returns the files of ONNX Runtime Web that a page needs.

    Args:
        folder: an unpacked npm package `onnxruntime-web`, or its `dist`, to be used in place of the registry.

    Raises:
        ValueError: the folder lacks a file; the registry cannot be reached, or sends something else.
    """
    if folder is not None:
        places = (expanded(folder), expanded(folder) / "dist")
        place = next((place for place in places if all((place / name).is_file() for name in FILES)), None)
        if place is None:
            raise ValueError(f"`runtime` must be a folder with {' and '.join(FILES)}, got {folder}.")
        return {name: (place / name).read_bytes() for name in FILES}
    kept = cache_folder() / f"onnxruntime-web-{VERSION}"
    if not all((kept / name).is_file() for name in FILES):
        files = _unpack(_fetch())
        make_folder(kept)
        for name, content in files.items():
            atomic_write(kept / name, content)
    return {name: (kept / name).read_bytes() for name in FILES}


def _fetch() -> bytes:
    """Returns the package, whose hash is right."""
    remedy = "`--runtime` names the folder of an unpacked copy"
    if constants.HF_HUB_OFFLINE:
        raise ValueError(f"ONNX Runtime Web is not in the cache, and `HF_HUB_OFFLINE` is set; {remedy}.")
    try:
        with urllib.request.urlopen(URL, timeout=TIMEOUT) as answer:
            content = answer.read(LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{URL} cannot be fetched ({one_line(error)}); {remedy}.") from error
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != SHA512:
        raise ValueError(f"{URL} must have the SHA-512 that is known of it, got another one; {remedy}.")
    return content


def _unpack(content: bytes) -> dict[str, bytes]:
    """Returns the files that a page needs of the package."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in FILES}
        return {name: member.read() for name, member in members.items() if member is not None}
