"""Data sets: idx, gz, parquet, image files, archives, Arrow tables of `save_to_disk`, metadata, and the image cache.

gz, PNG and npz have checksums: what is read is the original, or refused, unless the checksum was made anew. In idx,
JPEG, GIF and WebP a strict decoder says what is there, for which every warning is an error. In parquet and Arrow,
images are PNG and have to be among the original ones; labels have no checksum, and have to be classes.
"""

import gzip
import io
import json
import os
import random
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pictures import chunk, encode, noise, write_folder, write_parquet
from pyarrow import parquet

from genhub.data import DataConfig, load
from genhub.data.decode import decode_cached
from genhub.data.image_files import load_image_files
from genhub.utils.cache import cached
from hostile import strict
from hostile.kind import Kind, Value, equal, same_set
from hostile.mutate import change_bytes, mutate_bytes, mutate_json, mutate_place

SIZE, COUNT, CLASSES = 8, 6, 3
PLACES = (mutate_bytes,) * 4 + (mutate_place,)


def train_on(folder: Path) -> list[str]:
    out = folder.parent / "run"
    words = ["train", "linear-ae", "--output_dir", str(out), "--data.source", str(folder), "--training.max_steps", "1"]
    words += ["--training.batch_size", "2", "--data.val_size", "0", "--data.test_size", "0"]
    return [*words, "--training.validate_every", "0", "--evaluation.every", "0"]


def pictures(seed: int = 0) -> np.ndarray:
    return noise(COUNT, SIZE, SIZE, seed=seed)


def labels() -> list[int]:
    return [index % CLASSES for index in range(COUNT)]


def read(folder: Path, **options) -> Value:
    """Loads a split for training as recipes do, all of it."""
    data = load(DataConfig(source=str(folder), val_size=0, test_size=0, **options))
    captions = None if data.captions is None else [str(text) for text in data.captions]
    return {"images": data.images, "labels": data.labels, "captions": captions}


# idx and gz


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def make_idx(folder: Path, suffix: str = ""):
    pack = gzip.compress if suffix else bytes
    files = {"train-images-idx3-ubyte": pictures(), "train-labels-idx1-ubyte": np.array(labels(), np.uint8)}
    write_folder(folder, {f"{name}{suffix}": pack(idx_bytes(array)) for name, array in files.items()})


def permits_idx(found: Value, original: Value, folder: Path) -> bool:
    images, known = (
        strict.idx(folder / "train-images-idx3-ubyte", 3),
        strict.idx(folder / "train-labels-idx1-ubyte", 1),
    )
    if images is None or known is None:
        return False
    return equal(found["images"][:, 0], images) and equal(found["labels"], known.astype(np.int64))


def mutate_within_gz(rng: random.Random, folder: Path, file: Path) -> str:
    """Changes what a gz file holds, and compresses it again; or promises little and holds much."""
    content = gzip.decompress(file.read_bytes())
    if rng.random() < 0.1:
        file.write_bytes(gz_bomb(content))
        return "holds 3 GB"
    changed, what = change_bytes(rng, content, [])
    file.write_bytes(gzip.compress(changed))
    return f"within: {what}"


def gz_bomb(head: bytes) -> bytes:
    """Returns a gz file of `head` and 3 GB of zeros; its members are one of 64 MB, again and again."""
    return gzip.compress(head) + gzip.compress(bytes(64 << 20)) * 48


# Image files

FORMATS = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "webp": "WEBP"}


def make_images(folder: Path, suffix: str):
    smooth = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8)
    files = {}
    for index, label in enumerate(labels()):
        options = {"lossless": True} if suffix == "webp" else {}
        files[f"{label}/{index}.{suffix}"] = encode(smooth * (index + 2), FORMATS[suffix], **options)
    write_folder(folder, files)


def permits_images(found: Value, original: Value, folder: Path) -> bool:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix[1:] in FORMATS]
    decoded = [strict.image(path) for path in files if not path.name.startswith(".")]
    channels = found["images"].shape[1]  # of the first one, to which greys among colours are brought
    whole = [np.broadcast_to(x, (channels, *x.shape[1:])) if len(x) == 1 else x for x in decoded if x is not None]
    return len(whole) == len(decoded) and same_set(whole, found["images"].numpy())


def mutate_chunks(rng: random.Random, folder: Path, file: Path) -> str:
    """Changes a PNG's chunks and gives them right CRCs: another size, another kind, other chunks, in other order."""
    content, position, chunks = file.read_bytes(), 8, []
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        chunks.append((content[position + 4 : position + 8], content[position + 8 : position + 8 + length]))
        position += 12 + length
    header = bytearray(chunks[0][1])
    way = rng.choice(("size", "size", "size", "field", "remove", "twice", "swap", "body", "text", "palette"))
    if way == "size":
        place, value = rng.choice((0, 4)), rng.choice((0, 1, 7, 15, 17, 255, 16_385, 70_000, 2**31 - 1, 2**32 - 1))
        header[place : place + 4] = struct.pack(">I", value)
        chunks[0] = (b"IHDR", bytes(header))
        way = f"{'width' if not place else 'height'} of {value}"
    elif way == "field":
        place = rng.randrange(8, 13)
        header[place] = rng.choice((0, 1, 2, 3, 4, 6, 16, 255))
        chunks[0] = (b"IHDR", bytes(header))
    elif way == "remove":
        chunks.pop(rng.randrange(len(chunks)))
    elif way == "twice":
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    elif way == "swap":
        rng.shuffle(chunks)
    elif way == "body":
        index = rng.randrange(len(chunks))
        chunks[index] = (chunks[index][0], change_bytes(rng, chunks[index][1], [])[0])
    else:
        body = zlib_bomb() if way == "text" else rng.randbytes(30)
        chunks.insert(1, (b"zTXt", b"a\0\0" + body) if way == "text" else (b"tRNS", body))
    file.write_bytes(content[:8] + b"".join(chunk(name, body) for name, body in chunks))
    return f"chunks: {way}"


def zlib_bomb() -> bytes:
    return zlib.compress(bytes(64 << 20))


# npz


def make_npz(folder: Path):
    folder.mkdir(parents=True)
    np.savez(folder / "images.npz", images=pictures(), labels=np.array(labels()))


def read_npz(folder: Path) -> Value:
    return read(folder / "images.npz")


def mutate_archive(rng: random.Random, folder: Path, file: Path) -> str:
    """Writes other arrays into the archive, with right CRCs: pickles, other types, headers that lie."""
    known, name = np.array(labels()), rng.choice(("images", "labels"))
    values = {
        "a pickle": np.array([os.system, {}], dtype=object),
        "floats": pictures().astype(float),
        "texts": np.array(["a"] * COUNT),
        "too few": pictures()[:2],
        "huge labels": known + 2**40,
        "negative labels": known - 2,
        "nothing": np.zeros((0, SIZE, SIZE), np.uint8),
        "of no dimension": np.array(3),
        "many dimensions": np.zeros((1,) * 20, np.uint8),
        "complex": known.astype(complex),
        "times": known.astype("datetime64[s]"),
        "records": np.zeros(COUNT, [("a", "u1"), ("b", "f8")]),
        "unsigned labels of 64 bits": np.full(COUNT, 2**64 - 1, np.uint64),
    }
    way = rng.choice([*values, "a header that lies", "twice", "a path"])
    arrays = {"images": pictures(), "labels": known}
    if way in values:
        arrays[name] = values[way]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays.items():
            body = io.BytesIO()
            np.save(body, array, allow_pickle=True)
            content = body.getvalue()
            if way == "a header that lies" and key == name:
                lie = rng.choice((b"(50000000,", b"(9999999999,", b"(-1,", b"(2**9,"))
                content = content.replace(f"({COUNT},".encode(), lie, 1)
            archive.writestr("../images.npy" if way == "a path" else f"{key}.npy", content)
            if way == "twice":
                archive.writestr(f"{key}.npy", content)
    return f"{name}: {way}"


def permits_npz(found: Value, original: Value, folder: Path) -> bool:
    """Of an archive that is whole by its CRCs: its arrays, by NumPy, where they are images and classes."""
    try:
        with np.load(folder / "images.npz") as archive:
            images, known = archive["images"], archive["labels"] if "labels" in archive.files else None
    except Exception:
        return False
    labels_fit = known is None or (known.min() >= 0 and known.max() < 2**31)
    return labels_fit and equal(found["images"][:, 0], images) and equal(found["labels"], known)


# Tables


def make_parquet(folder: Path):
    from datasets import ClassLabel

    columns = {"label": (labels(), ClassLabel(num_classes=CLASSES))}
    write_parquet(folder, [encode(one) for one in pictures()], **columns)


def mutate_cells(rng: random.Random, folder: Path, file: Path) -> str:
    """Writes other cells into a table: paths that lead out, devices, pipes, addresses, labels that are none."""
    secret, pipe = folder.parent / "secret.png", folder.parent / "pipe"
    secret.write_bytes(encode(pictures(seed=99)[0]))
    os.mkfifo(pipe)
    rows = parquet.read_table(file).to_pylist()
    row, way = rng.randrange(len(rows)), rng.choice(("path", "path", "path", "bytes", "label", "label"))
    if way == "path":
        paths = (
            secret,
            os.path.relpath(secret, folder),
            "../secret.png",
            pipe,
            "/dev/zero",
            "/dev/stdin",
            "/proc/self/mem",
        )
        paths += (
            "http://127.0.0.1:9/x.png",
            "zip://a.png::/x.zip",
            "",
            "a\0b",
            "hf://datasets/a/b",
            "~/x.png",
            "x" * 5000,
        )
        paths += (f"file://{secret}", f"{folder}/../secret.png", "s3://a/b")
        new = str(rng.choice(paths))
        rows[row]["image"] = {"bytes": None, "path": new}
    elif way == "bytes":
        new = rng.choice((b"", None, b"\0" * 100, encode(pictures()[0])[:-9], encode(noise(9, 9), "TIFF")))
        rows[row]["image"] = rng.choice(({"bytes": new, "path": "a.png"}, {"bytes": new, "path": None}, None))
    else:
        new = rng.choice((-1, CLASSES, 2**31, 2**62, None))
        rows[row]["label"] = new
    schema = parquet.read_schema(file)
    parquet.write_table(pa.Table.from_pylist(rows, schema), file)
    return f"row {row}, {way}: {new!r}"[:100]


def make_saved(folder: Path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features
    from datasets import Image as ImageFeature

    features = Features({"image": ImageFeature(), "label": ClassLabel(num_classes=CLASSES)})
    cells = [{"bytes": encode(one), "path": None} for one in pictures()]
    data = Dataset.from_dict({"image": cells, "label": labels()}, features=features)
    DatasetDict({"train": data}).save_to_disk(folder)


def permits_rows(found: Value, original: Value, folder: Path) -> bool:
    """Of a table: images among the original ones, and classes for labels."""
    known = {image.tobytes() for image in original["images"].numpy()}
    whole = all(image.tobytes() in known for image in found["images"].numpy())
    return whole and (found["labels"] is None or bool(((found["labels"] >= 0) & (found["labels"] < 1000)).all()))


def make_metadata(folder: Path, suffix: str):
    files = {f"{index}.png": encode(one) for index, one in enumerate(pictures())}
    rows = [{"file_name": name, "text": f"word {index} of it"} for index, name in enumerate(files)]
    lines = ["file_name,text", *(",".join(row.values()) for row in rows)] if suffix == "csv" else map(json.dumps, rows)
    write_folder(folder, files | {f"metadata.{suffix}": "".join(f"{line}\n" for line in lines).encode()})


def read_metadata(folder: Path) -> Value:
    return read(folder, captions="text")


def permits_metadata(found: Value, original: Value, folder: Path) -> bool:
    """Of a table of texts: any, but of the original images alone."""
    return same_set(found["images"].numpy(), original["images"].numpy()) and found["captions"] is not None


# Caches


def cache_in(folder: Path):
    os.environ["GENHUB_CACHE"] = str(folder)


def make_cache(folder: Path):
    before = os.environ.get("GENHUB_CACHE")
    cache_in(folder)
    try:
        read_cache(folder)
    finally:
        os.environ.pop("GENHUB_CACHE") if before is None else os.environ.update(GENHUB_CACHE=before)


def read_cache(folder: Path) -> Value:
    before = os.environ.get("GENHUB_CACHE")
    cache_in(folder)
    try:
        files = [encode(one) for one in pictures()]
        decoded = decode_cached(files, DataConfig(), str)
        numbers = cached("numbers", "key", lambda: {"a": torch.arange(9.0)})
    finally:
        os.environ.pop("GENHUB_CACHE") if before is None else os.environ.update(GENHUB_CACHE=before)
    return {"images": decoded.images, "kept": decoded.kept, "numbers": numbers}


def mutate_entry(rng: random.Random, folder: Path, file: Path) -> str:
    """Writes another entry of images with a right hash: fewer of them, of another shape, under other names."""
    from safetensors.torch import load_file, save_file

    from genhub.utils import cache

    if file.parent.name != "images":
        return mutate_bytes(rng, folder, file)
    tensors = load_file(file)
    name = rng.choice(sorted(tensors))
    way = rng.choice(("fewer", "another name", "none", "another type", "flat"))
    tensor = tensors.pop(name)
    if way != "none":
        key = f"{name}_" if way == "another name" else name
        changed = {"fewer": tensor[:1] if tensor.ndim else tensor, "another type": tensor.double()}
        changed["flat"] = tensor.reshape(-1)
        tensors[key] = changed.get(way, tensor).contiguous()
    save_file(tensors, file, {"hash": f"{cache._hash(tensors)} {file.stem}"})
    return f"{name}: {way}"


def read_image_files(folder: Path) -> Value:
    found = load_image_files(folder)
    return {"images": found.images, "labels": found.labels}


KINDS = {
    "idx": Kind(make_idx, ("*",), PLACES, read, permits_idx, (train_on,), follows_links=True),
    "gz": Kind(
        lambda folder: make_idx(folder, ".gz"),
        ("*",),
        (*PLACES, mutate_within_gz, mutate_within_gz),
        read,
        permits_idx,
        (train_on,),
        follows_links=True,
    ),
    "PNG": Kind(
        lambda folder: make_images(folder, "png"),
        ("*/*",),
        (*PLACES, mutate_chunks, mutate_chunks, mutate_chunks),
        read,
        permits_images,
        (train_on,),
        follows_links=True,
    ),
    **{
        FORMATS[suffix]: Kind(
            lambda folder, suffix=suffix: make_images(folder, suffix),
            ("*/*",),
            PLACES,
            read,
            permits_images,
            (train_on,),
            follows_links=True,
        )
        for suffix in ("jpg", "gif", "webp")
    },
    "image files": Kind(
        lambda folder: make_images(folder, "png"),
        ("*/*",),
        (*PLACES, mutate_chunks),
        read_image_files,
        permits_images,
        follows_links=True,
    ),
    "npz": Kind(
        make_npz, ("*.npz",), (*PLACES, mutate_archive, mutate_archive), read_npz, permits_npz, follows_links=True
    ),
    "parquet": Kind(
        make_parquet,
        ("*",),
        (*PLACES, mutate_cells, mutate_cells),
        read,
        permits_rows,
        (train_on,),
        follows_links=True,
    ),
    "save_to_disk": Kind(make_saved, ("train/*.arrow",), PLACES, read, permits_rows, (train_on,), follows_links=True),
    "save_to_disk, JSON": Kind(
        make_saved,
        ("*.json", "train/*.json"),
        (mutate_json, mutate_json, mutate_bytes, mutate_place),
        read,
        permits_rows,
        (train_on,),
        follows_links=True,
    ),
    "metadata.csv": Kind(
        lambda folder: make_metadata(folder, "csv"),
        ("*.csv",),
        PLACES,
        read_metadata,
        permits_metadata,
        follows_links=True,
    ),
    "metadata.jsonl": Kind(
        lambda folder: make_metadata(folder, "jsonl"),
        ("*.jsonl",),
        (mutate_json, mutate_json, *PLACES),
        read_metadata,
        permits_metadata,
        follows_links=True,
    ),
    "cache": Kind(
        make_cache, ("*/*.safetensors",), (*PLACES, mutate_entry, mutate_entry), read_cache, follows_links=True
    ),
}
