"""The site: each page has its place, each public name its entry, each link of a document leads somewhere."""

import fnmatch
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import genhub

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts/site"))

import links  # noqa: E402
import made_pages  # noqa: E402
import papers  # noqa: E402

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def in_nav(entry) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [uri for part in (entry.values() if isinstance(entry, dict) else entry) for uri in in_nav(part)]


def unlisted(uri: str) -> bool:
    return any(fnmatch.fnmatch(f"/{uri}", pattern) for pattern in CONFIG["not_in_nav"].split())


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return made_pages.all_pages()


def test_each_page_of_docs_has_its_line_in_the_navigation(made):
    """A new page of docs/ wants a line `- Title: page.md` under `nav` in mkdocs.yml."""
    written = [links.place(str(path.relative_to(ROOT))) for path in DOCUMENTS]

    assert sorted(in_nav(CONFIG["nav"])) == sorted(uri for uri in {*written, *made} if not unlisted(uri))


def test_the_course_and_the_studies_stand_in_the_first_row():
    assert [{"Course": "course.md"}, {"Studies": "studies.md"}] == CONFIG["nav"][1:3]


def test_each_study_and_report_is_on_the_page_of_studies(made):
    reports = [links.place(str(path.relative_to(ROOT))) for path in DOCUMENTS]
    studies = [
        yaml.safe_load(path.read_text(encoding="utf-8"))["question"]
        for path in (ROOT / "scripts/studies").glob("*.yaml")
    ]

    assert [uri for uri in reports if unlisted(uri) and f"({uri})" not in made["studies.md"]] == []
    assert [question for question in studies if question not in made["studies.md"]] == []


def test_each_public_name_has_an_entry_in_the_api_reference(made):
    rooms = [genhub, *(importlib.import_module(f"genhub.{room}") for room in ("objectives", "data", "plotting"))]
    public = {f"{room.__name__}.{name}": getattr(room, name) for room in rooms for name in room.__all__}
    entries = made_pages.entries()
    theirs = {name for name, value in public.items() if getattr(value, "__module__", "").startswith("diffusers")}

    assert public.keys() - entries.keys() == theirs
    for name, (room, path) in entries.items():
        module, _, defined = path.rpartition(".")
        assert hasattr(importlib.import_module(module), defined), name
        assert f"::: {path}\n    options: {{heading: {name}}}\n" in made[f"api/{room}.md"]
    assert all(f"`{name}`" in made["api/index.md"] for name in public)


def test_each_published_model_stands_in_the_gallery(made):
    entries = re.findall(r"\*\*\[([\w-]+)\]\(\.\./model_cards/\1/README\.md\)\*\*", made["gallery.md"])

    assert sorted(entries) == sorted(path.name for path in made_pages.CARDS.iterdir() if path.is_dir())


def test_the_index_says_what_is_taken_from_each_paper_that_is_cited(made):
    assert papers.cited().keys() == papers.taken().keys()
    assert "| [Kingma & Welling 2013](https://arxiv.org/abs/1312.6114) | the evidence lower bound" in made["papers.md"]


def test_links_on_the_site_lead_where_those_of_the_clone_do():
    text = "[a](../model_cards/gan/README.md#use) [b](claims.md) [c](../scripts/study.py)\n[d]: ../README.md\n"

    assert links.moved("docs/course.md", text) == (
        "[a](model_cards/gan/README.md#use) [b](claims.md) [c](source/scripts/study.py)\n[d]: index.md\n"
    )
    assert links.moved("README.md", "[a](docs/course.md) [b](model_cards)") == "[a](course.md) [b](gallery.md)"
    assert links.moved("docs/a/b.md", "[a](../../model_cards/gan/a.png)") == "[a](../../model_cards/gan/a.png)"


@every_document
def test_each_link_leads_somewhere(document):
    text = without_code(document.read_text(encoding="utf-8"))
    found = re.findall(r"\]\(([^)\s]+)\)|^\[[^\]\n]+\]: (\S+)$", text, re.MULTILINE)

    names = {*re.findall(r"^\[([^\]\n]+)\]: ", text, re.MULTILINE)}
    targets = [inline or named for inline, named in found]
    assert [name for name in re.findall(r"\]\[([^\]\n]+)\]", text) if name not in names] == []
    assert [target for target in targets if "://" not in target and not leads_somewhere(document, target)] == []


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]+`", "", text, flags=re.DOTALL | re.MULTILINE)


def leads_somewhere(document: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    led_to = document.parent / path if path else document
    if not anchor or not led_to.exists():
        return led_to.exists()
    text = led_to.read_text(encoding="utf-8")
    heads = [
        re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-")
        for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    ]
    return anchor in heads or f'id="{anchor}"' in text


@pytest.mark.slow
def test_the_site_is_built_strictly_and_asks_no_other_host(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr

    for name, (room, path) in made_pages.entries().items():
        assert f'id="{path}"' in (tmp_path / f"api/{room}/index.html").read_text(encoding="utf-8"), name
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|source)[^>]* src=\"?([^\" >]+)", text)
        loaded += re.findall(r"<link[^>]* rel=\"?stylesheet[^>]* href=\"?([^\" >]+)", text)
        local = [target for target in loaded if not target.startswith("data:")]
        files = [tmp_path / target[1:] if target[0] == "/" else page.parent / target for target in local]
        assert [target for target in local if "//" in target] == [], page
        assert [file for file in files if not file.exists()] == [], page
