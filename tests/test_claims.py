"""The documents about the chapter and the tutorial: each claim has one row, and what a row names is there."""

import argparse
import functools
import re
import shlex
from decimal import Decimal
from pathlib import Path

import pytest
import study
import yaml

from genhub import recipes
from genhub.cli import split_overrides
from genhub.commands.options import make_parser
from genhub.figures import FIGURES
from genhub.recipes.find import find_recipe

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / f"docs/{name}.md").read_text() for name in ("claims", "course")}
every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
HELD = ("holds", "holds in part")
MEASURED = ("agrees", "does not", "cannot be told", "not measured yet", "no proxy")
OF_TRAINING = {"code-drift", "game", "milestones", "one-epoch", "progress", "reconstruction-progress", "training-time"}
STUDIES = sorted((ROOT / "scripts/studies").glob("*.yaml"))


def rows() -> dict[str, list[str]]:
    """The cells of each claim: class, what the source says, what holds it, outcome."""
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGES["claims"].splitlines()]
    claims = [(re.sub(r"<a id=\"c\d+\"></a>", "", cells[0]), cells[1:]) for cells in found if len(cells) == 5]
    numbered = [(name, cells) for name, cells in claims if re.fullmatch(r"C\d+", name)]
    assert [name for name, _ in numbered] == [f"C{number}" for number in range(1, 118)]
    return dict(numbered)


def targets(page: str) -> list[tuple[str, str]]:
    """Text and target of each link, those by a name resolved."""
    named = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", page, re.MULTILINE))
    by_name = [(text, named[name]) for text, name in re.findall(r"\[([^\]]+)\]\[([^\]]+)\]", page)]
    return by_name + re.findall(r"\[([^\]]+)\]\(([^)\s]+)\)", page)


def commands(page: str) -> list[list[str]]:
    """The words of each command of genhub, in blocks and in lines."""
    blocks = [
        line
        for block in re.findall(r"^```bash\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    lines = [*re.findall(r"`(genhub [^`]+)`", page), *(line for line in blocks if line.startswith("genhub "))]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@functools.cache
def parser_of(command: str) -> argparse.ArgumentParser:
    return make_parser([command])


def test_every_claim_has_one_row_with_its_class_and_an_outcome_of_that_class():
    for name, (kind, source, held_by, outcome) in rows().items():
        assert kind in ("I", "L", "M", "P"), name
        assert source, name
        assert held_by, name
        found = re.match(r"\*\*([^*]+)\*\*", outcome)
        assert found, (name, outcome)
        assert found[1] in (*HELD, *MEASURED), (name, found[1])
        if kind == "I":
            assert found[1] in HELD, name
            assert "::" in held_by, name


@every_page
def test_every_test_that_is_named_exists(page):
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page):
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), (file, name)
    assert page.count("tests/") == len(re.findall(r"`tests/[\w/]+\.py::\w+`", page))


@every_page
def test_every_path_that_is_named_exists(page):
    paths = re.findall(r"(?<![\w/])((?:scripts|docs|model_cards|genhub)/[\w./-]+\w)", page)
    written = [path for path in paths if "NAME" not in path]

    assert [path for path in written if not (ROOT / path).exists()] == []


@every_page
def test_a_number_that_is_linked_stands_in_the_file_of_the_link(page):
    numbers: dict[str, list[Decimal]] = {}
    missing = []
    for text, target in targets(page):
        if not re.fullmatch(r"[+-]?[\d,]+(\.\d+)?", text):
            continue
        if target not in numbers:
            found = re.findall(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e-\d+)?", (ROOT / "docs" / target).read_text())
            numbers[target] = [Decimal(number.replace(",", "")) for number in found]
        value = Decimal(text.replace(",", ""))
        half = Decimal(1).scaleb(value.as_tuple().exponent) / 2  # the file may have rounded before
        if not any(abs(abs(number) - abs(value)) <= half for number in numbers[target]):
            missing.append((text, target))
    assert missing == []


@every_page
def test_every_command_is_one_of_the_command_line(page):
    found = commands(page)
    assert found
    for words in found:
        plain, overrides = split_overrides(words)
        options, unknown = parser_of(plain[0]).parse_known_args(plain)
        assert unknown == [], words
        if options.command == "train":
            find_recipe(options.recipe)
            if overrides:
                recipes.load(options.recipe, overrides)
        if options.command == "figure":
            assert options.name in FIGURES, words
            assert options.repo.startswith("runs/") or options.name not in OF_TRAINING, words
        if options.command != "train":
            kind, _, name = options.repo.partition("/")
            assert find_recipe(name) if kind == "runs" else (ROOT / options.repo / "model_index.json").is_file(), words


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_named_by_the_claims_that_it_names(path):
    found = rows()

    for claim in yaml.safe_load(path.read_text()).get("claims", []):
        assert f"scripts/studies/{path.name}" in found[claim][2] or f"docs/studies/{path.stem}" in found[claim][2], (
            claim
        )


def test_what_is_not_measured_yet_says_what_would_measure_it_and_is_not_there():
    measured = {path.name for path in STUDIES if (ROOT / "docs/studies" / path.stem / "README.md").is_file()}

    for claim, (_, _, held_by, outcome) in rows().items():
        if "**not measured yet**" in outcome:
            named = re.findall(r"`scripts/studies/([\w-]+\.yaml)`", held_by + outcome)
            assert named or "no study" in (held_by + outcome).lower(), claim
            assert not named or {*named} - measured, (
                f"{claim}: all its studies are measured, so the row can say what came out"
            )


def test_the_course_goes_through_the_chapter_and_all_exercises():
    heads = re.findall(r"^#+ (.*)$", PAGES["course"], re.MULTILINE)

    sections = {section for head in heads for section in re.findall(r"\b1\.\d+\b", head)}
    exercises = [int(number) for head in heads for number in re.findall(r"^Exercise (\d+)", head)]
    assert sections == {f"1.{number}" for number in range(21)}
    assert exercises == [*range(1, 14)]


def test_a_study_loads_wherever_it_is_named():
    named = {name for page in PAGES.values() for name in re.findall(r"scripts/studies/([\w-]+\.yaml)", page)}

    assert named - {"NAME.yaml"} == {path.name for path in STUDIES}
    for path in STUDIES:
        study.read_study(path)
