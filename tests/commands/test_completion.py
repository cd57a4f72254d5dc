"""The script of `genhub completion` completes words in a real shell."""

import shutil
import subprocess

import pytest

from genhub.cli import main

TRY = """
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _shtab_genhub; echo "${COMPREPLY[@]}"; }
try genhub ev
try genhub generate gan
try genhub train ddpm-f
try genhub figure cl
try genhub generate gan-best --st
try genhub evaluate local-
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_and_all_that_has_a_name(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "local-model").mkdir()

    script = capsys.readouterr().out + TRY
    done = subprocess.run(["bash", "--norc"], input=script, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stderr == ""
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["evaluate"],
        ["gan", "gan-best"],
        ["ddpm-few-step"],
        ["classes"],
        ["--steps", "--strength"],
        ["local-model"],
    ]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_the_script_of_other_shells_names_commands_and_options(shell, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GENHUB_MODELS", "/no/such/folder")  # names no models
    assert main(["completion", shell]) == 0

    (script := tmp_path / "script").write_text(capsys.readouterr().out)
    assert "evaluate" in script.read_text()
    assert "class_labels" in script.read_text()
    if shutil.which(shell) is not None:
        assert subprocess.run([shell, "-n", script], capture_output=True).returncode == 0
