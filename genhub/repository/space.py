"""Sharing a page or a demo on the Hub, as a Space."""

import os
import sys
from pathlib import Path

from huggingface_hub import HfApi, SpaceCardData
from huggingface_hub.errors import HFValidationError

from genhub.repository.format import RepositoryError
from genhub.utils.files import expanded
from genhub.utils.network import connect
from genhub.utils.reading import one_line


def last_name(repo: str | os.PathLike) -> str:
    """Returns the last part of a repository's name, which may be a path."""
    return Path(os.path.abspath(expanded(repo))).name


def space_card(title: str, text: str, **options) -> str:
    """Returns the card of a Space.

    Args:
        options: of its head, such as `sdk` and `app_file`.
    """
    return f"---\n{SpaceCardData(title=title, pinned=False, **options).to_yaml()}\n---\n\n{text}\n"


def push_space(
    folder: str | os.PathLike,
    repo_id: str,
    sdk: str,
    private: bool = False,
    token: str | None = None,
    dry_run: bool = False,
) -> str:
    """Uploads a folder as a Space, after listing its files with their sizes, and returns its address.

    Args:
        sdk: "static" or "gradio".
        token: the one of `hf auth login` or `HF_TOKEN` if not given.
        dry_run: list only; nothing is sent.

    Raises:
        RepositoryError: there is no valid token, the name is none, or the Hub cannot be reached.
    """
    folder, api = expanded(folder), HfApi(token=token)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:>15,} {path.relative_to(folder).as_posix()}", file=sys.stderr)
    if dry_run:
        return f"{api.endpoint}/spaces/{repo_id}"
    connect()
    try:
        url = api.create_repo(repo_id, repo_type="space", space_sdk=sdk, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, repo_type="space", commit_message="Upload with genhub"
        )
    except HFValidationError as error:
        raise RepositoryError(f"`repo_id` must be user/name: {error}") from error
    except Exception as error:  # the client raises errors of several HTTP libraries, which change with its version
        raise RepositoryError(
            f"Could not upload to {repo_id} ({one_line(error)}). "
            "Check the network and the token (`hf auth login`, `HF_TOKEN`)."
        ) from error
    return str(url)
