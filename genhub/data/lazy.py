"""Data sets that are decoded while training: too large for memory, or streamed."""

import signal
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, IterableDataset

from genhub.data.config import DataConfig
from genhub.data.decode import DecodeError, decode
from genhub.data.encoded import Encoded, read_encoded
from genhub.data.images import Images, Order, Shape
from genhub.utils.randomness import keyed_generator, seed_of


class Lazy(IterableDataset):
    """A data set that is decoded while training: too large for memory, or streamed.

    It has the interface of `Images`. Worker w of n makes every n-th batch, and a `DataLoader` asks them in turn, so
    their number changes nothing. Of a stream, every worker of every rank walks the whole and decodes its part.
    """

    def __init__(self, rows, length: int, columns: tuple[str, str | None], config: DataConfig, class_names=None):
        self.rows, self.length, self.columns, self.config = rows, length, columns, config
        self.class_names = class_names
        self.plan: tuple[int, int, int, int] | None = None
        self.like: tuple[int, int, int] | None = None  # (C, H, W), which the first image decides
        first = self.to_images([next(iter(rows))])
        self.like = tuple(first.images.shape[1:])
        self.shape = Shape(*self.like, class_names, len(class_names) if class_names else None)

    @property
    def has_labels(self) -> bool:
        return self.columns[1] is not None

    def __len__(self) -> int:
        return self.length

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
        for images in loader:
            if "error" in images:
                raise ValueError(images["error"])
            yield Images(
                images["images"].to(device, non_blocking=True),
                images["labels"].to(device) if "labels" in images else None,
                self.class_names,
            ).batch(slice(None))

    def __iter__(self):
        batch_size, start, stride, seed = self.plan
        worker = torch.utils.data.get_worker_info()
        torch.set_num_threads(1)
        walk = self._walk_stream if self.config.streaming else self._walk_rows
        try:
            for rows in walk(batch_size, start + worker.id * stride, stride * worker.num_workers, seed):
                images = self.to_images(rows)
                yield {"images": images.images} | ({} if images.labels is None else {"labels": images.labels})
        except ValueError as error:  # what a worker raises reaches the user as a page of tracebacks
            yield {"error": str(error)}

    def _walk_rows(self, batch_size: int, start: int, stride: int, seed: int) -> Iterator[list[dict]]:
        """Yields undecoded batches without end, in the order that the images would have in memory."""
        order = Order(self.length, seed)
        while True:
            yield [self.rows[place] for place in order(start, batch_size).tolist()]
            start += stride

    def _walk_stream(self, batch_size: int, start: int, stride: int, seed: int) -> Iterator[list[dict]]:
        """Yields undecoded batches without end, in an order that (seed, epoch) fixes."""
        epoch, offset = divmod(start, self.length)
        at, batch = start, []
        while True:
            shuffled = self.rows.shuffle(
                seed=seed_of("order", seed, epoch) % 2**32, buffer_size=self.config.shuffle_buffer
            )
            for one in shuffled.skip(offset).iter(1):  # iter(shuffled) would give each worker a part of the files
                if at >= start:
                    batch.append({name: values[0] for name, values in one.items()})
                at += 1
                if len(batch) == batch_size:
                    yield batch
                    batch, start = [], start + stride
            epoch, offset = epoch + 1, 0
            if at != epoch * self.length:
                raise ValueError(
                    f"The data set {self.config.source} must hold the {self.length} images that it says it has, "
                    f"got {at - (epoch - 1) * self.length}."
                )

    def to_images(self, rows: list[dict]) -> Images:
        """Decodes some rows."""
        image, label = self.columns
        cells = [row[image] or {"bytes": None, "path": None} for row in rows]
        try:
            encoded = Encoded.join(read_encoded(cell["bytes"], cell["path"]) for cell in cells)
            pixels = decode(encoded, self.config.size, self.config.channels, self.like)
        except DecodeError as error:
            place = f"An image ({cells[error.index]['path'] or 'without a name'}) of {self.config.source}"
            raise ValueError(f"{place} {error.reason}.") from error
        labels = None if label is None else [row[label] for row in rows]
        if labels is not None and None in labels:
            raise ValueError(f"{self.config.source} has images without a label: its column {label} has gaps.")
        return Images(torch.from_numpy(pixels), None if labels is None else torch.tensor(labels), self.class_names)


def _ignore_signals(worker: int):
    """Leaves Ctrl-C and SIGTERM, which reach a whole group of processes, to the one that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
