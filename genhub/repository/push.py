"""Sharing a saved repository on the Hub."""

import os

import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HFValidationError

from genhub.repository.download import download
from genhub.repository.format import RepositoryError, first_line, read_json, repo_files
from genhub.repository.load import resolve


def push(
    folder: str | os.PathLike,
    repo_id: str,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Uploads a saved repository to the Hub and returns its address.

    Args:
        folder: what `save_repo` wrote there is uploaded, and the pictures that the card shows, nothing else.
        token: the one of `hf auth login` or `HF_TOKEN` if not given.

    Raises:
        RepositoryError: the folder is not a saved repository or its card is not valid, before anything is sent; there
            is no valid token, or the Hub cannot be reached.
    """
    folder = download(folder)
    if not (folder / "README.md").is_file():
        raise RepositoryError(f"The folder {folder} has no README.md: a repository is shared with its card.")
    resolve(folder, read_json(folder / "model_index.json"))
    try:
        ModelCard.load(folder / "README.md")
    except (ValueError, yaml.YAMLError) as error:
        raise RepositoryError(f"The card {folder / 'README.md'} is not valid: {first_line(error)}.") from error
    api = HfApi(token=token)
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id,
            folder_path=folder,
            allow_patterns=repo_files(folder),
            commit_message="Upload with genhub",
            revision=revision,
        )
    except HFValidationError as error:
        raise RepositoryError(f"`repo_id` must be user/name: {error}") from error
    except Exception as error:  # the client raises errors of several HTTP libraries, which change with its version
        raise RepositoryError(
            f"Could not upload to {repo_id} ({first_line(error)}). "
            "Check the network and the token (`hf auth login`, `HF_TOKEN`)."
        ) from error
    return str(url)
