"""Image files in memory, end to end in one buffer."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Encoded:
    """The bytes of N image files: file i is `content[bounds[i] : bounds[i + 1]]`, and empty where there is none.

    One buffer, since a list would be walked in Python, and a forked process copies each page of objects it looks at.
    """

    content: memoryview
    bounds: np.ndarray  # (N + 1,) int64

    @classmethod
    def join(cls, files: Iterable[bytes]) -> "Encoded":
        """Copies `files` into one buffer."""
        files = list(files)
        return cls(memoryview(b"".join(files)), np.cumsum([0, *map(len, files)], dtype=np.int64))

    @classmethod
    def of_column(cls, column) -> "Encoded":
        """Takes the files of an image column of Arrow, a chunked array of structs (bytes, path), copying no file that
        the column itself holds; a cell without bytes is read from its path."""
        import pyarrow

        chunks = [chunk.field("bytes").cast(pyarrow.large_binary()) for chunk in column.chunks]  # 64-bit offsets
        held = pyarrow.concat_arrays(chunks)
        if held.null_count:
            cells = zip(held.to_pylist(), paths(column), strict=True)
            return cls.join(read_encoded(content, path) for content, path in cells)
        _, offsets, content = held.buffers()
        bounds = np.frombuffer(offsets, np.int64)[held.offset :][: len(held) + 1]
        return cls(memoryview(content or b""), bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: int) -> bytes:
        return bytes(self.content[self.bounds[index] : self.bounds[index + 1]])


def paths(column) -> list[str | None]:
    """Returns where the files of an image column of Arrow come from, as far as it says so."""
    return [path for chunk in column.chunks for path in chunk.field("path").to_pylist()]


def read_encoded(content: bytes | None, path: str | None) -> bytes:
    """Returns the encoded image that a cell of an image column holds or points to; none at all is empty."""
    if content is not None or path is None:
        return content or b""
    if "://" not in path:
        return Path(path).read_bytes()
    import fsspec  # a file of the Hub, streamed

    with fsspec.open(path, "rb") as file:
        return file.read()
