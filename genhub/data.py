"""Any `datasets` image data set -> uint8 images -> batches in [-1, 1].

Order is a function of (seed, epoch), and batches follow one another through an endless stream of shuffled epochs, so a
place in the data is one position, or two integers: epoch and offset. Nothing is dropped; a batch may span two epochs.
"""

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.utils.data import DataLoader, IterableDataset

from genhub.decode import DecodeError, decode
from genhub.randomness import fold, keyed_generator

SAMPLE = Path(__file__).parent / "sample"
IDX_FILES = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}
ALTERNATIVES = (
    "Check the name and the network, or use `sample` (in the package), a local folder of parquet files or images, "
    "or the four idx files."
)


@dataclass
class DataConfig:
    """Which images, and in which shape.

    Args:
        source: `sample`, a Hub id, a folder of parquet files, of images (one subfolder a class) or of the four idx files.
        val_size: images at the end of the training split that are kept for validation.
        size: centre-crop and resize to this many pixels; None keeps the images as they are.
        channels: 1 or 3 to convert; None keeps grey grey and colour colour.
        streaming: read the data set while training instead of loading it first.
        memory_limit_gb: a larger set is decoded by `workers` processes while training.
        shuffle_buffer: images that a streamed set is shuffled within.
    """

    source: str = "zalando-datasets/fashion_mnist"
    val_size: int = 5000
    size: int | None = None
    channels: int | None = None
    streaming: bool = False
    memory_limit_gb: float = 4.0
    workers: int = 2
    shuffle_buffer: int = 10_000

    def __post_init__(self):
        if self.val_size < 0:
            raise ValueError(f"`data.val_size` must be at least 0, got {self.val_size}.")
        if self.size is not None and self.size < 1:
            raise ValueError(f"`data.size` must be at least 1, got {self.size}.")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"`data.channels` must be 1 or 3, got {self.channels}.")
        if self.workers < 1 or self.shuffle_buffer < 1:
            raise ValueError("`data.workers` and `data.shuffle_buffer` must be at least 1.")


@dataclass(frozen=True)
class Shape:
    """What a model has to fit: channels, height and width of the images, and the names of their classes."""

    channels: int
    height: int
    width: int
    class_names: tuple[str, ...] | None = None


@dataclass
class Images:
    """A data set in memory: `images` uint8 (N, C, H, W), `labels` int64 (N,) or None."""

    images: torch.Tensor
    labels: torch.Tensor | None = None
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> Shape:
        return Shape(*self.images.shape[1:], self.class_names)

    def __getitem__(self, part: slice) -> "Images":
        return Images(self.images[part], None if self.labels is None else self.labels[part], self.class_names)

    def batch(self, index: torch.Tensor | slice) -> dict[str, torch.Tensor]:
        """Returns `pixel_values` in [-1, 1] and `labels`, on the device that the images are on."""
        batch = {"pixel_values": to_model_range(self.images[index])}
        if self.labels is not None:
            batch["labels"] = self.labels[index]
        return batch

    def batches(self, batch_size: int, start: int, stride: int, seed: int, device) -> Iterator[dict]:
        """Yields without end the batches at positions `start`, `start + stride`, ... of the shuffled stream."""
        held = Images(self.images.to(device), None if self.labels is None else self.labels.to(device), self.class_names)
        order = Order(len(self), seed)
        while True:
            yield held.batch(order(start, batch_size).to(device))
            start += stride


class Order:
    """Maps positions of the endless stream to places in the data set, one permutation an epoch."""

    def __init__(self, length: int, seed: int):
        self.length, self.seed = length, seed
        self.epochs: dict[int, torch.Tensor] = {}

    def __call__(self, start: int, count: int) -> torch.Tensor:
        """Returns the places of positions `start`..`start + count - 1`, (count,)."""
        first, last = start // self.length, (start + count - 1) // self.length
        self.epochs = {epoch: self.epochs[epoch] for epoch in self.epochs if first <= epoch <= last}
        for epoch in range(first, last + 1):
            if epoch not in self.epochs:
                generator = keyed_generator("order", self.seed, epoch)
                self.epochs[epoch] = torch.randperm(self.length, generator=generator)
        stream = torch.cat([self.epochs[epoch] for epoch in range(first, last + 1)])
        return stream[start - first * self.length :][:count]


class Lazy(IterableDataset):
    """A data set that is decoded while training: too large for memory, or streamed.

    It has the interface of `Images`. Worker w of n makes every n-th batch, and a `DataLoader` asks its workers in turn, so
    the number of workers changes nothing. Every rank walks the whole stream and decodes its own part of it alone.
    """

    def __init__(self, rows, length: int, columns: tuple[str, str | None], config: DataConfig, class_names=None):
        self.rows, self.length, self.columns, self.config = rows, length, columns, config
        self.class_names = class_names
        self.plan: tuple[int, int, int, int] | None = None
        self.shape = self._to_images([next(iter(self._epoch(0, 0, 0)))]).shape

    def __len__(self) -> int:
        return self.length

    def batches(self, batch_size: int, start: int, stride: int, seed: int, device) -> Iterator[dict]:
        """Yields without end the batches at positions `start`, `start + stride`, ... of the shuffled stream."""
        self.plan = (batch_size, start, stride, seed)
        loader = DataLoader(self, batch_size=None, num_workers=self.config.workers, pin_memory=str(device) != "cpu")
        for images in loader:
            yield Images(
                images["images"].to(device, non_blocking=True),
                images["labels"].to(device) if "labels" in images else None,
                self.class_names,
            ).batch(slice(None))

    def __iter__(self):
        batch_size, start, stride, seed = self.plan
        worker = torch.utils.data.get_worker_info()
        torch.set_num_threads(1)
        position = start + worker.id * stride
        stride *= worker.num_workers
        epoch, offset = divmod(position, self.length)
        stream, at, batch = self._epoch(epoch, offset, seed), position, []
        while True:
            for row in stream:
                if at >= position:
                    batch.append(row)
                at += 1
                if len(batch) == batch_size:
                    images = self._to_images(batch)
                    yield {"images": images.images} | ({} if images.labels is None else {"labels": images.labels})
                    batch, position = [], position + stride
            epoch += 1
            stream = self._epoch(epoch, 0, seed)

    def _epoch(self, epoch: int, offset: int, seed: int):
        """Yields the rows of one epoch from `offset` on, undecoded, in an order that (seed, epoch) fixes."""
        if self.config.streaming:
            shuffled = self.rows.shuffle(seed=fold("order", seed, epoch) % 2**32, buffer_size=self.config.shuffle_buffer)
            yield from shuffled.skip(offset)
        else:
            for place in Order(self.length, seed)(epoch * self.length, self.length)[offset:].tolist():
                yield self.rows[place]

    def _to_images(self, rows: list[dict]) -> Images:
        image, label = self.columns
        encoded = [row[image]["bytes"] or Path(row[image]["path"]).read_bytes() for row in rows]
        try:
            pixels = decode(encoded, self.config.size, self.config.channels)
        except DecodeError as error:
            place = rows[error.index][image].get("path") or "an image of the data set"
            raise ValueError(f"{place} {error.reason}.") from error
        labels = None if label is None else torch.tensor([row[label] for row in rows])
        return Images(torch.from_numpy(pixels), labels, self.class_names)


def to_model_range(images: torch.Tensor) -> torch.Tensor:
    """Maps uint8 0..255 to float [-1, 1]: the one place where this is done."""
    return images.float().div_(127.5).sub_(1)


def load(config: DataConfig, split: str = "train") -> Images | Lazy:
    """Returns `split`: "train" (all but the last `val_size` of the training file), "val" (those) or "test".

    Raises:
        ValueError: the source does not exist, cannot be read or reached, is empty, or its images do not fit together.
    """
    if split not in ("train", "val", "test"):
        raise ValueError(f"`split` must be train, val or test, got {split!r}.")
    file_split = "test" if split == "test" else "train"
    folder = SAMPLE if config.source == "sample" else Path(config.source).expanduser()
    if (idx := _idx_files(folder, file_split)) is not None:
        everything = _load_idx(*idx, config)
    else:
        everything = _load_dataset(folder, file_split, config)
    if split == "test":
        return everything
    return _cut(everything, split, config.val_size)


def _cut(everything: Images | Lazy, split: str, val_size: int) -> Images | Lazy:
    """Returns the part of the training file that `split` names."""
    total = len(everything)
    if val_size >= total:
        raise ValueError(f"`data.val_size` must be below the {total} images of the training file, got {val_size}.")
    keep = slice(total - val_size, total) if split == "val" else slice(0, total - val_size)
    if isinstance(everything, Images):
        return everything[keep]
    rows, count = everything.rows, keep.stop - keep.start
    if not everything.config.streaming:
        part = rows.select(range(keep.start, keep.stop))
    else:
        part = rows.skip(keep.start) if split == "val" else rows.take(count)
    if split == "val":  # small, and looked at again and again
        return Lazy(part, count, everything.columns, everything.config, everything.class_names)._to_images(list(part))
    return Lazy(part, count, everything.columns, everything.config, everything.class_names)


def _load_dataset(folder: Path, split: str, config: DataConfig) -> Images | Lazy:
    """Reads a split by `datasets`, into memory if it fits."""
    import datasets  # slow to import, and not needed for idx files

    dataset = _open(folder, split, config)
    image, label = _columns(dataset.features, config.source)
    class_names = getattr(dataset.features[label], "names", None) if label else None
    class_names = None if class_names is None else tuple(class_names)
    dataset = dataset.cast_column(image, datasets.Image(decode=False))
    if config.streaming:
        info = (dataset.info.splits or {}).get(split)
        if info is None or not info.num_examples:
            raise ValueError(f"`data.streaming` must be off: {config.source} does not say how many images it has.")
        return Lazy(dataset, info.num_examples, (image, label), config, class_names)
    if not len(dataset):
        raise ValueError(f"The data set {config.source} has no image in its split {split}.")
    probe = Lazy(dataset, len(dataset), (image, label), config, class_names)
    bytes_in_memory = len(dataset) * probe.shape.channels * probe.shape.height * probe.shape.width
    if bytes_in_memory > config.memory_limit_gb * 2**30:
        return probe

    table = dataset.with_format("arrow")[:]
    column = table[image].combine_chunks()
    encoded, paths = column.field("bytes").to_pylist(), column.field("path").to_pylist()
    encoded = [png if png is not None else Path(path).read_bytes() for png, path in zip(encoded, paths, strict=True)]
    labels = None if label is None else torch.from_numpy(table[label].to_numpy().astype(np.int64))

    def place(index: int) -> str:
        return f"image {index} ({paths[index] or 'without a name'}) of {config.source}"

    return Images(_cached_decode(encoded, config, place), labels, class_names)


def _open(folder: Path, split: str, config: DataConfig):
    """Opens a split of a local folder or of the Hub, undecoded, and turns every failure into one clear sentence."""
    from datasets import DatasetDict, IterableDatasetDict, load_dataset

    source = str(folder)
    if not folder.exists():
        if config.source.startswith((".", "/", "~")) or config.source.count("/") > 1:
            raise ValueError(f"`data.source` must be an existing folder or a Hub id, got {config.source!r}. {ALTERNATIVES}")
        source = config.source
    elif folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
        raise ValueError(f"The folder {folder} holds no file. {ALTERNATIVES}")
    elif folder.is_file():
        raise ValueError(f"`data.source` must be a folder, got the file {folder}.")
    try:
        opened = load_dataset(source, streaming=config.streaming)
    except Exception as error:  # the loaders raise errors of a dozen classes, of datasets, hub, httpx, pyarrow and fsspec
        cause = str(error.__cause__ or error).strip().splitlines()[0] if str(error.__cause__ or error).strip() else error
        if folder.exists() and (bad := _unreadable_parquet(folder)):
            raise ValueError(f"{bad} is not a readable parquet file ({cause}).") from error
        raise ValueError(f"Could not load the data set {config.source} ({type(error).__name__}: {cause}). {ALTERNATIVES}") from error
    assert isinstance(opened, DatasetDict | IterableDatasetDict)
    if split not in opened:
        raise ValueError(f"The data set {config.source} has no split {split!r}, only {', '.join(opened)}.")
    return opened[split]


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


def _columns(features, source: str) -> tuple[str, str | None]:
    """Returns the names of the image column and of the label column (or None)."""
    from datasets import ClassLabel, Image

    images = [name for name, kind in features.items() if isinstance(kind, Image)]
    if not images:
        raise ValueError(f"The data set {source} has no image column, only {', '.join(features)}.")
    labels = [name for name, kind in features.items() if isinstance(kind, ClassLabel)]
    if not labels and "label" in features and features["label"].dtype.startswith(("int", "uint")):
        labels = ["label"]
    return images[0], labels[0] if labels else None


def _cached_decode(encoded: list[bytes], config: DataConfig, place) -> torch.Tensor:
    """Decodes `encoded`, or reads what an earlier run decoded from the same bytes to the same shape."""
    digest = xxhash.xxh3_128(repr((len(encoded), config.size, config.channels)).encode())
    for png in encoded:
        digest.update(len(png).to_bytes(8, "little"))
        digest.update(png)
    path = cache_folder() / "images" / f"{digest.hexdigest()}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("images")
    except (FileNotFoundError, SafetensorError):  # not there yet, or left half-written by an older crash
        pass
    try:
        images = torch.from_numpy(decode(encoded, config.size, config.channels))
    except DecodeError as error:
        hint = " Give `data.size` (and `data.channels`) to bring all to one shape." if "first one" in error.reason else ""
        raise ValueError(f"{place(error.index).capitalize()} {error.reason}.{hint}") from error
    _write_beside(path, images)
    return images


def _write_beside(path: Path, images: torch.Tensor):
    """Saves the decoded images, if the disk lets us: a cache is a convenience."""
    scratch = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"images": images}, scratch)
        scratch.replace(path)
    except (OSError, SafetensorError):
        scratch.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Returns the folder of decoded data sets: `$GENHUB_CACHE`, or `genhub` in the Hub client's home."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("GENHUB_CACHE") or Path(HF_HOME) / "genhub")


def _idx_files(folder: Path, split: str) -> tuple[Path, Path] | None:
    """Returns the files of images and labels of a split, or None where `folder` holds no idx files."""
    if not folder.is_dir() or not any(folder.glob("*-idx3-ubyte*")):
        return None
    found = []
    for stem, kind in zip(IDX_FILES[split], ("idx3-ubyte", "idx1-ubyte"), strict=True):
        matches = [path for suffix in ("", ".gz") if (path := folder / f"{stem}-{kind}{suffix}").is_file()]
        if not matches:
            raise ValueError(f"The folder {folder} has no {stem}-{kind} (plain or .gz).")
        found.append(matches[0])
    return found[0], found[1]


def _load_idx(image_file: Path, label_file: Path, config: DataConfig) -> Images:
    """Reads images and labels in the format of MNIST (LeCun)."""
    images = torch.from_numpy(_read_idx(image_file, 3))[:, None]  # (N, 1, H, W)
    labels = torch.from_numpy(_read_idx(label_file, 1)).long()
    if len(images) != len(labels):
        raise ValueError(f"{image_file} holds {len(images)} images, {label_file} {len(labels)} labels.")
    if not len(images):
        raise ValueError(f"{image_file} holds no image.")
    if config.size not in (None, images.shape[-1]) or config.channels == 3:
        raise ValueError("`data.size` and `data.channels` must be unset for idx files, which are used as they are.")
    return Images(images, labels, None)


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads one idx file of unsigned bytes: two zeros, type 8, number of dimensions, sizes (big-endian), data."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, gzip.zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic:
        raise ValueError(f"{path} must begin with the bytes {magic.hex(' ')}, got {content[:4].hex(' ')}.")
    sizes = np.frombuffer(content[4 : 4 + 4 * dimensions], ">u4").astype(int)
    expected = 4 + 4 * dimensions + int(np.prod(sizes))
    if len(content) != expected:
        raise ValueError(f"{path} must be {expected} bytes long by its header, got {len(content)}: it is truncated or damaged.")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(sizes).copy()
