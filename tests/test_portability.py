"""The package runs where Linux does not: read from the sources, and by the branches that Windows takes."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import genhub
from genhub.utils import files

ROOT = Path(genhub.__file__).parent
SOURCES = [*ROOT.rglob("*.py"), *(ROOT.parent / "scripts").rglob("*.py")]
POSIX = {  # what `os`, `signal` and the standard library have on POSIX only
    "os": {"O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "fork", "geteuid", "getuid", "kill", "killpg", "mkfifo", "setsid"}
    | {"sched_getaffinity", "statvfs", "sysconf", "uname"},
    "signal": {"SIGHUP", "SIGKILL", "SIGUSR1", "alarm", "pthread_sigmask", "setitimer"},
}
MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}


def name(path: Path) -> str:
    return path.relative_to(ROOT.parent).as_posix()


def has_encoding(call: ast.Call) -> bool:
    """Returns whether a call that reads or writes a text says how; calls of other kinds do."""
    function, words = call.func, {word.arg for word in call.keywords}
    if isinstance(function, ast.Attribute) and function.attr in ("read_text", "write_text"):
        return "encoding" in words or ast.unparse(function.value) == "reading"  # genhub's own, always UTF-8
    if isinstance(function, ast.Name) and function.id == "open":
        mode = call.args[1] if len(call.args) > 1 else ast.Constant("r")
        return "encoding" in words or "b" in ast.unparse(mode)
    return True


def test_every_text_is_read_and_written_in_an_encoding_that_is_said():
    calls = [(path, node) for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    calls = [
        (name(path), node.lineno) for path, node in calls if isinstance(node, ast.Call) and not has_encoding(node)
    ]

    assert calls == []


def test_the_package_uses_nothing_that_only_posix_has():
    used = []
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        used += [
            (name(path), node.attr)
            for node in attributes
            if isinstance(node.value, ast.Name) and node.attr in POSIX.get(node.value.id, ())
        ]
        imports = [node for node in tree.body if isinstance(node, ast.Import)]  # those of functions may be guarded
        used += [(name(path), alias.name) for node in imports for alias in node.names if alias.name in MODULES]

    assert used == []


def test_files_and_folders_are_replaced_where_folders_cannot_be_opened(tmp_path, monkeypatch):
    """As on Windows, where no folder can be flushed and none be renamed to another, however empty."""
    open_file = os.open

    def open_no_folder(path, *flags, **options):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *flags, **options)

    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(os, "open", open_no_folder)
    (tmp_path / "empty").mkdir()

    files.atomic_write(tmp_path / "a.txt", "old")
    files.atomic_write(tmp_path / "a.txt", "new")
    files.append(tmp_path / "a.txt", "er")
    with files.new_folder(tmp_path / "empty") as part:
        (part / "b.txt").write_text("b", encoding="utf-8")

    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "newer"
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["b.txt"]
    with pytest.raises(OSError, match="not empty"), files.new_folder(tmp_path / "empty"):
        pass


@pytest.mark.slow
def test_a_name_that_the_console_lacks_is_printed_all_the_same(tiny_repo, tmp_path):
    shutil.copytree(tiny_repo, tmp_path / "modèle")
    words = ["generate", str(tmp_path / "modèle"), "--count", "1", "--output", str(tmp_path / "é.png")]
    env = os.environ | {"PYTHONIOENCODING": "ascii"}

    done = subprocess.run([sys.executable, "-m", "genhub.cli", *words], env=env, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "\\xe9.png" in done.stdout
    assert (tmp_path / "é.png").stat().st_size > 0


@pytest.mark.slow
def test_workers_that_are_spawned_read_the_same_images(tiny, tmp_path):
    """As on Windows and macOS, where no process is forked."""
    script = """
import json, multiprocessing, sys
import genhub
if __name__ == "__main__":
    method, folder, overrides = sys.argv[1:]
    multiprocessing.set_start_method(method)
    genhub.train("ddpm-quick", folder, overrides=json.loads(overrides))
"""
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    overrides = json.dumps(tiny | {"data.memory_limit_gb": 0, "data.workers": 1, "training.max_steps": 2})
    for method in ("fork", "spawn"):
        command = [sys.executable, str(tmp_path / "script.py"), method, str(tmp_path / method), overrides]
        subprocess.run(command, check=True, capture_output=True)

    weights = [(tmp_path / m / "unet/diffusion_pytorch_model.safetensors").read_bytes() for m in ("fork", "spawn")]
    assert weights[0] == weights[1]
