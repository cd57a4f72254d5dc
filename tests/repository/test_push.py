"""What was saved is what is shared, and over HTTP it loads as from a folder."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fresh
import pytest
import torch
from safetensors.torch import load_file
from tiny_pipelines import CALL, PIPELINES, tensor

import genhub
from genhub.cli import main
from genhub.repository.format import RepositoryError, repo_files
from genhub.repository.push import files_to_push, listing, push
from genhub.repository.save import record_digests

STEPS = {"batch_size": 2, "num_inference_steps": 4}
SHARED = {  # what training made, and pipelines with parts of transformers, and of genhub and diffusers
    "tiny": ("CosineDDPMPipeline", "DiffusionPipeline", STEPS),
    "plain": ("CosineDDPMPipeline", "DDPMPipeline", STEPS),
    "text": ("AutoPipeline", "StableDiffusionPipeline", PIPELINES["StableDiffusionPipeline"].arguments),
    "mixed": ("AutoPipeline", "DDPMPipeline", PIPELINES["DDPMPipeline, scheduler of genhub"].arguments),
}
PUSH = """
import genhub, genhub.cli, json
from huggingface_hub import HfApi

for name, (folder, own, _, arguments) in json.loads({cases!r}).items():
    repo = f"someone/{{name}}"
    for _ in range(2):  # the second time changes nothing
        assert genhub.cli.main(["push", folder, repo]) == 0
    pipes = [getattr(genhub, loader).from_pretrained(repo) for loader in ("AutoPipeline", own)]
    torch.save([tensor(pipe, arguments) for pipe in pipes], {out!r} + f"/{{name}}-genhub.pt")
    print(json.dumps([name, HfApi().list_repo_files(repo)]))
print(genhub.AutoPipeline.from_pretrained({styles!r}).push_to_hub("someone/styles"))
"""
LOAD = """
import diffusers, json

cases = json.loads({cases!r}) | {{"styles": [None, None, "DiffusionPipeline", {styles!r}]}}
for name, (_, _, kind, arguments) in cases.items():
    trust = {{"trust_remote_code": True}} if name in ("tiny", "mixed", "styles") else {{}}
    pipe = getattr(diffusers, kind).from_pretrained(f"someone/{{name}}", **trust)
    torch.save([tensor(pipe, arguments)], {out!r} + f"/{{name}}-diffusers.pt")
"""


@pytest.fixture(scope="module")
def text_repo(tmp_path_factory) -> Path:
    """A saved text-to-image pipeline, with the files of an older tokenizer and of another runtime. Read only."""
    folder = tmp_path_factory.mktemp("repo") / "text"
    genhub.save_repo(PIPELINES["StableDiffusionPipeline"].make(), folder, {"README.md": "---\nlicense: mit\n---\n"})
    for name in ("tokenizer/merges.txt", "tokenizer/vocab.json", "unet/model.onnx"):
        (folder / name).write_text("{}")
    record_digests(folder)
    return folder


@pytest.mark.parametrize(
    "name", ["training/checkpoints/x", ".saving/unet/config.json", ".cache/x", "notes.txt", ".env", "x.png"]
)
def test_what_lies_beside_a_repository_is_not_shared(name, text_repo, tmp_path):
    folder = Path(shutil.copytree(text_repo, tmp_path / "repo"))
    expected = repo_files(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")

    assert repo_files(folder) == expected


@pytest.mark.parametrize("name", ["__pycache__/x.pyc", ".x", "x.safetensors.part", ".cache/x"])
def test_caches_and_half_written_files_of_a_component_are_not_shared(name, text_repo, tmp_path):
    folder = Path(shutil.copytree(text_repo, tmp_path / "repo"))
    expected = repo_files(folder)
    (folder / "unet" / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "unet" / name).write_text("x")

    assert repo_files(folder) == expected


def test_every_file_of_a_component_is_shared(text_repo):
    files = {path.relative_to(text_repo).as_posix() for path in text_repo.rglob("*") if path.is_file()}

    assert set(repo_files(text_repo)) == files
    assert {"tokenizer/merges.txt", "tokenizer/vocab.json", "tokenizer/tokenizer.json", "unet/model.onnx"} < files


@pytest.fixture
def repo(text_repo, tmp_path) -> Path:
    """A repository of one's own to spoil, below the working folder."""
    return Path(shutil.copytree(text_repo, tmp_path / "work/repo"))


def test_a_dry_run_lists_every_file_with_its_size_and_sends_nothing(repo, capsys):
    address = push(repo, "someone/x", dry_run=True)  # no Hub is there

    files = {path.relative_to(repo).as_posix(): path.stat().st_size for path in repo.rglob("*") if path.is_file()}
    *lines, total = [line.split() for line in capsys.readouterr().err.splitlines() if re.match(r" *[\d,]+ ", line)]
    assert {name: int(size.replace(",", "")) for size, name in lines} == files
    assert total == [f"{sum(files.values()):,}", "bytes", "in", str(len(files)), "files"]
    assert address.endswith("/someone/x")
    assert main(["push", str(repo), "someone/x", "--dry_run"]) == 0
    assert capsys.readouterr().out.startswith("Nothing was sent to https://")


@pytest.mark.parametrize("name", ["unet/own.py", "unet/other.safetensors"])
def test_what_lies_in_the_folder_of_a_part_and_is_not_of_it_is_never_sent(name, repo):
    (repo / name).parent.mkdir(exist_ok=True)
    (repo / name).write_text("{}")

    assert name not in files_to_push(repo)
    with pytest.raises(RepositoryError, match=f"records no SHA-256 of {name}"):
        push(repo, "someone/x", dry_run=True)


def test_of_a_repository_that_records_nothing_the_known_files_are_sent_and_the_rest_is_named(repo, capsys):
    index = json.loads((repo / "model_index.json").read_text())
    index.pop("_genhub")
    (repo / "model_index.json").write_text(json.dumps(index))
    strays = ["tokenizer/notes.txt", "unet/model.onnx", "unet/own.py", "unet/secret.json", "unet/x.safetensors"]
    for name in strays:
        (repo / name).write_text("{}")

    files = {path.relative_to(repo).as_posix() for path in repo.rglob("*") if path.is_file()}
    assert set(files_to_push(repo)) == files - {*strays}
    listed = listing(repo, files_to_push(repo))
    assert listed[-1] == f"left out, as model_index.json does not name them: {', '.join(strays)}"


@pytest.mark.parametrize("name", ["README.md", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet"])
def test_a_link_out_of_the_folder_is_refused_before_anything_is_sent(name, repo, tmp_path):
    shutil.move(repo / name, tmp_path / "home")
    (repo / name).symlink_to(tmp_path / "home")

    with pytest.raises(RepositoryError, match="must be a regular file of the repository"):
        push(repo, "someone/x", dry_run=True)


def test_a_pipe_is_refused_and_not_waited_for(repo):
    (repo / "LICENSE").unlink(missing_ok=True)
    os.mkfifo(repo / "unet/pipe.json")

    with pytest.raises(RepositoryError, match=r"pipe\.json"):
        push(repo, "someone/x", dry_run=True)
    assert "unet/pipe.json" not in files_to_push(repo)


@pytest.mark.parametrize("place", ["home", "working folder", "repository"])
@pytest.mark.parametrize("name", ["README.md", "recipe.yaml", "metrics.json"])
def test_a_text_that_names_a_folder_of_this_machine_is_refused_with_its_line(name, place, repo, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "hömé"))
    monkeypatch.chdir(repo.parent)
    path = str({"home": tmp_path / "hömé", "working folder": repo.parent, "repository": repo}[place])
    first = "---\nlicense: mit\n---\n" if name == "README.md" else "x:\n\n\n"
    (repo / name).write_text(f"{first}{json.dumps(path + '/photos')}\n")

    with pytest.raises(RepositoryError, match=f"{name}, line 4, names a folder of this machine, /"):
        push(repo, "someone/x", dry_run=True)
    if place != "repository":  # beside which there is the working folder
        (repo / name).write_text(f"{first}{path}x is another folder, and ~/photos is nobody's\n")
        push(repo, "someone/x", dry_run=True)


def test_what_training_publishes_names_no_folder_of_this_machine(tiny_repo, tiny):
    push(tiny_repo, "someone/x", dry_run=True)

    source = Path(tiny["data.source"])
    for path in (path for path in tiny_repo.rglob("*") if path.is_file()):
        if path.suffix in (".json", ".yaml", ".md", ".py") and "training" not in path.parts:
            assert str(source.parent) not in path.read_text(), path
    assert "data: {source: ./few" in (tiny_repo / "recipe.yaml").read_text()
    assert json.loads((tiny_repo / "metrics.json").read_text())["data"] == "./few"
    assert "`./few`" in (tiny_repo / "README.md").read_text()
    assert "--data.source ./few" in (tiny_repo / "README.md").read_text()


def test_the_published_recipe_trains_here_and_says_what_is_missing_elsewhere(tiny_repo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = {"training.max_steps": 1}

    genhub.train(tiny_repo / "recipe.yaml", tmp_path / "again", overrides=short)

    shutil.copy(tiny_repo / "recipe.yaml", tmp_path)
    with pytest.raises(ValueError, match=r"`data.source` must be an existing folder or a Hub id, got './few'"):
        genhub.train(tmp_path / "recipe.yaml", tmp_path / "other", overrides=short)


def test_the_pictures_that_the_card_shows_are_shared(tmp_path):
    card = "# Card\n![a](a.png) [b](b.gif) ![c](https://x.org/c.png) ![d](lost.png)"
    folder = genhub.save_repo(PIPELINES["GANPipeline"].make(), tmp_path, {"README.md": card, "a.png": "", "b.gif": ""})

    assert {"a.png", "b.gif", "pipeline_gan.py"} < set(repo_files(folder))
    assert "lost.png" not in repo_files(folder)


def test_pushing_checks_before_it_sends(tiny_repo, tmp_path):
    folder = shutil.copytree(tiny_repo, tmp_path / "repo", ignore=shutil.ignore_patterns("training"))

    for metadata in ("license: [unclosed", "1: 2", "x: " + "[" * 50_000):
        (folder / "README.md").write_text(f"---\n{metadata}\n---\n")
        with pytest.raises(RepositoryError, match="card .* is not valid"):
            push(folder, "someone/x")
    (folder / "README.md").unlink()
    with pytest.raises(RepositoryError, match="has no README.md"):
        push(folder, "someone/x")
    with pytest.raises(RepositoryError, match="holds no model_index.json"):
        push(tmp_path, "someone/x")


@pytest.fixture(scope="module")
def shared(tiny_repo, plain_repo, text_repo, hub, tmp_path_factory) -> tuple[Path, str]:
    """Pushes each repository of SHARED, and a pipeline without one; loads all with and without genhub.

    Returns the folder of what they made, and what the pushing process printed.
    """
    _, env = hub
    out = tmp_path_factory.mktemp("made")
    card = {"README.md": "---\nlicense: mit\n---\n"}
    mixed = genhub.save_repo(PIPELINES["DDPMPipeline, scheduler of genhub"].make(), out / "mixed", card)
    styles = genhub.save_repo(PIPELINES["GANPipeline, styles"].make(), out / "styles")
    folders = {"tiny": tiny_repo, "plain": plain_repo, "text": text_repo, "mixed": mixed}
    cases = json.dumps({name: [str(folders[name]), *case] for name, case in SHARED.items()})
    arguments = PIPELINES["GANPipeline, styles"].arguments

    printed = fresh.run(CALL + PUSH.format(cases=cases, out=str(out), styles=str(styles)), env)
    without = env | {"HF_HOME": str(out / "home")}
    fresh.run(CALL + LOAD.format(cases=cases, out=str(out), styles=arguments), without, without_genhub=True)

    for name, folder in folders.items():
        expected = tensor(genhub.AutoPipeline.from_pretrained(folder), SHARED[name][2])
        torch.save(expected, out / f"{name}.pt")
        (out / f"{name}.files").write_text("\n".join(files_to_push(folder)))
    return out, printed


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_over_http_a_pushed_repository_loads_with_and_without_genhub(name, shared):
    out, printed = shared

    images = torch.load(out / f"{name}-genhub.pt") + torch.load(out / f"{name}-diffusers.pt")

    assert len(images) == 3
    assert all(torch.equal(image, torch.load(out / f"{name}.pt")) for image in images)
    listed = dict(json.loads(line) for line in printed.splitlines() if line.startswith("["))
    assert sorted(listed[name]) == (out / f"{name}.files").read_text().splitlines()
    assert printed.count(f"/someone/{name}\n") == 2


@pytest.mark.slow
def test_a_pipeline_pushed_without_a_folder_loads_without_genhub(shared):
    out, printed = shared
    tiny = PIPELINES["GANPipeline, styles"]

    (images,) = torch.load(out / "styles-diffusers.pt")

    assert torch.equal(images, tensor(tiny.make(), tiny.arguments))
    assert printed.strip().endswith("/someone/styles")


@pytest.mark.slow
def test_training_takes_a_recipe_and_a_data_set_from_the_hub(tiny_repo, hub, tmp_path, tiny):
    _, env = hub
    upload = f"""
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("someone/few", repo_type="dataset")
api.upload_folder(repo_id="someone/few", repo_type="dataset", folder_path={tiny["data.source"]!r}, path_in_repo="data")
import genhub
genhub.push({str(tiny_repo)!r}, "someone/recipe")
folder = genhub.train("someone/recipe", {str(tmp_path / "run")!r}, overrides={{"data.source": "someone/few"}})
print(genhub.AutoPipeline.from_pretrained(folder).unet.config.in_channels)
"""

    printed = fresh.run(upload, env)

    assert printed.split()[-1] == "1"
    weights = "unet/diffusion_pytorch_model.safetensors"
    expected, trained = load_file(tiny_repo / weights), load_file(tmp_path / "run" / weights)
    assert all(torch.equal(expected[name], trained[name]) for name in expected)


@pytest.mark.slow
def test_what_the_hub_refuses_is_one_clear_error(tiny_repo, hub, tmp_path):
    _, env = hub
    code = """
from genhub.cli import main
print(main({}))
print(main({}))
"""
    missing = ["generate", "someone/missing", "--count", "1"]
    out_of_reach = env | {"HF_ENDPOINT": "http://127.0.0.1:9"}

    for environment, name, expected in (
        (env, "no/valid/name", ("must be user/name", "does not exist")),
        (out_of_reach, "someone/name", ("Could not upload to someone/name", "could not be reached")),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(["push", str(tiny_repo), name], missing)],
            env=environment | {"PYTHONPATH": os.environ["PYTHONPATH"], "HF_HOME": str(tmp_path / name[:2])},
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

        assert done.stdout.split() == ["1", "1"], done.stderr
        assert "Traceback" not in done.stderr
        assert all(message in done.stderr for message in expected), done.stderr
