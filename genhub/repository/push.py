"""Sharing a saved repository on the Hub: what its index names, and nothing that this machine should keep to itself."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HFValidationError

from genhub.repository.card_results import parse_card
from genhub.repository.download import download
from genhub.repository.exported import exported_files
from genhub.repository.format import (
    PARTS,
    RepositoryError,
    component_files,
    member,
    repo_files,
)
from genhub.repository.index import read_index
from genhub.repository.load import resolve
from genhub.utils.network import connect
from genhub.utils.reading import one_line, read_text

BINARY = (".gif", ".model", ".onnx", ".png", ".pt2", ".safetensors")


def push(
    folder: str | os.PathLike,
    repo_id: str,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> str:
    """Uploads a saved repository to the Hub, after listing its files with their sizes, and returns its address.

    Args:
        folder: what `save_repo` and `export` wrote there is uploaded, and the pictures that the card shows, nothing
            else: regular files in it, whose texts do not name your home or working folder.
        token: the one of `hf auth login` or `HF_TOKEN` if not given.
        dry_run: check and list only; nothing is sent.

    Raises:
        RepositoryError: the folder is not a saved repository, its card is not valid, or a file is not to be shared,
            before anything is sent; there is no valid token, or the Hub cannot be reached.
    """
    folder = download(folder)
    if not (folder / "README.md").is_file():
        raise RepositoryError(f"The folder {folder} has no README.md: a repository is shared with its card.")
    names = [*files_to_push(folder), *exported_files(folder)]
    resolve(folder, read_index(folder))
    try:
        parse_card(read_text(folder / "README.md"))
    except ValueError as error:
        raise RepositoryError(f"The card {folder / 'README.md'} is not valid: {one_line(error)}.") from error
    check_texts(folder, names)
    print(*listing(folder, names), sep="\n", file=sys.stderr)
    api = HfApi(token=token)
    if dry_run:
        return f"{api.endpoint}/{repo_id}"
    files = [CommitOperationAdd(name, str(member(folder, name))) for name in names]
    with uploading(repo_id):
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.create_commit(url.repo_id, files, commit_message="Upload with genhub", revision=revision)
    return str(url)


@contextmanager
def uploading(repo_id: str) -> Iterator[None]:
    """Connects to the Hub for the block, which uploads.

    Raises:
        RepositoryError: there is no valid token, `repo_id` is no name, or the Hub cannot be reached.
    """
    connect()
    try:
        yield
    except HFValidationError as error:
        raise RepositoryError(f"`repo_id` must be user/name: {error}") from error
    except Exception as error:  # the client raises errors of several HTTP libraries, which change with its version
        raise RepositoryError(
            f"Could not upload to {repo_id} ({one_line(error)}). "
            "Check the network and the token (`hf auth login`, `HF_TOKEN`)."
        ) from error


def files_to_push(folder: Path) -> list[str]:
    """Returns the files of a repository that its index names, the documents and the pictures of the card.

    Raises:
        RepositoryError: one of them is no regular file, or a link that leads out of the repository.
    """
    index, names = read_index(folder), repo_files(folder)
    own = index.get("_genhub", {})
    known = own.get("sha256", {}).keys() | own.get("texts", {}).keys()
    for name in component_files(folder, index):
        if name not in known and ("_genhub" in index or not PARTS.fullmatch(name.partition("/")[2])):
            names.remove(name)
    for name in names:
        member(folder, name)
    return names


def listing(folder: Path, names: list[str]) -> list[str]:
    """Returns lines that say which files are uploaded, with their sizes, and which are left out."""
    sizes = {name: (folder / name).stat().st_size for name in names}
    lines = [f"{size:>15,} {name}" for name, size in sizes.items()]
    left_out = sorted({*component_files(folder, read_index(folder))} - {*names})
    lines.append(f"{sum(sizes.values()):>15,} bytes in {len(sizes)} files")
    return lines + [f"left out, as model_index.json does not name them: {', '.join(left_out)}"] * bool(left_out)


def check_texts(folder: Path, names: list[str]):
    """Checks that no text names a folder of this machine.

    Raises:
        RepositoryError: the path of the home, of the working folder or of the repository occurs, with two parts or
            more.
    """
    home = Path(os.path.expanduser("~"))
    places = {home, Path.cwd(), folder.absolute(), *(path.resolve() for path in (home, folder))}
    forms = {str(place) for place in places if len(place.parts) > 2}
    forms |= {json.dumps(form)[1:-1] for form in forms}
    paths = re.compile(
        "|".join(rf"{re.escape(form)}(?![\w-])" for form in sorted(forms, key=len, reverse=True)) or "(?!)"
    )
    for name in names:
        if name.endswith(BINARY):
            continue
        try:
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RepositoryError(f"{folder / name} cannot be read: {one_line(error)}.") from error
        for number, line in enumerate(lines, 1):
            if found := paths.search(line):
                raise RepositoryError(
                    f"{folder / name}, line {number}, names a folder of this machine, {found[0]}: remove it before "
                    "the file is shared."
                )
