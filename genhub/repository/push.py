"""Sharing a saved repository on the Hub."""

import os
import re
from pathlib import Path

import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HFValidationError

from genhub.repository.load import RepositoryError, download, first_line, read_json, resolve

DOCUMENTS = ("README.md", "recipe.yaml", "metrics.json")
PICTURE = re.compile(r"\]\(([^)/]+\.(?:png|gif))\)")  # of a card, beside it


def repo_files(folder: Path) -> list[str]:
    """Returns the files of a saved repository, relative to it: what is shared, and not what training left beside
    it."""
    index = read_json(folder / "model_index.json")
    components = [name for name, entry in index.items() if isinstance(entry, list) and not name.startswith("_")]
    inside = [
        path
        for name in components
        for path in (folder / name).rglob("*")
        if path.suffix in (".json", ".safetensors", ".py")
    ]
    beside = [folder / name for name in ("model_index.json", *DOCUMENTS) if (folder / name).is_file()]
    card = folder / "README.md"
    shown = {folder / name for name in PICTURE.findall(card.read_text() if card.is_file() else "")}
    beside += [path for path in folder.iterdir() if path.suffix == ".py" or path in shown]
    return sorted(path.relative_to(folder).as_posix() for path in [*beside, *inside])


def push(folder: str | os.PathLike, repo_id: str, private: bool = False, revision: str | None = None) -> str:
    """Uploads a saved repository to the Hub and returns its address.

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
        first = str(error).splitlines()[0]
        raise RepositoryError(f"The card {folder / 'README.md'} is not valid: {first}.") from error
    api = HfApi()
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
