"""`genhub models` lists what short names find, with the figures of their own files."""

import json
import shutil
from pathlib import Path

import genhub
from genhub.cli import main
from genhub.repository import names

CARDS = Path(genhub.__file__).parent.parent / "model_cards"


def listed(capsys) -> list[dict]:
    """Returns what `genhub models --json` prints, which is JSON and nothing else."""
    assert main(["models", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_model_of_the_clone_is_listed_with_what_was_measured_of_it(capsys):
    found = {facts["name"]: facts for facts in listed(capsys)}

    assert found.keys() == {path.name for path in CARDS.iterdir() if path.is_dir()}
    for name, part, family in (("gan-best", "generator", "GAN"), ("ddpm-few-step", "unet", "diffusion")):
        metrics = json.loads((CARDS / name / "metrics.json").read_text())
        *_, newest = (entry for entry in metrics["evaluations"] if entry["complete"])
        (value,) = (x["value"] for x in newest["figures"] if (x["name"], x["space"]) == ("FD-FM", "clf"))
        assert found[name]["quality"] == {"name": "FD-FM", "value": value, "complete": True}
        assert found[name]["parameters"] == {part: metrics["training"]["parameters"][part]}  # not what only trained it
        assert found[name]["bytes"] == (CARDS / name / part / "diffusion_pytorch_model.safetensors").stat().st_size
        assert found[name]["family"] == family
    assert [name for name, facts in found.items() if facts["quality"] is None or facts["family"] is None] == []


def test_the_table_has_a_line_for_each_the_best_of_a_family_first(capsys):
    assert main(["models"]) == 0

    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "family", "parameters", "weights", "quality"]
    assert len(lines) == len([path for path in CARDS.iterdir() if path.is_dir()])
    values = [float(line.split()[-1]) for line in lines if " GAN " in line]
    assert len(values) > 3
    assert values == sorted(values)


def test_what_cannot_be_read_is_named_and_the_others_are_listed(tiny_repo, tmp_path, monkeypatch, capsys):
    for name in ("good", "damaged"):
        shutil.copytree(tiny_repo, tmp_path / name, ignore=shutil.ignore_patterns("training"))
    (tmp_path / "damaged/metrics.json").write_text('{"evaluations": 1}')
    monkeypatch.setenv("GENHUB_MODELS", str(tmp_path))

    assert main(["models", "--json"]) == 0

    printed = capsys.readouterr()
    assert [facts["name"] for facts in json.loads(printed.out)] == ["good"]
    assert printed.err.startswith(f"damaged is left out: {tmp_path}/damaged/metrics.json: `evaluations`")


def test_without_a_place_to_look_it_says_where_models_come_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(names, "CLONE", tmp_path)

    assert main(["models"]) == 1
    assert "`GENHUB_MODELS` (a folder, or a namespace of the Hub) is not set" in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("GENHUB_MODELS", "user")  # the tests are offline

    assert main(["models"]) == 1
    assert "The models of user on the Hub cannot be listed" in capsys.readouterr().err
