"""What a command prints where: JSON alone on stdout, no bars in files, colours on terminals; quiet but for errors."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from genhub.cli import RUN, main
from genhub.commands import doctor
from genhub.utils import progress

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # all but the end of a line


def noisy(options, overrides, console) -> int:
    print("of a library, on stdout")
    print("of a library, on stderr", file=sys.stderr)
    console.show({"path": Path("a/b"), "values": [1.5, float("nan")]}, ["Wrote a/b"])
    return 0


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        ([], "of a library, on stdout\nWrote a/b\n", "of a library, on stderr\n"),
        (["--quiet"], "of a library, on stdout\nWrote a/b\n", ""),
        (["--json"], {"path": "a/b", "values": [1.5, None]}, "of a library, on stdout\nof a library, on stderr\n"),
        (["--json", "--quiet"], {"path": "a/b", "values": [1.5, None]}, ""),
    ],
)
def test_stdout_holds_the_result_and_with_json_nothing_else(words, out, err, monkeypatch, capsys):
    monkeypatch.setitem(RUN, "recipes", noisy)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "0")  # the user's own
    before = dict(os.environ)

    assert main(["recipes", *words]) == 0

    printed = capsys.readouterr()
    assert (json.loads(printed.out) if "--json" in words else printed.out) == out
    assert printed.err == err
    assert dict(os.environ) == before


def test_an_error_is_one_line_however_quiet_and_leaves_stdout_empty(capsys):
    assert main(["recipes", "nothing", "--quiet", "--json"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("genhub: error: There is no recipe 'nothing'")
    assert err.count("\n") == 1


def test_results_of_commands_are_json(tiny_repo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "DTYPES", {})  # nothing is timed
    lines = {
        "output": ["generate", tiny_repo, "--count", "2", "--output", tmp_path / "a.png"],
        "address": ["push", tiny_repo, "user/name", "--dry_run"],
        "versions": ["doctor"],
    }
    for key, words in lines.items():
        assert main([*map(str, words), "--json"]) == 0
        assert key in json.loads(capsys.readouterr().out)


def run_in_terminal(words: list[str], **variables: str) -> str:
    """Returns what a process prints whose stdout and stderr are a terminal."""
    terminal, inside = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | variables
    try:
        subprocess.run(
            [sys.executable, "-m", "genhub.cli", *words], stdout=inside, stderr=inside, env=env, timeout=300
        )
        return os.read(terminal, 10_000).decode()
    finally:
        os.close(inside)
        os.close(terminal)


def test_an_error_is_red_on_a_terminal_unless_the_reader_wants_no_colours():
    assert run_in_terminal(["recipes", "nothing"]).startswith("\x1b[31mgenhub: error:\x1b[0m There is no recipe")
    assert run_in_terminal(["recipes", "nothing"], NO_COLOR="1").startswith("genhub: error: There is no recipe")


def test_progress_in_a_file_is_lines_with_time_between_them_and_the_end(monkeypatch):
    monkeypatch.setenv("GENHUB_PROGRESS", "lines")
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())

    with progress.progress_bar(total=100, desc="work", unit="step", leave=False) as bar:
        for _ in range(100):
            bar.update()
            bar.set_postfix({"loss": "0.1"})
    with progress.progress_bar(is_hidden=True, total=9) as bar:
        bar.update(9)

    assert re.sub(r"\d\d:\d\d", "", file.getvalue()).splitlines() == [
        "work: 0 of 100 steps in ",
        "work: 100 of 100 steps in , loss=0.1",
    ]
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.progress_bar(total=2, desc="more", unit="step", miniters=1) as bar:
        bar.update()
        bar.update()
    assert [line[:12] for line in file.getvalue().splitlines()[2:]] == ["more: 0 of 2", "more: 1 of 2", "more: 2 of 2"]


@pytest.mark.slow
def test_no_command_writes_bars_into_a_file(tiny, tmp_path):
    words = [f"--{key}={json.dumps(value)}" for key, value in tiny.items()]
    for command in (
        ["train", "ddpm-quick", "run", *words],
        ["generate", "text-to-image", "--count", "1", "--steps", "2"],  # whose parts are diffusers' and transformers'
        ["evaluate", "run", "--data", "sample", "--count", "130", "--batch_size", "64"],
    ):
        line = [sys.executable, "-m", "genhub.cli", *command, "--json"]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
        assert CONTROL.findall(done.stderr) == [], done.stderr
        assert json.loads(done.stdout)
