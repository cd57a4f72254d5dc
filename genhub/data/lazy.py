"""Data sets that are decoded while training: too large for memory, or streamed."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset

from genhub.data.config import DataConfig
from genhub.data.decode import DecodeError, decode
from genhub.data.images import Images, Order
from genhub.randomness import fold


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
            shuffled = self.rows.shuffle(
                seed=fold("order", seed, epoch) % 2**32, buffer_size=self.config.shuffle_buffer
            )
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
