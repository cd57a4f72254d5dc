"""Which files a data set may name: regular ones of its own folder or of its own repository of the Hub.

A data set may be a stranger's. What its cells, its card and its lists of files name is read only if it lies, by its
name, in the folder of the data set; links in that folder are its owner's, and are followed. Nothing is fetched but
files of the repository that is streamed.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, cast

import yaml
from pyarrow import ArrowException, parquet

from genhub.data.config import DataConfig
from genhub.utils.blobs import repo_cache
from genhub.utils.reading import DEEPEST, FileError, read_bytes, read_json, read_text

LARGEST_IMAGE = 2**30  # bytes of an encoded image
LARGEST_CARD = 2**20
MOST_SHRUNK = 100  # what compression makes of images, at most
CARDS = ("README.md", ".huggingface.yaml")  # in which `datasets` reads which files are the data


def read_file(content: bytes | None, path: str | None, config: DataConfig, folder: Path) -> bytes:
    """Returns the image file that a cell of an image column holds or points to, empty if there is neither.

    Args:
        folder: of the data set; it does not exist for one of the Hub.

    Raises:
        ValueError: the file lies outside the data set, is not regular, or cannot be read.
    """
    if content is not None or path is None:
        return content or b""
    if "://" in path and not folder.is_dir():
        return _read_streamed(path, config)
    try:
        return read_bytes(_inside(path, config, folder), LARGEST_IMAGE)
    except FileError as error:
        raise ValueError(f"The image {path!r} of {config.source}: {error}.") from error


def _inside(path: str, config: DataConfig, folder: Path) -> Path:
    """Returns the path that a cell names; raises ValueError if it does not lie in the data set."""
    from datasets import config as settings

    if folder.is_dir():
        roots = [folder.resolve(), Path(os.path.abspath(folder))]  # the latter as `datasets` names its files
        full = roots[0] / path
    else:
        roots = [repo_cache(config.source, "dataset").absolute(), Path(settings.HF_DATASETS_CACHE, "downloads")]
        full = Path(path)
    is_clean = "\0" not in path and ".." not in full.parts and "://" not in path
    if not (is_clean and any(full.is_relative_to(root) for root in roots)):
        raise ValueError(
            f"The data set {config.source} names the image {path!r}, which does not lie in it; keep images "
            "in the folder of the data set, or their content in its cells."
        )
    return full


def _read_streamed(path: str, config: DataConfig) -> bytes:
    """Reads a file of the repository that is streamed, maybe one in an archive of it."""
    own = rf"(zip://[^:]*::)?hf://datasets/{re.escape(config.source)}(@[\w.-]+)?/[^:]+"
    if not config.streaming or not re.fullmatch(own, path) or ".." in PurePosixPath(path).parts:
        raise ValueError(f"The data set {config.source} names the image {path!r}, which is none of its files.")
    import fsspec

    try:
        with cast(Any, fsspec.open(path, "rb")) as file:  # annotated as a list of files
            return file.read(LARGEST_IMAGE)
    except OSError as error:
        raise ValueError(f"The image {path!r} of {config.source} cannot be read ({error}).") from error


def check_card(path: Path) -> None:
    """Raises ValueError if the card of a data set names files outside its folder, or holds aliases of YAML."""
    text = read_text(path, LARGEST_CARD)
    if path.suffix == ".md":
        text = text.removeprefix("---\n").partition("\n---")[0] if text.startswith("---\n") else ""
    try:
        depth = 0
        for event in yaml.parse(text, yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
                raise ValueError(f"{path} must hold no alias of YAML, and nothing nested more than {DEEPEST} deep.")
        content = yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"The card {path} is not valid ({' '.join(str(error).split())}).") from error
    configs = content.get("configs") if isinstance(content, dict) else None
    for entry in configs if isinstance(configs, list) else []:
        for key in ("data_files", "data_dir"):
            for name in _words(entry.get(key) if isinstance(entry, dict) else None):
                if _leads_out(name):
                    raise ValueError(f"{path} must name files of its data set, got {name!r}.")


def check_tables(files: Iterable[Path], limit: float) -> None:
    """Raises ValueError if a parquet file, without its compression, is larger than `limit` GB and than any images."""
    for path in files:
        promised = 0
        with suppress(ArrowException, OSError):  # what cannot be read is named when it is loaded
            footer = parquet.read_metadata(path)
            promised = sum(footer.row_group(index).total_byte_size for index in range(footer.num_row_groups))
        if promised > max(limit * 2**30, MOST_SHRUNK * path.stat().st_size):
            raise ValueError(
                f"{path} holds {promised / 2**30:,.1f} GB in {path.stat().st_size / 2**20:,.1f} MB, more than "
                f"`data.memory_limit_gb`, {limit}."
            )


def check_saved(folder: Path) -> None:
    """Raises ValueError if the lists of files in a folder of `save_to_disk` name others than its own."""
    whole = folder / "dataset_dict.json"
    splits = _names(read_json(whole).get("splits"), whole) if whole.is_file() else [""]
    for split in splits:
        state = folder / split / "state.json"
        files = read_json(state).get("_data_files")
        if isinstance(files, list):
            files = [file.get("filename") if isinstance(file, dict) else file for file in files]
        _names(files, state)


def _names(names: Any, source: Path) -> list[str]:
    """Returns a list of names of files in one folder."""
    found = names if isinstance(names, list) else [names]
    for name in found:
        if not isinstance(name, str) or name != os.path.basename(name) or name in ("", ".", ".."):
            raise ValueError(f"{source} must name what lies beside it, got {name!r}.")
    return found


def _words(value: Any) -> list[str]:
    """Returns all texts in a value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [word for entry in value for word in _words(entry)]
    return [value] if isinstance(value, str) else []


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or "://" in name or "::" in name or name.startswith("~")
