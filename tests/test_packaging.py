"""What is said about installing genhub: one way, one place, and extras that exist."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from genhub.training.distributed import EXTRAS as TRACKERS
from genhub.utils.extras import DISTRIBUTION, how_to_install
from genhub.version import VERSION

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
INSTALL = re.compile(r"pip install [^`\n]*")


def texts() -> dict[str, str]:
    """Name -> content of the repository's texts, without the tests."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kinds = (".cff", ".ipynb", ".jinja", ".md", ".py", ".sh", ".toml", ".yaml", ".yml", "Dockerfile")
    names = [name for name in listed.splitlines() if name.endswith(kinds) and not name.startswith("tests/")]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names if (ROOT / name).exists()}


def test_nothing_sends_a_reader_to_the_other_project_of_that_name():
    said = [(name, line) for name, text in texts().items() for line in INSTALL.findall(text)]

    assert [(name, line) for name, line in said if re.search(r"[\s'\"]genhub\b(?!-)", line)] == []
    assert [name for name, text in texts().items() if re.search(r"pypi\.org/project/genhub\b(?!-)", text)] == []


def test_extras_are_advised_in_one_form_and_by_one_function():
    for name, text in texts().items():
        advised = [line for line in INSTALL.findall(text) if re.search(r"\.\[", line)]
        if name.startswith("genhub/"):
            assert not advised or name == "genhub/utils/extras.py", f"{name}: how_to_install says it"
        elif not name.endswith((".ipynb", "Dockerfile")):  # a kernel has another working folder, an image no clone
            for line in advised:
                extras = re.search(r'-e "\.\[([a-z,]+)\]"', line)
                assert extras, f"{name}: {line}"
                assert {*extras[1].split(",")} <= {*EXTRAS}, f"{name}: {line}"


def test_an_extra_that_the_code_advises_exists():
    advised = {extra for text in texts().values() for extra in re.findall(r"how_to_install\(['\"](\w+)", text)}

    assert {"eval", "figures"} <= advised | {*TRACKERS} <= {*EXTRAS}
    assert how_to_install("eval").startswith('`pip install -e ".[eval]"`')


def test_an_extra_that_takes_others_takes_them_of_this_distribution():
    assert PROJECT["name"] == DISTRIBUTION
    taken = [one for needs in EXTRAS.values() for one in needs if one.startswith("genhub")]

    assert [one for one in taken if not re.fullmatch(rf"{DISTRIBUTION}\[[a-z,]+\]", one)] == []


def declared() -> dict[str, str]:
    """The lower bounds of what genhub needs, and of the extras that its tests need for more than testing."""
    needs = [
        *PROJECT["dependencies"],
        *(need for extra in ("eval", "export", "figures", "text") for need in EXTRAS[extra]),
    ]
    return dict(need.lower().split(">=") for need in needs)


def test_the_lowest_versions_are_those_that_are_declared():
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").lower().splitlines()
    lowest = dict(line.split("==") for line in lines if not line.startswith("#"))

    assert lowest.keys() == declared().keys()
    short = {name: version for name, version in lowest.items() if not f"{version}.".startswith(f"{declared()[name]}.")}
    assert short == {}


def test_the_citation_is_of_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == VERSION


def test_the_workflow_tests_the_interpreters_that_are_declared_and_files_that_exist():
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    declared = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.", line)]

    assert jobs["suite"]["strategy"]["matrix"]["python"] == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"
    assert [name for name in re.findall(r"(?:tests|scripts|\.ci)/[\w./]*", text) if not (ROOT / name).exists()] == []


def test_the_image_is_built_from_what_the_wheel_needs():
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    copied = re.findall(r"^COPY ([\w.]+) \./$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)

    assert {"genhub", "pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], *copied} <= {*kept}
    assert [name for name in kept if not (ROOT / name).exists()] == []


@pytest.mark.slow
def test_without_transformers_only_what_needs_it_is_refused(tmp_path):
    script = f"""
import sys
sys.modules["transformers"] = None  # neither found nor imported
from genhub.cli import main
cards, made = {str(ROOT / "model_cards")!r}, {str(tmp_path)!r}
assert main(["generate", f"{{cards}}/text-to-image", "--output", f"{{made}}/a.png"]) == 1
assert main(["train", "text-to-image", f"{{made}}/run", "--data.source", "sample"]) == 1
assert main(["generate", f"{{cards}}/vae", "--count", "1", "--output", f"{{made}}/b.png"]) == 0
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]
    errors = [line for line in done.stderr.splitlines() if line.startswith("genhub: error")]
    assert [how_to_install("text") in line for line in errors] == [True, True]
