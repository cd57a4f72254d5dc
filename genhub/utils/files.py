"""Files that a crash cannot leave half-written, and what they hold."""

import hashlib
import os
from pathlib import Path


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def atomic_write(path: Path, content: str | bytes):
    """Writes a file beside its place and moves it there, so that it is the old one or the new one at any moment."""
    scratch = path.with_name(f"{path.name}.part")
    scratch.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(scratch, path)
