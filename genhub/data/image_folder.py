"""A folder of images as a data set.

1. An image is a file with the extension of one, at any depth. Hidden files and folders, whose names begin
   with a dot, do not count. Links are followed.
2. If all folders at the top are named after splits (`train`, `test`, `val` and their like), one of them for training,
   they are the splits.
3. The folders of a split, or those at the top, are the classes, numbered in natural order: 2 before 10. A single
   folder is no class: it stands for its content.
4. `metadata.csv`, `.jsonl` or `.parquet`, at the top or in the folder of a split, has a row for each image there: its
   `file_name`, and further columns.

Nothing else has a meaning, and the name of a file least of all.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from genhub.utils.reading import DEEPEST, SURROGATE, one_line
from genhub.utils.spelling import shorten

SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev"),
}
SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
FOLDER_COLUMN = "folder"  # of the classes
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NOT_PICTURES = {".bufr", ".grib", ".h5", ".hdf", ".mpg", ".mpeg", ".pdf"}  # which Pillow lists, and cannot open
MOST_COLUMNS = 1000  # of metadata
MOST_ROWS = 10**6  # of metadata beyond those of the images, and kilobytes of them
MOST_LINKS = 100  # to one folder: links to folders of links make a tree without end
PHOTOGRAPHS = {".heic", ".heif", ".jxl", ".svg", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"}


def extensions() -> frozenset[str]:
    """Returns the extensions of image files that Pillow opens, in lower case."""
    known = Image.registered_extensions()  # which loads all plugins
    return frozenset(name for name, kind in known.items() if kind in Image.OPEN) - NOT_PICTURES


def walk(folder: Path, above: tuple[Path, ...] = (), met: Counter[Path] | None = None) -> Iterator[Path]:
    """Yields the files under `folder`, sorted, without hidden ones.

    Args:
        met: folders, and how often links have led to them.

    Raises:
        ValueError: a link leads back to a folder above it, or nowhere; a folder lies deeper than a person would put
            it, or more links lead to it; or a name is not in UTF-8.
    """
    real, met = folder.resolve(), Counter() if met is None else met
    met[real] += 1
    if real in above:
        raise ValueError(f"The link {folder} must not lead back to the folder {real} above it.")
    if len(above) > DEEPEST or met[real] > MOST_LINKS:
        raise ValueError(f"{folder} must be at most {DEEPEST} folders deep, with at most {MOST_LINKS} links to it.")
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__MACOSX":
            continue
        if SURROGATE.search(path.name):
            raise ValueError(f"{path} must have a name in UTF-8.")
        if path.is_dir():
            yield from walk(path, (*above, real), met)
        elif path.is_file():
            yield path
        else:
            raise ValueError(f"{path} must be a file or a folder, or a link to one that exists.")


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Returns a key that sorts numbers in names by their value, 2 before 10, and before words."""
    parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
    return [*parts, (-1, 0, name)]  # 02 before 2, whatever the order of a set


def images_of(files: Iterable[Path]) -> list[Path]:
    """Returns the images among files, also those of a format that only a plug-in of Pillow opens."""
    known = extensions() | PHOTOGRAPHS
    return [path for path in files if path.suffix.lower() in known]


def top_of(folder: Path, paths: Sequence[Path]) -> Path:
    """Returns the folder that branches: a single folder, without images beside it, stands for its content."""
    tops = {path.relative_to(folder).parts[0] for path in paths}
    if len(tops) == 1 and (single := folder / tops.pop()).is_dir():
        return top_of(single, paths)
    return folder


def by_class(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Returns the class of each of the images under a folder, [] where they have none.

    Raises:
        ValueError: some lie in folders, some beside them.
    """
    names = [path.relative_to(folder).parts[0] if path.parent != folder else "" for path in paths]
    folders = sorted({*names} - {""}, key=natural_key)
    if folders and "" in names:
        beside = shorten([path.name for path, name in zip(paths, names, strict=True) if not name])
        raise ValueError(
            f"The images of {folder} must lie all in folders, a class each, or all in none: {beside} beside "
            f"{shorten(folders)}."
        )
    return names if folders else []


def splits_of(folder: Path, paths: Sequence[Path]) -> dict[str, Path]:
    """Returns the folders of the splits: `folder` itself is for training unless all in it are named after splits."""
    tops = {path.relative_to(folder).parts[0] for path in paths}
    found = {top: SPLIT_OF.get(top.lower(), "") for top in tops if (folder / top).is_dir()}
    names = {*found.values()}
    if len(names) < len(tops) or "" in names or "train" not in names:
        return {"train": folder}
    return {split: folder / top for top, split in found.items()}


def _common_folder(splits: dict[str, Path], own: dict[str, list[Path]]) -> str:
    """Returns the folder of all images in all splits, as in train/images and test/images, "" if there is none."""
    found = {path.relative_to(splits[split]).parts[:-1][:1] for split, paths in own.items() for path in paths}
    first = found.pop()
    return first[0] if first and not found else ""


def read_image_folder(folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """Reads the images `paths` under a folder to a data set of `datasets` for each split, with undecoded images.

    Raises:
        ValueError: the folder does not follow the rule above, or its metadata do not fit its images.
    """
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    splits = splits_of(top := top_of(folder, paths), paths)
    own = {split: [path for path in paths if path.is_relative_to(part)] for split, part in splits.items()}
    while single := _common_folder(splits, own):
        splits = {split: part / single for split, part in splits.items()}
    classes = {split: by_class(part, own[split]) for split, part in splits.items()}
    names = sorted({name for found in classes.values() for name in found}, key=natural_key)
    if names and not all(classes.values()):
        raise ValueError(f"The splits of {folder} must all have folders of classes, or none.")
    datasets, home = {}, folder.resolve()  # whatever the working folder will be
    for split, part in splits.items():
        metadata = read_metadata({folder, top, part}, own[split])
        columns: dict[str, list] = {"image": [str(home / path.relative_to(folder)) for path in own[split]]} | metadata
        features = Features({"image": ImageFeature(decode=False)} | features_of(metadata, part))
        if len(names) > 1:
            columns[FOLDER_COLUMN], features[FOLDER_COLUMN] = classes[split], ClassLabel(names=names)
        datasets[split] = Dataset.from_dict(columns, features=features)
    return datasets


def features_of(metadata: dict[str, list], folder: Path) -> dict[str, Any]:
    """Returns what the columns of metadata hold.

    Raises:
        ValueError: the cells of a column are of several kinds.
    """
    from datasets import Dataset
    from pyarrow import ArrowException

    try:
        return dict(Dataset.from_dict(metadata).features)
    except (ArrowException, OverflowError) as error:
        raise ValueError(f"The metadata of {folder} must be of one kind in each column: {one_line(error)}.") from error


def read_metadata(folders: set[Path], paths: Sequence[Path]) -> dict[str, list]:
    """Reads the columns of the file of metadata in one of `folders`, in the order of `paths`.

    Raises:
        ValueError: there are several such files, it cannot be read, or it does not have one row for each image.
    """
    files = [folder / name for folder in sorted(folders) for name in METADATA if (folder / name).is_file()]
    if not files:
        return {}
    if len(files) > 1:
        raise ValueError(f"The metadata must be in one file, got {shorten([str(file) for file in files])}.")
    return _columns(files[0], paths)


def _lies_in(folder: Path, name: str) -> bool:
    """Whether a name is that of a file in a folder, at any depth."""
    path = folder / name
    return path.is_relative_to(folder) and ".." not in path.parts[len(folder.parts) :] and path.is_file()


def _columns(file: Path, paths: Sequence[Path]) -> dict[str, list]:
    """Reads the columns of a file of metadata, in the order of `paths`."""
    import pandas
    from pyarrow import parquet

    read = {
        ".csv": lambda: pandas.read_csv(file, keep_default_na=False, na_values=[""], dtype={"file_name": str}),
        ".jsonl": lambda: pandas.read_json(file, lines=True, dtype={"file_name": str}),
        ".parquet": lambda: pandas.read_parquet(file),
    }
    rows = 0
    try:
        if file.suffix == ".parquet":
            rows = parquet.read_metadata(file).num_rows
        if max(rows - len(paths), file.stat().st_size / 2**10) > MOST_ROWS:
            raise ValueError(f"it has {rows:,} rows and {file.stat().st_size:,} bytes for {len(paths):,} images")
        table = read[file.suffix]()
    except Exception as error:  # pandas raises a dozen classes
        raise ValueError(f"{file} is not readable ({one_line(error)}).") from error
    if table.shape[1] > MOST_COLUMNS:
        raise ValueError(f"{file} must have at most {MOST_COLUMNS:,} columns, got {table.shape[1]:,}.")
    if "file_name" not in table or {"image", FOLDER_COLUMN} & {*table}:
        raise ValueError(f"{file} must have a column file_name, and none called image or {FOLDER_COLUMN}.")
    names = [path.relative_to(file.parent).as_posix() for path in paths]
    table = table.convert_dtypes().set_index("file_name")
    for problem, wrong in (
        ("must have one row for each image, got several for", table.index[table.index.duplicated()]),
        ("must have a row for each image, got none for", sorted({*names} - {*table.index})),
        ("must name files of its folder, got", [name for name in table.index if not _lies_in(file.parent, str(name))]),
    ):
        if len(wrong):
            raise ValueError(f"{file} {problem} {shorten(list(wrong))}.")
    table = table.loc[names].astype(object)
    return {str(name): column.where(column.notna(), None).tolist() for name, column in table.items()}
