"""A page and a demo of a repository arrive on the Hub as Spaces that hold all they need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import genhub

GAN = Path(genhub.__file__).parents[1] / "model_cards/gan"
PUSH = """
import json, sys
from huggingface_hub import HfApi
from genhub.cli import main

page, demo = sys.argv[1:]
assert main(["push", page, "someone/page", "--page"]) == 0
assert main(["push", demo, "someone/demo", "--demo"]) == 0
names = ("page", "demo")
print(json.dumps({name: HfApi().list_repo_files(f"someone/{name}", repo_type="space") for name in names}))
"""


@pytest.mark.slow
def test_a_page_and_a_demo_are_pushed_as_spaces(hub, tmp_path):
    page = tmp_path / "site"
    page.mkdir()
    for name in ("index.html", "README.md"):
        (page / name).write_text(name)

    words = [sys.executable, "-c", PUSH, str(page), str(GAN)]
    done = subprocess.run(words, env=hub[1], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    sent = json.loads(done.stdout.splitlines()[-1])
    assert {*sent["page"]} >= {"index.html", "README.md"}
    assert {*sent["demo"]} >= {
        "README.md",
        "app.py",
        "requirements.txt",
        "model/model_index.json",
        "model/pipeline_gan.py",
    }
