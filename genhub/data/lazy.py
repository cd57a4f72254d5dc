"""Data sets that are decoded while training: too large for memory, or streamed."""

import math
import signal
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch.utils.data import DataLoader, IterableDataset

from genhub.data.augmentation import Augmentation
from genhub.data.columns import to_labels
from genhub.data.config import DataConfig
from genhub.data.decode import decode
from genhub.data.images import MEASURED, Images, Order, Shape, augment
from genhub.data.paths import read_file
from genhub.data.sources import source_folder
from genhub.utils.randomness import keyed_generator, seed_of


class Lazy(IterableDataset):
    """A data set that is decoded while training, with the interface of `Images`.

    Worker w of n makes every n-th batch, and a `DataLoader` asks them in turn, so their number changes nothing. Of a
    stream, every worker of every rank walks the whole and decodes its part.

    Args:
        rows: a `datasets` data set or stream whose images are not decoded.
        columns: the names of its image column and of its label column, if any.
        shape: the shape of every image; None takes it from the first row.
    """

    labels = None  # known only as batches are decoded
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        rows,
        length: int,
        columns: tuple[str, str | None],
        config: DataConfig,
        class_names: tuple[str, ...] | None = None,
        shape: Shape | None = None,
        augmentation: Augmentation | None = None,
    ):
        self.rows, self.length, self.columns, self.config = rows, length, columns, config
        self.class_names, self.augmentation = class_names, augmentation
        self.plan: tuple[int, int, int, int] | None = None  # batch_size, start, stride, seed
        self.shape = self._first_shape() if shape is None else shape

    @property
    def has_labels(self) -> bool:
        return self.columns[1] is not None

    def __len__(self) -> int:
        return self.length

    def _first_shape(self) -> Shape:
        """Returns the shape of the first image that is not bad."""
        first: ValueError | None = None
        for row in self.rows:
            try:
                channels, height, width = self._decode([row]).images.shape[1:]
            except ValueError as error:
                first = first or error
            else:
                names = self.class_names
                return Shape(channels, height, width, names, None if names is None else len(names))
        assert first is not None  # there are rows
        raise first

    def __getitem__(self, index: torch.Tensor | slice) -> "Lazy":
        """Takes rows in their order; of a stream, rows that follow one another."""
        index = torch.arange(self.length)[index] if isinstance(index, slice) else index
        first = int(index[0]) if len(index) else 0
        if self.config.streaming:
            rows = (self.rows.skip(first) if first else self.rows).take(len(index))
        else:
            rows = self.rows.select(index.numpy())
        part = Lazy(rows, len(index), self.columns, self.config, self.class_names, self.shape, self.augmentation)
        part.notes = self.notes
        return part

    def all_labels(self) -> torch.Tensor | None:
        """Reads the labels of all rows; None if there are none, or only a stream of them."""
        label = self.columns[1]
        if label is None or self.config.streaming:
            return None
        return to_labels(self.rows.with_format(None)[label][:], self.class_names, self.config.source, label)

    def measure(self) -> Shape:
        """Returns the shape with the mean and standard deviation of some samples: evenly spaced, or the first ones of
        a stream."""
        if self.config.streaming:
            rows = list(self.rows.take(MEASURED))
        else:
            rows = [self.rows[index] for index in range(0, self.length, math.ceil(self.length / MEASURED))]
        measured = self.to_images(rows).measure()
        return replace(self.shape, mean=measured.mean, std=measured.std)

    def load(self) -> Images:
        """Decodes the whole data set into memory."""
        return self.to_images(list(self.rows))

    def batches(self, batch_size: int, start: int, stride: int, seed: int, device) -> Iterator[dict]:
        """Yields without end the batches at positions `start`, `start + stride`, ... of the shuffled stream."""
        self.plan = (batch_size, start, stride, seed)
        loader = DataLoader(
            self,
            batch_size=None,
            num_workers=self.config.workers,
            pin_memory=str(device) != "cpu",
            worker_init_fn=_ignore_signals,
            generator=keyed_generator("workers", seed),  # drawn from the global one, a resumed run would differ
        )
        for tensors in loader:
            if "error" in tensors:
                raise ValueError(tensors["error"])
            batch = Images(
                tensors["images"].to(device, non_blocking=True),
                tensors["labels"].to(device) if "labels" in tensors else None,
                self.class_names,
            ).batch(slice(None))
            yield augment(batch, self.augmentation, start, seed)
            start += stride

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        assert worker is not None  # only the workers of `batches` iterate
        assert self.plan is not None
        batch_size, start, stride, seed = self.plan
        torch.set_num_threads(1)
        walk = self._walk_stream if self.config.streaming else self._walk_rows
        try:
            for rows in walk(batch_size, start + worker.id * stride, stride * worker.num_workers, seed):
                images = self.to_images(rows)
                yield {"images": images.images} | ({} if images.labels is None else {"labels": images.labels})
        except (ValueError, OSError) as error:  # raised in a worker, it would reach the user as a page of tracebacks
            yield {"error": str(error)}

    def _walk_rows(self, batch_size: int, start: int, stride: int, seed: int) -> Iterator[list[dict]]:
        """Yields undecoded batches without end, in the order of a data set in memory."""
        order = Order(self.length, seed)
        while True:
            yield [self.rows[index] for index in order(start, batch_size).tolist()]
            start += stride

    def _walk_stream(self, batch_size: int, start: int, stride: int, seed: int) -> Iterator[list[dict]]:
        """Yields undecoded batches without end, in an order that (seed, epoch) fixes."""
        epoch, offset = divmod(start, self.length)
        position, batch = start, []
        while True:
            shuffled = self.rows.shuffle(
                seed=seed_of("order", seed, epoch) % 2**32, buffer_size=self.config.shuffle_buffer
            )
            for row in shuffled.skip(offset).iter(1):  # iter(shuffled) would give each worker a part of the files
                if position >= start:
                    batch.append({name: values[0] for name, values in row.items()})
                position += 1
                if len(batch) == batch_size:
                    yield batch
                    batch, start = [], start + stride
            epoch, offset = epoch + 1, 0
            if position != epoch * self.length:
                raise ValueError(
                    f"The data set {self.config.source} must hold the {self.length} images that it says it has, "
                    f"got {position - (epoch - 1) * self.length}."
                )

    def to_images(self, rows: list[dict]) -> Images:
        """Decodes some rows.

        Raises:
            ValueError: an image cannot be decoded, is of another shape, or has no label where others have one.
        """
        return self._decode(rows, (self.shape.channels, self.shape.height, self.shape.width))

    def _decode(self, rows: list[dict], shape: tuple[int, int, int] | None = None) -> Images:
        """Decodes some rows to images of `shape`, or of the first image's."""
        image, label = self.columns
        cells = [row[image] or {"bytes": None, "path": None} for row in rows]
        folder = source_folder(self.config)
        files = [read_file(cell["bytes"], cell["path"], self.config, folder) for cell in cells]

        def describe(index: int) -> str:
            return f"An image ({cells[index]['path'] or 'without a name'}) of {self.config.source}"

        images = decode(files, self.config, describe, shape).images
        if label is None:
            return Images(images, None, self.class_names)
        labels = to_labels([row[label] for row in rows], self.class_names, self.config.source, label, is_batch=True)
        return Images(images, labels, self.class_names)


def _ignore_signals(worker: int):
    """Leaves Ctrl-C and SIGTERM, which reach a whole group of processes, to the one that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
