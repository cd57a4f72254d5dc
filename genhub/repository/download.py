"""The folder of a repository: here, in the cache, or downloaded without its code."""

import logging
import os
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from genhub.repository import names
from genhub.repository.format import STAGED, RepositoryError
from genhub.utils.blobs import damaged_files
from genhub.utils.files import expanded
from genhub.utils.network import connect
from genhub.utils.reading import one_line

logger = logging.getLogger(__name__)
DOWNLOAD_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision")
IGNORED = ["*.py", "*.bin", "*.pt", "*.pkl", "onnx/*"]  # code, pickles, and what other runtimes read


def download(name_or_path: str | os.PathLike, required: str = "model_index.json", **kwargs) -> Path:
    """Returns the folder of a repository: a local one or that of a short name (see `names`) as it is, a Hub repository
    from the cache or downloaded, without code; a file of the cache that does not fit its hash is downloaded again.

    Args:
        required: file that the folder must hold.
        kwargs: those of `snapshot_download`.

    Raises:
        RepositoryError: there is no such repository, it cannot be reached, is damaged, or lacks `required`.
    """
    name_or_path = names.find(name_or_path)
    path = expanded(name_or_path)
    if path.is_dir():
        if (path / STAGED / required).is_file():
            logger.warning("Saving %s was interrupted; its new version is in %s.", path, path / STAGED)
            return path / STAGED
        if (path / required).is_file():
            return path
        is_run = (path / "recipe.yaml").is_file() and (path / "training").is_dir()
        remedy = f"; `genhub train --resume {path}` ends its run" if is_run else ""
        raise RepositoryError(f"The folder {path} holds no {required}: it is not a saved repository{remedy}.")
    name = str(name_or_path)
    if names.NAME.fullmatch(name):
        raise RepositoryError(names.why_unknown(name))
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise RepositoryError(f"{name!r} is neither an existing folder nor a repository of the Hub (user/name).")
    folder = _snapshot(name, **kwargs)
    _repair(name, folder, **kwargs)
    if not (folder / required).is_file():
        raise RepositoryError(f"The repository {name} holds no {required}.")
    return folder


def _snapshot(name: str, **kwargs) -> Path:
    """Returns the folder of a Hub repository in the cache, brought up to date if the Hub can be reached."""
    hub = connect()
    try:
        folder = Path(snapshot_download(name, ignore_patterns=IGNORED, **kwargs))
    except Exception as error:  # the client raises errors of several HTTP libraries, which change with its version
        is_missing = isinstance(error, RepositoryNotFoundError | HFValidationError)
        problem = "does not exist or is private" if is_missing else "could not be reached"
        if hub.failure is None and isinstance(error, EntryNotFoundError | RevisionNotFoundError):
            problem = "could not be found"
        hint = names.nearest_of_hub(name) if is_missing and hub.failure is None else ""
        raise RepositoryError(
            f"There is no folder {name} here, and the repository {name} of the Hub {problem}{hint} "
            f"({one_line(hub.failure or error)}). Check the name, the network and `HF_TOKEN`."
        ) from error
    if hub.failure is not None:
        logger.warning("The copy of %s in the cache is used: %s.", name, hub.failure)
    return folder


def _repair(name: str, folder: Path, **kwargs):
    """Downloads the files of a snapshot that were asked for again, where they do not fit their hashes.

    Raises:
        RepositoryError: they cannot be downloaded, or do not fit again.
    """
    options = {key: kwargs[key] for key in ("cache_dir", "token") if key in kwargs}
    patterns = kwargs.get("allow_patterns")
    damaged = damaged_files(folder, patterns)
    for path in damaged:
        file = path.relative_to(folder).as_posix()
        logger.warning("%s of %s is damaged in the cache, and is downloaded again.", file, name)
        try:
            hf_hub_download(name, file, revision=folder.name, force_download=True, **options)
        except Exception as error:
            problem = f"it does not fit its hash, and could not be downloaded again ({one_line(error)})"
            raise RepositoryError(f"{path} is damaged: {problem}.") from error
    if damaged and (again := damaged_files(folder, patterns)):
        raise RepositoryError(f"{again[0]} is damaged: it does not fit its hash, also when it is downloaded again.")
