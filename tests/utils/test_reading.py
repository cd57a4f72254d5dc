"""Files of strangers are read whole, or refused in one line that names them, quickly and in little memory."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from genhub.utils.reading import (
    FileError,
    Stored,
    open_safetensors,
    read_bytes,
    read_json,
    read_json_lines,
    read_safetensors,
    read_text,
    stored_tensors,
)

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1], dtype=torch.int8)}


def fifo(path):
    os.mkfifo(path)


def text(content):
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def safetensors(header, data=b""):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return text(struct.pack("<Q", len(content)) + content + data)


NO_FILES = {
    "missing": lambda path: None,
    "folder": os.mkdir,
    "fifo": fifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
}
NO_JSON = {
    "empty": text(""),
    "cut": text('{"a": 1'),
    "list": text("[]"),
    "null": text("null"),
    "latin-1": text(b'{"a": "\xe4"}'),
    "deep": text('{"a":' * 70 + "1" + "}" * 70),
    "deeper": text("[" * 10**6),
    "many digits": text('{"a": %s}' % ("1" * 5000)),
    "many bits": text('{"a": %s}' % 2**128),
    "many values": text('{"a": [%s1]}' % ("1," * 10**6)),
    "no unicode": text('{"\\ud800": 1}'),
    "sparse": lambda path: (path.touch(), os.truncate(path, 2**40)),
}
F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
NO_SAFETENSORS = {
    "empty": text(""),
    "pickle": lambda path: torch.save(TENSORS, path),
    "cut": safetensors({"a": F32}, b"\0\0"),
    "more": safetensors({"a": F32}, b"\0" * 5),
    "long header": text(struct.pack("<Q", 2**40) + b"{}"),
    "deep header": safetensors(b"[" * 10**6),
    "list": safetensors([]),
    "huge shape": safetensors({"a": F32 | {"shape": [2**40, 2**40]}}, b"\0" * 4),
    "unknown type": safetensors({"a": F32 | {"dtype": "F31"}}, b"\0" * 4),
    "overlap": safetensors({"a": F32, "b": F32}, b"\0" * 4),
    "negative": safetensors({"a": F32 | {"data_offsets": [-4, 0]}}, b"\0" * 4),
}


@pytest.mark.parametrize("make", (NO_FILES | NO_JSON).values(), ids=NO_FILES | NO_JSON)
def test_what_is_no_json_object_within_the_limits_is_one_line_that_names_the_file(make, tmp_path):
    path = tmp_path / "file.json"
    make(path)

    with pytest.raises(FileError, match=r"^.*/file\.json cannot be read: .*[^.]$"):
        read_json(path)


@pytest.mark.parametrize("read", [stored_tensors, read_safetensors])
@pytest.mark.parametrize("make", (NO_FILES | NO_SAFETENSORS).values(), ids=NO_FILES | NO_SAFETENSORS)
def test_what_is_no_whole_safetensors_file_is_one_line_that_names_it(read, make, tmp_path):
    path = tmp_path / "file.safetensors"
    make(path)

    with pytest.raises(FileError, match=r"^.*/file\.safetensors cannot be read: .*[^.]$"):
        read(path)


def test_what_is_written_is_read(tmp_path):
    value = {"a": [1, 2.5, None, True, "ä"], "b": {"c": 1 - 2**128}}
    (tmp_path / "a.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    save_file(TENSORS, tmp_path / "a.safetensors", {"key": "value"})

    (tmp_path / "marked.json").write_text(json.dumps(value), encoding="utf-8-sig")

    assert read_json(tmp_path / "a.json") == read_json(tmp_path / "marked.json") == value
    assert stored_tensors(tmp_path / "a.safetensors") == {"a": Stored("F32", (2, 3)), "b": Stored("I8", (1,))}
    read = read_safetensors(tmp_path / "a.safetensors")
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], TENSORS[name]) for name in read)
    with open_safetensors(tmp_path / "a.safetensors") as file:
        assert file.metadata() == {"key": "value"}


def test_a_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "a").write_text("1234")

    assert (read_bytes(tmp_path / "a", 4), read_text(tmp_path / "a", 4)) == (b"1234", "1234")
    with pytest.raises(FileError, match="more than 3 bytes"):
        read_bytes(tmp_path / "a", 3)


def test_a_log_is_read_without_its_damaged_lines(tmp_path):
    (tmp_path / "log").write_bytes(b'{"step": 1}\n\xff\xfe\n[1]\nnull\n{"step"\n' + b"[" * 10**5 + b'\n{"step": 2}')

    assert read_json_lines(tmp_path / "log") == [{"step": 1}, {"step": 2}]
