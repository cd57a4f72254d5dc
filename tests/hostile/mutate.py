"""Changes of bytes, of nested values and of what lies at a path, each drawn from a seeded source.

A mutation takes (random source, folder, file), changes the file, and returns a sentence on what it did.
"""

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yaml import safe_load

from genhub.recipes.yaml import write_yaml

Mutation = Callable[[random.Random, Path, Path], str]

SPARSE = 3 << 30  # bytes of a file of zeros, more than the memory limit
DEPTH = 100_000  # of lists within lists, which no recursive reader stands
DEEP = "@deep@"
NUMBERS = [b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 4, b"\x80\x00\x00\x00", b"\xff" * 8, b"\x00" * 8]
NUMBERS += [b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\xff" * 7 + b"\x7f", b"\x01\x00\x00\x00" * 2]
VALUES: list[Any] = [None, [], {}, "", 0, -1, 1, 10**10, -(10**10), 10**30, 1e308, float("nan"), float("inf"), True]
VALUES += [False, "x" * 100_000, "\u0000", "\ud800", ["a"], [["a", "b"], "c"], [None], {"a": None}, {"": {}}, DEEP]
VALUES += [["", ""], {"a": ["b", {"c": [1]}]}, [1, 2, 3], [1e10], "../../secret", "/dev/zero", "http://127.0.0.1:9/x"]
VALUES += [
    "os.system",
    "hostile_module.run",
    ["hostile_module", "run"],
    "torch.load",
    "builtins.eval",
    "!!python/name",
]
VALUES += ["functools.partial", "genhub.cli.main", "diffusers.DiffusionPipeline", "nan", "1e10", "no", "~", "a\nb\nc"]


def change_bytes(rng: random.Random, content: bytes, donors: list[bytes]) -> tuple[bytes, str]:
    """Returns `content` changed in one of a dozen ways, near its ends more often than elsewhere."""

    def place() -> int:
        size = max(len(content), 1)
        near = rng.choice((64, 64, size))
        return rng.choice((rng.randrange(min(near, size)), size - 1 - rng.randrange(min(near, size))))

    a, b = sorted((place(), place()))
    length, other = rng.choice((1, 4, 16, 256)), rng.choice(donors or [content])
    number, noise = rng.choice(NUMBERS), rng.randbytes(length)
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[place()] ^= 1 << rng.randrange(8)
    ways = {
        "flipped bits": bytes(changed),
        "truncated": content[:b],
        "without its beginning": content[a:],
        "removed a chunk": content[:a] + content[b:],
        "doubled a chunk": content[:b] + content[a:],
        "zeroed a chunk": content[:a] + bytes(min(length, len(content) - a)) + content[a + length :],
        "put in noise": content[:a] + noise + content[a:],
        "wrote noise": content[:a] + noise + content[a + length :],
        "wrote a number": content[:a] + number + content[a + len(number) :],
        "spliced": content[:a] + other[a:],
        "moved a chunk": content[:a] + content[b:] + content[a:b],
        "appended": content + noise,
        "empty": b"",
    }
    name = rng.choice([*ways, "flipped bits", "flipped bits", "wrote a number"])
    return ways[name], f"{name} at {a} of {len(content)}"


def mutate_bytes(rng: random.Random, folder: Path, file: Path) -> str:
    donors = [path.read_bytes() for path in sorted(file.parent.glob(f"*{file.suffix}")) if path.is_file()]
    changed, what = change_bytes(rng, file.read_bytes(), donors)
    file.write_bytes(changed)
    return what


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Returns the path of every entry of a nested value, its root first."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, entry in entries for found in places(entry, (*path, key)))]


def change_value(rng: random.Random, root: Any) -> tuple[Any, str]:
    """Changes one entry of a nested value, each level of which is as likely as any other."""
    known = places(root)
    depth = rng.choice(sorted({len(path) for path in known}) * 3 + [1 if len(known) > 1 else 0])
    path = rng.choice([path for path in known if len(path) == depth])
    if not path:
        new = rng.choice(VALUES)
        return new, f"all is {shown(new)}"
    parent = root
    for key in path[:-1]:
        parent = parent[key]
    key, old = path[-1], parent[path[-1]]
    way = rng.choice(("replace", "replace", "replace", "remove", "wrap", "rename", "add", "number"))
    if way == "number" and isinstance(old, int | float) and not isinstance(old, bool):
        new = rng.choice([-old, old + 1, old * 1000, old / 2, 2**31, 2**63, -1, 10**9, 10**30, str(old), float("nan")])
    elif way == "wrap":
        new = rng.choice([[old], {"a": old}, [old, old], {str(key): old}])
    elif way == "remove":
        del parent[key]
        return root, f"without {dotted(path)}"
    elif way in ("rename", "add") and isinstance(parent, dict):
        name = rng.choice([f"{key}_", "_class_name", "__init__", "", "../x", "class", "x" * 1000, "\u202e", 7])
        parent[name] = parent.pop(key) if way == "rename" else rng.choice(VALUES)
        return root, f"{way}: {dotted((*path, name))[:200]}"
    else:
        new = rng.choice(VALUES)
    parent[key] = new
    return root, f"{dotted(path)} is {shown(new)}"


def shown(value: Any) -> str:
    return repr(value)[:60]


def dotted(path: tuple) -> str:
    return ".".join(map(str, path))[:200]


def write_deep(text: str, quoted: str) -> str:
    return text.replace(quoted, "[" * DEPTH + "]" * DEPTH)


def change_text(rng: random.Random, text: str, is_yaml: bool) -> tuple[str, str]:
    """Changes JSON or YAML as text: repeated keys, comments, byte order marks, aliases that multiply."""
    lines = text.splitlines(keepends=True)
    line = rng.randrange(len(lines))
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10) if n else 'x'}]\n" for n in range(12))
    ways = {
        "a line twice": "".join([*lines[: line + 1], *lines[line:]]),
        "a line less": "".join([*lines[:line], *lines[line + 1 :]]),
        "two lines changed places": "".join([*lines[:line], *lines[line : line + 2][::-1], *lines[line + 2 :]]),
        "with a byte order mark": "\ufeff" + text,
        "twice": text + text,
        "with a control character": text[: len(text) // 2] + "\x07" + text[len(text) // 2 :],
        "a number of a million digits": re.sub(r"\b\d+\b", "9" * 10**6, text, count=1),
    }
    if is_yaml:
        ways |= {
            "aliases that multiply": laughs + text,
            "an alias of itself": "a: &a [*a]\n" + text,
            "a tag": re.sub(r": ", ": !!python/object/apply:os.system ", text, count=1),
            "a merge": "x: &x {a: 1}\n<<: *x\n" + text,
            "tabs": text.replace("  ", "\t"),
            "nested without end": "a: " + "[" * DEPTH + "\n" + text,
        }
    name = rng.choice([*ways])
    return ways[name], name


def mutate_json(rng: random.Random, folder: Path, file: Path) -> str:
    """Changes an entry of a JSON file, or the text of it; in a file of lines, one of them."""
    text = file.read_text()
    if rng.random() < 0.2:
        text, what = change_text(rng, text, is_yaml=False)
    elif file.suffix == ".jsonl":
        lines = text.splitlines()
        line = rng.randrange(len(lines))
        value, what = change_value(rng, json.loads(lines[line]))
        lines[line] = write_deep(json.dumps(value), f'"{DEEP}"')
        text, what = "\n".join(lines) + "\n", f"line {line}: {what}"
    else:
        value, what = change_value(rng, json.loads(text))
        text = write_deep(json.dumps(value), f'"{DEEP}"')
    file.write_bytes(text.encode(errors="surrogatepass"))
    return what


def mutate_yaml(rng: random.Random, folder: Path, file: Path) -> str:
    """Changes an entry of a YAML file, or the text of it."""
    text = file.read_text()
    if rng.random() < 0.25:
        text, what = change_text(rng, text, is_yaml=True)
    else:
        value, what = change_value(rng, safe_load(text))
        try:
            text = write_deep(write_yaml(value), f"'{DEEP}'")
        except UnicodeEncodeError:  # of half a character, which only an escape can write
            text = json.dumps(value)
    file.write_bytes(text.encode(errors="surrogatepass"))
    return what


def mutate_place(rng: random.Random, folder: Path, file: Path) -> str:
    """Puts something else at the path of a file: nothing, another name, a link, a pipe, a folder, endless zeros."""
    content, outside = file.read_bytes(), folder.parent / "secret"
    ways = ("removed", "renamed", "link to itself", "link to nothing", "link outside", "pipe", "link to a pipe")
    ways = (*ways, "folder", "link to zeros", "link beside", "twice")
    way = rng.choice((*ways, *ways, "zeros"))
    if way == "twice":
        file.with_name(f"copy-{file.name}").write_bytes(content)
        return way
    file.unlink()
    if way == "renamed":
        file.with_name(rng.choice((f"{file.name}.bak", file.name.upper(), f".{file.name}"))).write_bytes(content)
    elif way == "link to itself":
        file.symlink_to(file.name)
    elif way == "link to nothing":
        file.symlink_to("nothing")
    elif way == "link outside":
        outside.write_bytes(content)
        file.symlink_to(rng.choice((outside, Path(os.path.relpath(outside, file.parent)))))
    elif way == "pipe":
        os.mkfifo(file)
    elif way == "link to a pipe":
        os.mkfifo(folder.parent / "pipe")
        file.symlink_to(folder.parent / "pipe")
    elif way == "folder":
        file.mkdir()
    elif way == "link to zeros":
        file.symlink_to("/dev/zero")
    elif way == "zeros":
        file.touch()
        os.truncate(file, SPARSE)
    elif way == "link beside":
        (file.parent / f"moved-{file.name}").write_bytes(content)
        file.symlink_to(f"moved-{file.name}")
    return way
