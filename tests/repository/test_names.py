"""A short name stands for a published model: of the clone, or of `GENHUB_MODELS`."""

import json
import re
import shutil
from pathlib import Path

import loopback_hub
import pytest
from huggingface_hub import HfApi

import genhub
from genhub.cli import main
from genhub.repository import names
from genhub.repository.download import download
from genhub.repository.format import RepositoryError

ROOT = Path(genhub.__file__).parent.parent


@pytest.fixture
def models(tiny_repo, tmp_path, monkeypatch) -> Path:
    """A folder of two models, in `GENHUB_MODELS`; the working folder is an empty one."""
    for name in ("tiny-ddpm", "tiny-ddpm2"):
        shutil.copytree(tiny_repo, tmp_path / "models" / name, ignore=shutil.ignore_patterns("training"))
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("GENHUB_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "models"


def test_a_clone_has_its_published_models_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert download("gan-best") == ROOT / "model_cards/gan-best"


def test_what_is_made_of_a_model_by_its_name_is_written_here_and_nothing_beside_the_model(models):
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*")}

    assert main(["generate", "tiny-ddpm", "--count", "2"]) == 0

    assert Path("generated.png").is_file()
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*")} == before


def test_a_folder_of_that_name_here_wins(models):
    shutil.copytree(models / "tiny-ddpm2", "tiny-ddpm")

    assert download("tiny-ddpm") == Path("tiny-ddpm")
    assert download("tiny-ddpm2") == models / "tiny-ddpm2"


def test_a_typo_is_answered_with_the_nearest_names_and_where_they_are(models, capsys):
    assert main(["generate", "tiny-dpdm"]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert f"no model tiny-dpdm in {models} (did you mean 'tiny-ddpm' or 'tiny-ddpm2'?)" in line
    assert not [*Path.cwd().iterdir()]


def test_without_a_clone_an_error_says_where_short_names_come_from(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "CLONE", tmp_path)  # as of an installed wheel

    with pytest.raises(RepositoryError, match="from no clone with model_cards, and `GENHUB_MODELS`.* is not set"):
        genhub.AutoPipeline.from_pretrained("gan-best")


def test_a_place_that_is_neither_a_folder_nor_a_namespace_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("GENHUB_MODELS", "/no/such/folder")

    assert main(["generate", "gan-best"]) == 1
    assert "`GENHUB_MODELS` must be an existing folder or a namespace of the Hub" in capsys.readouterr().err
    with pytest.raises(RepositoryError, match="GENHUB_MODELS"):
        download("gan-best")
    assert main(["recipes", "gan-best"]) == 0  # a recipe needs no model
    assert re.search("card +in model_cards of a clone", capsys.readouterr().out)


def test_a_namespace_of_the_hub_has_its_models_by_name(hub, tiny_repo, tmp_path, monkeypatch):
    monkeypatch.setenv("GENHUB_MODELS", "user")
    monkeypatch.chdir(tmp_path)
    with loopback_hub.online(hub[0], tmp_path, silence=5.0):
        genhub.push(tiny_repo, "user/by-name")

        assert (download("by-name") / "model_index.json").read_text() == (tiny_repo / "model_index.json").read_text()
        with pytest.raises(RepositoryError, match=r"repository user/bi-name .*\(did you mean 'by-name'\?\)"):
            download("bi-name")


def test_a_namespace_of_the_hub_is_listed_without_the_models_of_others(hub, tiny_repo, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GENHUB_MODELS", "user")
    with loopback_hub.online(hub[0], tmp_path, silence=5.0):
        genhub.push(tiny_repo, "user/listed")
        HfApi().create_repo("user/of-another-kind", exist_ok=True)
        assert main(["models", "--json"]) == 0
        found = {facts["name"]: facts for facts in json.loads(capsys.readouterr().out)}
        monkeypatch.setenv("GENHUB_MODELS", "nobody")
        assert main(["models"]) == 1
        nobody = capsys.readouterr()
        weights = [path.name for path in download("user/listed", allow_patterns="*.json").rglob("*.safetensors")]

    assert "of-another-kind" not in found
    assert found["listed"]["bytes"] == sum(path.stat().st_size for path in tiny_repo.glob("unet/*.safetensors"))
    assert found["listed"]["training"]["minutes"] >= 1
    assert nobody.out == ""
    assert "The namespace nobody of the Hub does not exist, or holds no model that genhub can read." in nobody.err
    assert weights == []  # nobody needs them for a list
