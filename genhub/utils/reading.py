"""Reading files that may come from strangers: JSON and safetensors within limits, and one kind of error.

A file is regular, small enough to be held, and nested as deeply as a person would write it. What a file may cost is
known before it is read: neither its size nor its content can make a reader hang or run out of memory.
"""

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import yaml

LARGEST = 64 * 2**20  # bytes of a text
LARGEST_LOG = 2**30
LARGEST_HEADER = 16 * 2**20  # bytes of the list of tensors in a safetensors file
DEEPEST = 64  # lists and mappings within each other
MOST_VALUES = 10**6
FLAGS = ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY")  # a pipe is not waited for; Windows changes no line ends
READ = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in FLAGS)
SURROGATE = re.compile("[\ud800-\udfff]")
LONGEST_LINE = 400  # characters of a reason
KINDS = {dict: "an object", list: "a list"}


class FileError(ValueError):
    """A file that is missing, damaged, or not what it should be; says which one, and why, in one line."""

    def __init__(self, source: object, reason: object):
        super().__init__(f"{source} cannot be read: {one_line(reason)}")


def one_line(reason: object) -> str:
    """Returns an error's message, or other words, as one line of readable length without a full stop."""
    words = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    line = " ".join(words.split()).rstrip(".") or type(reason).__name__
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..."


def read_bytes(path: Path, limit: int = LARGEST) -> bytes:
    """Reads a regular file of at most `limit` bytes; a pipe or a device is not even waited for.

    Raises:
        FileError: it is not there, no regular file, or larger.
    """
    try:
        descriptor = os.open(path, READ)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileError(path, "it is no regular file")
            content = file.read(limit + 1) if status.st_size <= limit else b""
    except OSError as error:
        raise FileError(path, error) from error
    if max(status.st_size, len(content)) > limit:
        raise FileError(path, f"it has more than {limit:,} bytes")
    return content


def read_text(path: Path, limit: int = LARGEST) -> str:
    """Reads a text in UTF-8, with or without a byte order mark.

    Raises:
        FileError: it is not there, no regular file, larger, or not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(path, f"it is not UTF-8 ({error})") from error


def read_json(path: Path, kind: type = dict, limit: int = LARGEST) -> Any:
    """Reads a JSON file whose outermost value is a dict, or another `kind`.

    Raises:
        FileError: it is not there, not JSON in UTF-8, of another kind, or beyond the limits of `checked_copy`.
    """
    return parse_json(read_text(path, limit), path, kind)


def parse_json(text: str, source: object, kind: type = dict) -> Any:
    """Parses JSON as `read_json` does.

    Args:
        source: what the error names.
    """
    return checked_copy(parse_object(text, source, kind), source)


def parse_object(text: str, source: object, kind: type = dict) -> Any:
    """Parses JSON as `parse_json` does, however many values it holds.

    Raises:
        FileError: it is not JSON, or of another kind.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not JSON ({error})"
        raise FileError(source, reason) from error
    if not isinstance(value, kind):
        raise FileError(source, f"it must hold {KINDS.get(kind, kind.__name__)}, got {_kind_of(value)}")
    return value


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a log, one object a line; a line that a crash or anything else damaged is left out.

    Raises:
        FileError: it is not there, no regular file, or too large.
    """
    return parse_json_lines(read_bytes(path, LARGEST_LOG))


def parse_json_lines(content: bytes) -> list[dict[str, Any]]:
    """Parses the records of a log as `read_json_lines` does."""
    records = []
    for line in content.split(b"\n"):
        try:
            records.append(parse_json(line.decode(), "a line"))
        except ValueError:
            continue
    return records


def check_yaml(text: str, source: object, loader: Any, may_alias: bool = True):
    """Checks YAML before PyYAML composes it, which recurses without a limit.

    Raises:
        FileError: it is nested more than `DEEPEST` deep, or holds an alias where none may be.
        yaml.YAMLError: it is not YAML.
    """
    depth = 0
    for event in yaml.parse(text, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise FileError(source, f"it is nested more than {DEEPEST} deep")
        if isinstance(event, yaml.AliasEvent) and not may_alias:
            raise FileError(source, "it must hold no alias of YAML")


def checked_copy(value: Any, source: object) -> Any:
    """Copies plain values: what stands in two places becomes two.

    Raises:
        FileError: they are nested more than `DEEPEST` deep or in themselves, are more than `MOST_VALUES`, where a text
            counts as more by its length, a whole number needs more than 128 bits, or a text is no Unicode.
    """
    count = 0

    def copy(value: Any, depth: int) -> Any:
        nonlocal count
        count += 1 + (len(value) // 64 if isinstance(value, str) else 0)
        if count > MOST_VALUES:
            raise FileError(source, f"it holds more than {MOST_VALUES:,} values")
        if depth > DEEPEST:
            raise FileError(source, f"it is nested more than {DEEPEST} deep")
        if isinstance(value, dict):
            return {copy(key, depth + 1): copy(entry, depth + 1) for key, entry in value.items()}
        if isinstance(value, list):
            return [copy(entry, depth + 1) for entry in value]
        if isinstance(value, int) and abs(value) >= 2**128:
            raise FileError(source, "a whole number in it needs more than 128 bits")
        if isinstance(value, str) and not value.isascii() and SURROGATE.search(value):
            raise FileError(source, "a text in it is no Unicode")
        return value

    return copy(value, 0)


@dataclass(frozen=True)
class Stored:
    """What a safetensors file says of a tensor."""

    dtype: str  # F32, BF16, I64 ...
    shape: tuple[int, ...]


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Opens a safetensors file for PyTorch; whatever is wrong with it, also within the block, is a FileError.

    Raises:
        FileError: it is not there, no regular file, its list of tensors is too long, or it is damaged.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileError(path, "it is no regular file")
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= LARGEST_HEADER:
            raise FileError(path, "it is no safetensors file, or names too many tensors")
        with safetensors.safe_open(path, "pt") as opened:
            yield opened
    except (safetensors.SafetensorError, OSError) as error:
        raise FileError(path, f"it is no whole safetensors file ({one_line(error)})") from error


def stored_tensors(path: Path) -> dict[str, Stored]:
    """Returns type and shape of each tensor of a safetensors file, without reading the tensors.

    Raises:
        FileError: as `open_safetensors`.
    """
    with open_safetensors(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: Stored(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def read_safetensors(path: Path) -> dict[str, Any]:
    """Returns the tensors of a safetensors file.

    Raises:
        FileError: as `open_safetensors`.
    """
    return read_safetensors_and_metadata(path)[0]


def read_safetensors_and_metadata(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the tensors of a safetensors file, and what it says of them.

    Raises:
        FileError: as `open_safetensors`.
    """
    with open_safetensors(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def _kind_of(value: Any) -> str:
    return KINDS.get(type(value)) or ("null" if value is None else f"a {type(value).__name__}")
