"""`genhub figure`: where it writes, what it refuses, and what it adds to a card."""

import re
import shutil

import pytest

from genhub.cli import main
from genhub.figures import FIGURES
from genhub.repository.card_results import FIGURES_BEGIN, FIGURES_END, with_figure


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["clases", "REPO"],
            "There is no figure 'clases' (did you mean 'classes'?). Known: activations, arithmetic, classes, code-d",
        ),
        (["classes", "/no/such/folder"], "neither an existing folder nor a repository"),
        (["classes", "REPO", "--output", "x.jpg"], "`output` must be a .png file, got x.jpg"),
        (["classes", "REPO", "--output", "/no/such/folder/x.png"], "must lie in an existing folder"),
        (["classes", "REPO", "--seed", "-1"], "`seed` must be at least 0, got -1"),
        (
            ["sampling-time", "REPO", "--steps", "3"],
            "`steps` must be unset: the figure sampling-time takes no options, got 3",
        ),
        (["sampling-time", "REPO"], "run `genhub evaluate"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, message, tiny_repo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    code = main(["figure", *(str(tiny_repo) if word == "REPO" else word for word in arguments)])

    error = capsys.readouterr().err.splitlines()
    assert code == 1
    assert error[-1].startswith("genhub: error: ")
    assert message in error[-1]
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_file_says_where_and_shows_it_on_the_card(tiny_repo, tmp_path, capsys):
    repo = shutil.copytree(tiny_repo, tmp_path / "repo")

    assert main(["figure", "training-time", str(repo), "--output", str(tmp_path / "x.png")]) == 0
    assert "training-time.png" not in (repo / "README.md").read_text()
    assert main(["figure", "training-time", str(repo)]) == 0

    assert (tmp_path / "x.png").read_bytes() == (repo / "training-time.png").read_bytes()
    assert f"Wrote {repo / 'training-time.png'}" in capsys.readouterr().out
    assert "(training-time.png)" in (repo / "README.md").read_text()


def test_help_knows_every_figure(capsys):
    with pytest.raises(SystemExit):
        main(["figure", "--help"])

    printed = capsys.readouterr().out
    assert [name for name in FIGURES if not re.search(rf"^ *{name} ", printed, re.MULTILINE)] == []


def test_a_figure_that_lies_in_the_repository_is_shown_on_its_card_once():
    text = f"before\n{FIGURES_BEGIN}\n{FIGURES_END}\nafter\n"

    once = with_figure(with_figure(text, "units.png"), "codes.png")

    assert once == with_figure(once, "units.png")
    assert re.findall(r"\]\((.+?)\)", once) == ["codes.png", "units.png"]
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert with_figure("a card that someone wrote anew", "units.png") == "a card that someone wrote anew"
