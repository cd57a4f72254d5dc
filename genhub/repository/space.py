"""Sharing a page or a demo on the Hub, as a Space."""

import os
import sys
from pathlib import Path

from huggingface_hub import HfApi, SpaceCardData

from genhub.repository.push import uploading
from genhub.utils.files import expanded


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
    with uploading(repo_id):
        url = api.create_repo(repo_id, repo_type="space", space_sdk=sdk, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, repo_type="space", commit_message="Upload with genhub"
        )
    return str(url)
