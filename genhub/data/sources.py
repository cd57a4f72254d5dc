"""Finding and opening data sets: of the Hub, of a folder, in the package. Every failure is one clear sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genhub.data.config import DataConfig

ALTERNATIVES = (
    "Check the name and the network, or use `sample` (in the package), a local folder of parquet files or images, "
    "or the four idx files."
)


def open_dataset(folder: Path, split: str, config: DataConfig):
    """Opens a split of a local folder or of the Hub, undecoded, and turns every failure into one clear sentence."""
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
    with one_clear_error(folder, config):
        opened = load_dataset(source, streaming=config.streaming)
    assert isinstance(opened, DatasetDict | IterableDatasetDict)
    if split not in opened:
        raise ValueError(f"The data set {config.source} has no split {split!r}, only {', '.join(opened)}.")
    return opened[split]


@contextmanager
def one_clear_error(folder: Path, config: DataConfig) -> Iterator[None]:
    """Turns what the loaders raise, a dozen classes of datasets, hub, httpx, pyarrow and fsspec, into a sentence."""
    try:
        yield
    except Exception as error:
        if "corresponds to no data" in str(error):  # what `datasets` says of a split without rows
            raise ValueError(f"The data set {config.source} has no image.") from error
        cause = (str(error.__cause__ or error).strip() or repr(error)).splitlines()[0]
        if folder.exists() and (bad := _unreadable_parquet(folder)):
            raise ValueError(f"{bad} is not a readable parquet file ({cause}).") from error
        raise ValueError(
            f"Could not load the data set {config.source} ({type(error).__name__}: {cause}). {ALTERNATIVES}"
        ) from error


def _unreadable_parquet(folder: Path) -> Path | None:
    """Returns the first parquet file under `folder` that does not open, if any."""
    import pyarrow
    from pyarrow import parquet

    for path in sorted(folder.rglob("*.parquet")):
        try:
            parquet.ParquetFile(path).read()
        except (pyarrow.ArrowException, OSError):
            return path
    return None


def find_columns(features, source: str) -> tuple[str, str | None]:
    """Returns the names of the image column and of the label column (or None)."""
    from datasets import ClassLabel, Image, Value

    features = features or {}  # a stream may not know them, of a kind of file that holds no images
    images = [name for name, kind in features.items() if isinstance(kind, Image)]
    if not images:
        others = f", only {', '.join(features)}" if features else ""
        raise ValueError(f"The data set {source} has no image column{others}.")
    labels = [name for name, kind in features.items() if isinstance(kind, ClassLabel)]
    plain = features.get("label")
    if not labels and isinstance(plain, Value) and plain.dtype.startswith(("int", "uint")):
        labels = ["label"]
    return images[0], labels[0] if labels else None
