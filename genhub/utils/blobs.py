"""The cache of the Hub's client, whose files are named by their hashes."""

import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import filter_repo_objects
from huggingface_hub.utils.sha import git_hash

from genhub.utils.files import sha256


def repo_cache(name: str, kind: str = "model") -> Path:
    """Returns the folder of a repository in the cache; it need not exist."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)


def fits_its_name(blob: Path) -> bool:
    """Whether a file of the cache has the SHA-256 (of large files) or the Git hash that is its name; one that has not
    changed is read once in a process."""
    status = blob.stat()
    return _fits_its_name(blob, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=10_000)
def _fits_its_name(blob: Path, *_version: int) -> bool:
    if re.fullmatch("[0-9a-f]{64}", blob.name):
        return sha256(blob) == blob.name
    return not re.fullmatch("[0-9a-f]{40}", blob.name) or git_hash(blob.read_bytes()) == blob.name


def damaged_files(snapshot: Path, patterns: list[str] | None = None) -> list[Path]:
    """Returns the files of a snapshot, links to blobs, whose content is not the one that they are named for.

    Args:
        patterns: of the names of the files that are looked at; of all, if None.
    """
    links = [path for path in sorted(snapshot.rglob("*")) if path.is_symlink() and path.is_file()]
    wanted = filter_repo_objects(
        links, allow_patterns=patterns, key=lambda path: path.relative_to(snapshot).as_posix()
    )
    return [path for path in wanted if not fits_its_name(path.parent / os.readlink(path))]


def drop(blobs: Iterable[Path]):
    """Removes files of the cache, so that the client downloads them again."""
    for blob in blobs:
        blob.unlink()
