"""A folder of a stranger's is a working folder like any other: nothing that lies in it is imported."""

import importlib.metadata
import os
import shutil
import subprocess
import sys

import pytest

import genhub
from genhub import recipes
from genhub.cli import main

MODULE = "import pathlib; pathlib.Path(__file__).with_name('imported').write_text(__name__)\n"
OPTIONAL = ["bitsandbytes", "flash_attn", "kernels", "onnxruntime", "peft", "timm", "torchvision", "wandb", "xformers"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a module by every name that an import could ask for; `imported` tells of one that was
    imported."""
    distributions = importlib.metadata.packages_distributions()
    for name in {*sys.stdlib_module_names, *distributions, *OPTIONAL, "mine", "sitecustomize"} - {"genhub"}:
        if name.isidentifier():
            (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_module_of_the_working_folder_is_imported_by_a_command(folder):
    env = os.environ | {"PYTHONPATH": os.path.dirname(genhub.__path__[0])}

    done = subprocess.run([sys.executable, "-m", "genhub.cli", "recipes"], env=env, capture_output=True, text=True)

    assert not (folder / "imported").exists(), (folder / "imported").read_text()
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", len(recipes.names()))


def test_own_classes_may_lie_in_the_working_folder_if_they_are_trusted(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "mine_alone.py").write_text("import genhub\nclass Net(genhub.LeanUNet2DModel): pass\n")
    words = ["train", "ddpm-quick", "--components.unet.class", "mine_alone.Net", "--training.ema.net", "0.5"]

    codes = [main(words), main([*words, "--trust_code"])]

    assert codes == [1, 1]
    untrusted, trusted = capsys.readouterr().err.splitlines()
    assert "got mine_alone.Net. Your own classes need `trust_code`" in untrusted
    assert "There is no `training.ema.net`" in trusted
    assert sys.path[-1] == str(folder)


@pytest.mark.parametrize("command", ["evaluate", "figure samples", "train", "train --resume"])
def test_the_recipe_of_a_repository_imports_nothing(command, folder, tiny_repo, monkeypatch, capsys):
    repo = shutil.copytree(tiny_repo, folder / "repo", ignore=shutil.ignore_patterns("training"))
    recipe = (repo / "recipe.yaml").read_text()
    (repo / "recipe.yaml").write_text(recipe.replace("genhub.LeanUNet2DModel", "mine.Model"))
    monkeypatch.syspath_prepend(folder)

    code = main([*command.split(), str(repo)])

    assert not (folder / "imported").exists()
    assert (code, len(capsys.readouterr().err.splitlines())) == (1, 1)
