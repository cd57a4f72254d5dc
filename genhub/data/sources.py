"""Opens data sets from the Hub, from a folder or from the package; every failure is one clear sentence."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from genhub.data.config import DataConfig
from genhub.data.decode import File
from genhub.utils.spelling import did_you_mean

SAMPLE = Path(__file__).parent.parent / "sample"
ALTERNATIVES = (
    "Check the name and the network, or use `sample` (in the package), a local folder of parquet files or images, "
    "or the four idx files."
)


def source_folder(config: DataConfig) -> Path:
    """Returns the folder that `config.source` names; it need not exist, since a Hub id looks the same."""
    return SAMPLE if config.source == "sample" else Path(config.source).expanduser()


def open_dataset(folder: Path, split: str, config: DataConfig):
    """Opens a split of a local folder or of a Hub data set by `datasets`.

    Raises:
        ValueError: the source does not exist, cannot be read or reached, or lacks the split.
    """
    from datasets import DatasetDict, IterableDatasetDict, load_dataset

    source = str(folder)
    if not folder.exists():
        if config.source.startswith((".", "/", "~")) or config.source.count("/") > 1:
            raise ValueError(
                f"`data.source` must be an existing folder or a Hub id, got {config.source!r}. {ALTERNATIVES}"
            )
        source = config.source
    elif folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
        raise ValueError(f"The folder {folder} holds no file. {ALTERNATIVES}")
    elif folder.is_file():
        raise ValueError(f"`data.source` must be a folder, got the file {folder}.")
    with explain_errors(folder, config):
        splits = load_dataset(source, streaming=config.streaming)
    assert isinstance(splits, DatasetDict | IterableDatasetDict)
    if split not in splits:
        raise ValueError(f"The data set {config.source} has no split {split!r}, only {', '.join(map(str, splits))}.")
    return splits[split]


def disable_decoding(dataset, image_column: str) -> Any:
    """Makes `dataset` give image files in place of PIL images."""
    from datasets import Image, IterableDataset

    if isinstance(dataset, IterableDataset):
        return dataset.decode(False)  # a cast would not undo the decoding that image files of the Hub come with
    return dataset.cast_column(image_column, Image(decode=False))


def count_images(dataset, image_column: str, folder: Path, config: DataConfig) -> int:
    """Returns the number of rows; a local stream that does not state it is read to its end.

    Raises:
        ValueError: a stream from the Hub does not state it.
    """
    if not config.streaming:
        return len(dataset)
    info = (dataset.info.splits or {}).get(str(dataset.split))
    if info and info.num_examples is not None:
        return info.num_examples
    if not folder.exists():
        raise ValueError(f"`data.streaming` must be off: {config.source} does not say how many images it has.")
    with explain_errors(folder, config):
        return sum(len(rows[image_column]) for rows in dataset.iter(1000))


def find_columns(features, source: str) -> tuple[str, str | None]:
    """Returns the names of the image column and of the label column, None if there are no labels.

    Raises:
        ValueError: there is no image column.
    """
    from datasets import ClassLabel, Image, Value

    images = [name for name, kind in features.items() if isinstance(kind, Image)]
    if not images:
        others = f", only {', '.join(features)}" if features else ""
        raise ValueError(f"The data set {source} has no image column{others}.")
    labels = [name for name, kind in features.items() if isinstance(kind, ClassLabel)]
    label = features.get("label")
    if not labels and isinstance(label, Value) and label.dtype.startswith(("int", "uint")):
        labels = ["label"]
    return images[0], labels[0] if labels else None


def check_text_column(features, column: str) -> None:
    """Raises ValueError if `column` is none of texts."""
    from datasets import Value

    texts = [name for name, kind in features.items() if isinstance(kind, Value) and kind.dtype.endswith("string")]
    if column not in texts:
        found = f"a column of texts ({', '.join(texts)})" if texts else "left out: there is no column of texts"
        raise ValueError(f"`data.captions` must be templates or {found}, got {column!r}{did_you_mean(column, texts)}.")


def read_column(column) -> list[File]:
    """Returns the files of an Arrow image column, a chunked array of structs (bytes, path), as views of its memory; a
    cell without bytes is read from its path."""
    import pyarrow

    files: list[File] = []
    for chunk in column.chunks:
        contents = chunk.field("bytes")
        if contents.null_count:
            files += map(read_file, contents.to_pylist(), chunk.field("path").to_pylist())
            continue
        contents = contents.cast(pyarrow.large_binary())  # 64-bit offsets
        _, offsets, content = contents.buffers()
        bounds = np.frombuffer(offsets, np.int64)[contents.offset :][: len(contents) + 1].tolist()
        view = memoryview(content or b"")
        files += [view[start:stop] for start, stop in itertools.pairwise(bounds)]
    return files


def read_file(content: bytes | None, path: str | None) -> bytes:
    """Returns the image file that a cell of an image column holds or points to, empty if there is neither."""
    if content is not None or path is None:
        return content or b""
    if "://" not in path:
        return Path(path).read_bytes()
    import fsspec  # a file of the Hub, streamed

    with cast(Any, fsspec.open(path, "rb")) as file:  # annotated as a list of files
        return file.read()


@contextmanager
def explain_errors(folder: Path, config: DataConfig) -> Iterator[None]:
    """Turns what the loaders raise, a dozen classes of datasets, hub, httpx, pyarrow and fsspec, into a ValueError."""
    try:
        yield
    except Exception as error:
        if "corresponds to no data" in str(error):  # the message of `datasets` for a split without rows
            raise ValueError(f"The data set {config.source} has no image.") from error
        cause = (str(error.__cause__ or error).strip() or repr(error)).splitlines()[0]
        if folder.exists() and (path := _unreadable_parquet(folder)):
            raise ValueError(f"{path} is not a readable parquet file ({cause}).") from error
        raise ValueError(
            f"Could not load the data set {config.source} ({type(error).__name__}: {cause}). {ALTERNATIVES}"
        ) from error


def _unreadable_parquet(folder: Path) -> Path | None:
    """Returns the first parquet file under `folder` that cannot be read, if any."""
    import pyarrow
    from pyarrow import parquet

    for path in sorted(folder.rglob("*.parquet")):
        try:
            parquet.ParquetFile(path).read()
        except (pyarrow.ArrowException, OSError):
            return path
    return None
