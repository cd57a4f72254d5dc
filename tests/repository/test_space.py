"""A page and a demo of a repository arrive on the Hub as Spaces that hold all they need."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import loopback_hub
import pytest
from huggingface_hub import SpaceCard

import genhub
from genhub.cli import main
from genhub.commands.demo import write_demo
from genhub.repository.space import space_card

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


def test_a_demo_is_named_as_its_repository_of_the_hub(hub, tmp_path):
    with loopback_hub.online(hub[0], tmp_path, silence=5.0):
        genhub.push(GAN.parent / "linear-ae-pca", "user/of-points")
        folder = write_demo("user/of-points", tmp_path / "space")

    assert SpaceCard.load(folder / "README.md").data.title == "of-points"


def test_a_title_may_hold_signs_of_yaml():
    title = "'a': \"b\" # [c"

    assert SpaceCard(space_card(title, "Text.", sdk="static")).data.title == title


def test_a_demo_holds_what_a_push_would_send_but_exported_networks(tmp_path, capsys):
    repo = shutil.copytree(GAN.parent / "linear-ae-pca", tmp_path / "repo")
    (repo / "onnx/encoder").mkdir(parents=True)
    (repo / "onnx/encoder/model.onnx").write_bytes(b"large")

    model = write_demo(str(repo), tmp_path / "space") / "model"
    assert (model / "model_index.json").is_file()
    assert not (model / "onnx").exists()

    with open(repo / "README.md", "a") as card:
        card.write(f"\nTrained in {repo}.\n")
    assert main(["push", str(repo), "user/demo", "--demo", "--dry_run"]) == 1
    assert f"names a folder of this machine, {repo}: remove it" in capsys.readouterr().err
