"""Opens data sets from the Hub, from a folder or from the package; every failure is one clear sentence."""

import glob
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from huggingface_hub import hf_hub_download

from genhub.data.config import DataConfig
from genhub.data.decode import File
from genhub.data.image_folder import METADATA, SPLIT_OF, images_of, read_image_folder, walk
from genhub.data.paths import CARDS, check_card, check_saved, check_tables, read_file
from genhub.utils.blobs import fits_its_name, repo_cache
from genhub.utils.files import expanded
from genhub.utils.network import CONNECTION, connect
from genhub.utils.reading import LARGEST_LOG

logger = logging.getLogger(__name__)
SAMPLE = Path(__file__).parent.parent / "sample"
ARCHIVES = (".zip", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst", ".lz4")
TEXTS = (".csv", ".json", ".jsonl", ".ndjson", ".tsv", ".txt", ".xml")
ALTERNATIVES = (
    "Check the name and the network, or use `sample` (in the package), a local folder of parquet files or images, "
    "or the four idx files."
)


def source_folder(config: DataConfig) -> Path:
    """Returns the folder that `config.source` names; it need not exist, since a Hub id looks the same."""
    return SAMPLE if config.source == "sample" else expanded(config.source)


def open_splits(config: DataConfig) -> dict[str, Any]:
    """Opens the splits train, val and test, as far as they are there, of a local folder or of a Hub data set.

    Raises:
        ValueError: the source does not exist, cannot be read or reached, or has no split to train on.
    """
    folder = source_folder(config)
    if not folder.exists() and (config.source.startswith((".", "/", "~")) or config.source.count("/") > 1):
        raise ValueError(
            f"`data.source` must be an existing folder or a Hub id, got {config.source!r}. {ALTERNATIVES}"
        )
    if folder.is_file():
        raise ValueError(f"`data.source` must be a folder or an .npz archive, got {_kind_of_file(folder)}.")
    splits = _open_folder(folder, config) if folder.is_dir() else _load(config.source, config)
    known = {SPLIT_OF[key]: split for name, split in splits.items() if (key := str(name).lower()) in SPLIT_OF}
    if "train" not in known:
        raise ValueError(f"The data set {config.source} has no split 'train', only {', '.join(map(str, splits))}.")
    return known


def _open_folder(folder: Path, config: DataConfig) -> Mapping[Any, Any]:
    """Opens a folder: of `save_to_disk`, of parquet files, of images, or of what else `datasets` reads."""
    from datasets import load_from_disk

    files = [*walk(folder)]
    if not files:
        raise ValueError(f"The folder {folder} holds no file. {ALTERNATIVES}")
    names = {path.name for path in files if path.parent == folder}
    if names & {"dataset_dict.json", "state.json"}:
        check_saved(folder)
        with explain_errors(folder, config):
            saved = load_from_disk(str(folder))
            for split in saved.values() if isinstance(saved, Mapping) else [saved]:
                split.data.table.validate(full=True)  # offsets that lead out of a buffer
        return saved if isinstance(saved, Mapping) else {"train": saved}
    if names & {"batches.meta", "data_batch_1"} or {"train", "test", "meta"} <= names:
        raise ValueError(f"{folder} holds CIFAR in pickles, which may run code; use `uoft-cs/cifar10` of the Hub.")
    images = images_of(files)
    if not images or any(path.suffix == ".parquet" and path.name not in METADATA for path in files):
        _check_texts(files, config)
        check_tables((path for path in files if path.suffix == ".parquet"), config.memory_limit_gb)
        if glob.has_magic(str(folder)):
            raise ValueError(f"The path of a folder of tables must be without *, ? and [, got {folder}.")
        return _load(str(folder), config)
    return read_image_folder(folder, images)


def _load(source: str, config: DataConfig) -> Mapping[Any, Any]:
    from datasets import load_dataset

    folder, hub = source_folder(config), connect()
    if not folder.exists():
        _prepare_hub(config)
    for card in (folder / name for name in CARDS):
        if card.is_file():
            check_card(card)
    with explain_errors(folder, config):
        loaded = cast(Mapping, load_dataset(source, streaming=config.streaming))
    if hub.failure is not None:
        logger.warning("The copy of %s in the cache is used: %s.", config.source, hub.failure)
    return loaded


def _prepare_hub(config: DataConfig) -> None:
    """Checks the card of a data set of the Hub, and removes the files of the cache that do not fit their hashes, so
    that they are downloaded again; sets that do not fit into memory are not read for that."""
    for name in CARDS:
        try:
            card = hf_hub_download(config.source, name, repo_type="dataset")
        except Exception:  # of several HTTP libraries; `datasets` meets it again and explains it
            continue
        check_card(Path(card))
    blobs = [path for path in repo_cache(config.source, "dataset").glob("blobs/*") if path.is_file()]
    if sum(path.stat().st_size for path in blobs) > config.memory_limit_gb * 2**30:
        return
    for blob in blobs:
        if not fits_its_name(blob):
            logger.warning("A file of %s is damaged in the cache, and is downloaded again.", config.source)
            blob.unlink()


def _check_texts(files: Sequence[Path], config: DataConfig) -> None:
    """Refuses archives, whose content has no limit, and texts that are larger than any table of images."""
    for path in files:
        if path.suffix.lower() in ARCHIVES:
            raise ValueError(f"`data.source` must be a folder without archives, got {_kind_of_file(path)}.")
    size = sum(path.stat().st_size for path in files if path.suffix.lower() in TEXTS)
    if size > max(config.memory_limit_gb * 2**30, LARGEST_LOG):
        raise ValueError(
            f"The texts of {config.source} have {size / 2**30:.1f} GB, more than `data.memory_limit_gb`, "
            f"{config.memory_limit_gb}."
        )


def _kind_of_file(path: Path) -> str:
    """Returns the name of a file, and what to do with one of its kind."""
    remedies = {
        (*ARCHIVES, ".tar"): "the archive {path}; unpack it",
        (".pt", ".pth", ".pkl", ".pickle", ".mat", ".h5", ".hdf5", ".npy", ".tfrecord"): "{path}; save its images as "
        "uint8 (N, H, W, C) by `numpy.savez(FILE, images=..., labels=...)`",
        (".parquet", ".arrow", ".csv", ".jsonl"): "{path}; name the folder that it lies in",
    }
    found = [remedy for kinds, remedy in remedies.items() if path.suffix.lower() in kinds]
    return (found or ["the file {path}"])[0].format(path=path)


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


def read_column(column, config: DataConfig) -> list[File]:
    """Returns the files of an Arrow image column, a chunked array of structs (bytes, path), as views of its memory; a
    cell without bytes is read from its path.

    Raises:
        ValueError: a path does not lie in the data set, or cannot be read.
    """
    import pyarrow

    files: list[File] = []
    for chunk in column.chunks:
        contents = chunk.field("bytes")
        if contents.null_count:
            cells = zip(contents.to_pylist(), chunk.field("path").to_pylist(), strict=True)
            files += [read_file(content, path, config, source_folder(config)) for content, path in cells]
            continue
        contents = contents.cast(pyarrow.large_binary())  # 64-bit offsets
        _, offsets, content = contents.buffers()
        bounds = np.frombuffer(offsets, np.int64)[contents.offset :][: len(contents) + 1].tolist()
        view = memoryview(content or b"")
        files += [view[start:stop] for start, stop in itertools.pairwise(bounds)]
    return files


@contextmanager
def explain_errors(folder: Path, config: DataConfig) -> Iterator[None]:
    """Turns what the loaders raise, a dozen classes of datasets, hub, httpx, pyarrow and fsspec, into a ValueError."""
    try:
        yield
    except Exception as error:
        if "corresponds to no data" in str(error):  # the message of `datasets` for a split without rows
            raise ValueError(f"The data set {config.source} has no image.") from error
        failure = None if folder.exists() else CONNECTION.failure
        cause = (str(failure or error.__cause__ or error).strip() or repr(error)).splitlines()[0]
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
