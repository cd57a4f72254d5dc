"""The folder of a repository: here, in the cache, or downloaded without its code."""

import logging
import os
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

from genhub.repository.format import STAGED, RepositoryError, first_line

logger = logging.getLogger(__name__)
DOWNLOAD_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision")


def download(name_or_path: str | os.PathLike, required: str = "model_index.json", **kwargs) -> Path:
    """Returns the folder of a repository: a local one as it is, a Hub repository from the cache or downloaded, without
    code.

    Args:
        required: file that the folder must hold.
        kwargs: those of `snapshot_download`.

    Raises:
        RepositoryError: there is no such repository, it cannot be reached, or it lacks `required`.
    """
    path = Path(name_or_path).expanduser()
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
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise RepositoryError(f"{name!r} is neither an existing folder nor a repository of the Hub (user/name).")
    try:
        folder = Path(snapshot_download(name, ignore_patterns=["*.py", "*.bin", "*.pt", "*.pkl"], **kwargs))
    except (HFValidationError, EntryNotFoundError, OSError) as error:  # HTTP errors are OSErrors
        is_missing = isinstance(error, RepositoryNotFoundError | HFValidationError)
        problem = "does not exist or is private" if is_missing else "could not be reached"
        raise RepositoryError(
            f"There is no folder {name} here, and the repository {name} of the Hub {problem} ({first_line(error)}). "
            "Check the name, the network and `HF_TOKEN`."
        ) from error
    if not (folder / required).is_file():
        raise RepositoryError(f"The repository {name} holds no {required}.")
    return folder
