"""What is saved loads in plain diffusers, and wherever saving is interrupted a repository is left."""

import contextlib
import errno
import itertools
import json
import os
import shutil
import sys
import time
from pathlib import Path

import fresh
import pytest
import safetensors.torch
import torch
from diffusers import DDPMPipeline
from safetensors.torch import load_file
from tiny import tiny_model
from tiny_pipelines import CALL, OF_GENHUB_OR_LATENT, PIPELINES, tensor

import genhub
from genhub.recipes.comment import changed_comment
from genhub.repository.card_results import FIGURES_BEGIN, FIGURES_END, with_figure
from genhub.repository.format import AUTO_MAP, PICTURE, STAGED, TEXTS, RepositoryError, repo_files
from genhub.repository.replace import finish_save
from genhub.utils.files import is_leftover
from genhub.utils.locks import LOCK

LOAD = """
import json, torch
from diffusers import AutoModel, DiffusionPipeline, configuration_utils

said = []
configuration_utils.logger.warning = said.append

for name, (folder, arguments, is_plain) in json.loads({cases!r}).items():
    pipe = DiffusionPipeline.from_pretrained(folder, **({{}} if is_plain else {{"trust_remote_code": True}}))
    torch.save(tensor(pipe, arguments), f"{{folder}}/plain.pt")
    parts = [part for part in (pipe, *pipe.components.values()) if part is not None]
    if "auto_map" in json.load(open(f"{{folder}}/model_index.json")):
        for key, part in pipe.components.items():
            if isinstance(part, torch.nn.Module):
                model = AutoModel.from_pretrained(folder, subfolder=key, trust_remote_code=True)
                assert type(model).__name__ == type(part).__name__
                assert all(torch.equal(value, part.state_dict()[key]) for key, value in model.state_dict().items())
    assert said == [], said
    print(json.dumps([name, sorted({{type(part).__module__.split(".")[0] for part in parts}})]))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Path]:
    """Every tiny pipeline, saved; read only but for what the fixtures below write beside the repository's files."""
    folders = {name: tmp_path_factory.mktemp("saved") / "repo" for name in PIPELINES}
    for name, folder in folders.items():
        genhub.save_repo(PIPELINES[name].make(), folder)
    return folders


@pytest.fixture(scope="module")
def libraries(saved, tmp_path_factory) -> dict[str, list[str]]:
    """The packages of the classes that plain diffusers loaded each pipeline with; its images lie in plain.pt."""
    cases = {name: (str(saved[name]), tiny.arguments, tiny.is_plain) for name, tiny in PIPELINES.items()}
    env = os.environ | {"HF_HOME": str(tmp_path_factory.mktemp("home"))}
    printed = fresh.run(CALL + LOAD.format(cases=json.dumps(cases)), env, without_genhub=True)
    return dict(map(json.loads, printed.splitlines()))


@pytest.mark.parametrize("name", PIPELINES)
def test_plain_diffusers_loads_every_pipeline_and_makes_the_same(name, saved, libraries):
    expected = tensor(PIPELINES[name].make(), PIPELINES[name].arguments)

    made = torch.load(saved[name] / "plain.pt")

    assert torch.equal(made, expected)
    assert made.float().std() > 0
    assert ("diffusers_modules" in libraries[name]) is not PIPELINES[name].is_plain
    assert bool([*saved[name].rglob("*.py")]) is not PIPELINES[name].is_plain


@pytest.mark.parametrize("name", OF_GENHUB_OR_LATENT)
def test_the_code_of_the_models_is_recorded_for_auto_model_unless_one_entry_would_mislead(name, tmp_path):
    pipeline = OF_GENHUB_OR_LATENT[name].make()

    index = json.loads((genhub.save_repo(pipeline, tmp_path) / "model_index.json").read_text())

    models = [key for key, part in pipeline.components.items() if isinstance(part, torch.nn.Module)]
    sources = {".".join(index[key]) for key in models}
    assert index.get("auto_map") == ({"AutoModel": sources.pop()} if len(sources) == 1 else None)


@pytest.mark.parametrize("name", PIPELINES)
def test_genhub_loads_every_pipeline_by_installed_classes_and_makes_the_same(name, saved):
    original = PIPELINES[name].make()

    loaded = genhub.AutoPipeline.from_pretrained(saved[name])

    kinds = [{key: type(part) for key, part in pipe.components.items()} for pipe in (original, loaded)]
    assert kinds[0] == kinds[1]
    assert type(loaded) is type(original)
    made, expected = (tensor(pipe, PIPELINES[name].arguments) for pipe in (loaded, original))
    assert torch.equal(made, expected)


@pytest.mark.parametrize("name", PIPELINES)
def test_what_is_saved_is_what_belongs_to_the_repository(name, tmp_path):
    pipeline, kept = PIPELINES[name].make(), {"notes.txt", "training/log", ".cache/x", "unsaved/config.json"}
    documents = {"README.md": "# Card\n![s](samples.png)", "recipe.yaml": "", "LICENSE": "", "samples.png": b"\x89"}

    folder = genhub.save_repo(pipeline, tmp_path / "alone", documents)
    crowded = tmp_path / "crowded"
    for file in kept:
        (crowded / file).parent.mkdir(parents=True, exist_ok=True)
        (crowded / file).write_text(file)
    genhub.save_repo(pipeline, crowded, documents)

    assert set(repo_files(folder)) == all_files(folder)
    assert set(repo_files(crowded)) == all_files(folder)
    assert {file: (crowded / file).read_text() for file in kept} == {file: file for file in kept}
    assert set(documents) < all_files(folder)


def test_a_repository_holds_what_the_design_names_and_no_pickle(tiny_repo):
    assert repo_files(tiny_repo) == [
        *("README.md", "metrics.json", "model_index.json", "pipeline_cosine_ddpm.py", "recipe.yaml", "samples.png"),
        *("scheduler/scheduler_config.json", "scheduler/scheduling_cosine_ddpm.py"),
        *("unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/unet_lean.py"),
    ]


@pytest.mark.parametrize("name", ["CosineDDPMPipeline", "StableDiffusionPipeline"])
def test_no_file_says_where_it_was_saved_or_loaded_from(name, saved, tmp_path):
    again = genhub.save_repo(genhub.AutoPipeline.from_pretrained(saved[name]), tmp_path / "again")

    for path in again.rglob("*.json"):
        assert str(tmp_path) not in path.read_text()
        assert str(saved[name]) not in path.read_text()
        assert "_name_or_path" not in path.read_text()


@pytest.mark.parametrize("repo", ["tiny_repo", "plain_repo"])
def test_saved_again_a_repository_is_the_same(repo, request, tmp_path):
    folder = request.getfixturevalue(repo)

    again = genhub.save_repo(genhub.AutoPipeline.from_pretrained(folder), tmp_path / "again")

    for name in repo_files(again):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_compiled_network_is_saved_as_the_class_that_was_compiled(tmp_path):
    pipeline = PIPELINES["GANPipeline"].make()
    pipeline.generator = torch.compile(pipeline.generator)

    loaded = genhub.AutoPipeline.from_pretrained(genhub.save_repo(pipeline, tmp_path))

    assert type(loaded.generator) is genhub.DenseGenerator
    assert (tmp_path / "generator/gan_dense.py").is_file()


@pytest.mark.parametrize("name", ["notes.txt", "samples.png", "model_index.json", "../README.md"])
def test_a_document_that_would_not_be_shared_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=rf"`documents` must be .*README.md.* or pictures .*, got {name}"):
        genhub.save_repo(PIPELINES["GANPipeline"].make(), tmp_path / "repo", {"README.md": "# Card", name: "x"})

    assert not (tmp_path / "repo").exists()


# Failures. Every call that writes is an audit event of Python, but for these two, which are made ones.


class Disk:
    """While it is entered, fails the `fail_at`-th call that writes below a folder, and those after it if `is_dead`."""

    def __init__(self):
        self.folder, self.calls = None, []
        sys.addaudithook(self.hook)

    @contextlib.contextmanager
    def failing(self, folder: Path, fail_at: int, is_dead: bool = False):
        self.folder, self.calls, self.fail_at, self.is_dead = str(folder), [], fail_at, is_dead
        try:
            yield
        finally:
            self.folder = None

    def hook(self, event: str, arguments: tuple):
        if self.folder is None or event not in EVENTS:
            return
        path = arguments[0]
        if event == "open" and not (isinstance(path, str) and is_for_writing(*arguments[1:])):
            return
        if str(path).startswith(self.folder) or not str(path).startswith("/"):  # relative to an open folder of rmtree
            self.calls.append((event, *map(str, arguments)))
            if len(self.calls) == self.fail_at or (self.is_dead and len(self.calls) > self.fail_at):
                raise OSError(errno.ENOSPC, "No space left on device")


def is_for_writing(mode: str | None, flags: int) -> bool:
    return bool(set(mode or "") & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "test.fsync", "test.save_file"}


@pytest.fixture(scope="session")
def disk() -> Disk:
    return Disk()


@pytest.fixture
def audited(monkeypatch):
    """Makes audit events of the two calls that are none."""
    save_file = safetensors.torch.save_file

    def audited_fsync(descriptor):  # and no waiting for the disk
        sys.audit("test.fsync", os.readlink(f"/proc/self/fd/{descriptor}"))

    def audited_save_file(tensors, filename, *args, **kwargs):
        sys.audit("test.save_file", str(filename))
        save_file(tensors, filename, *args, **kwargs)

    monkeypatch.setattr(os, "fsync", audited_fsync)
    monkeypatch.setattr(safetensors.torch, "save_file", audited_save_file)


def all_files(folder: Path) -> set[str]:
    """Its files, but for those that a writer which could remove nothing left behind."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not is_leftover(path) and path.name != LOCK]
    return {path.relative_to(folder).as_posix() for path in paths}


def weights_of(pipeline) -> dict[str, torch.Tensor]:
    (module,) = (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module))
    return module.state_dict()


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def generator(name: str, seed: int):
    return genhub.GANPipeline(tiny_model(name, seed=seed))


@pytest.mark.parametrize("is_dead", [False, True], ids=["one call fails", "all calls from one on fail"])
def test_wherever_a_save_fails_the_old_repository_or_the_new_one_loads(is_dead, disk, audited, tmp_path):
    old, new = generator("DenseGenerator", 0), generator("DCGANGenerator", 1)
    before = genhub.save_repo(old, tmp_path / "old", {"README.md": "old"})
    clean = all_files(genhub.save_repo(new, tmp_path / "new", {"README.md": "new", "LICENSE": "new"}))
    (before / "training").mkdir()
    (before / "training/log").write_text("log")
    outcomes = set()

    for fail_at in itertools.count(1):
        folder = Path(shutil.copytree(before, tmp_path / f"{fail_at}"))
        with disk.failing(folder, fail_at, is_dead), contextlib.suppress(OSError):
            genhub.save_repo(new, folder, {"README.md": "new", "LICENSE": "new"})
        if len(disk.calls) < fail_at:
            break

        loaded = genhub.AutoPipeline.from_pretrained(folder)
        is_new = type(loaded.generator) is genhub.DCGANGenerator
        outcomes.add(is_new)
        assert equal(weights_of(loaded), weights_of(new if is_new else old)), disk.calls[-1]
        assert (folder / "training/log").read_text() == "log"

        genhub.save_repo(new, folder, {"README.md": "new", "LICENSE": "new"})
        assert all_files(folder) == clean | {"training/log"}
        assert equal(weights_of(genhub.AutoPipeline.from_pretrained(folder)), weights_of(new))
        shutil.rmtree(folder)

    assert fail_at > 40
    assert outcomes == {False, True}


def test_wherever_a_save_fails_plain_diffusers_loads_old_weights_or_new_ones(disk, audited, tmp_path):
    pipes = [PIPELINES["CosineDDPMPipeline, as diffusers has it"].make() for _ in range(2)]
    with torch.no_grad():
        next(pipes[1].unet.parameters()).add_(1)
    before = genhub.save_repo(pipes[0], tmp_path / "old")

    for fail_at in itertools.count(1):
        folder = Path(shutil.copytree(before, tmp_path / f"{fail_at}"))
        with disk.failing(folder, fail_at, is_dead=True), contextlib.suppress(OSError):
            genhub.save_repo(pipes[1], folder)
        if len(disk.calls) < fail_at:
            break

        loaded = weights_of(DDPMPipeline.from_pretrained(folder))
        assert equal(loaded, weights_of(pipes[0])) or equal(loaded, weights_of(pipes[1]))
        shutil.rmtree(folder)


@pytest.mark.parametrize("is_dead", [False, True], ids=["one call fails", "all calls from one on fail"])
def test_wherever_a_first_save_fails_there_is_no_repository_or_a_whole_one(is_dead, disk, audited, tmp_path):
    pipeline, outcomes = generator("DenseGenerator", 0), set()

    for fail_at in itertools.count(1):
        folder = tmp_path / f"{fail_at}"
        with disk.failing(folder, fail_at, is_dead), contextlib.suppress(OSError):
            genhub.save_repo(pipeline, folder)
        if len(disk.calls) < fail_at:
            break

        is_repository = any((folder / name).is_file() for name in ("model_index.json", ".saved/model_index.json"))
        outcomes.add(is_repository)
        if is_repository:
            assert equal(weights_of(genhub.AutoPipeline.from_pretrained(folder)), weights_of(pipeline))
        else:
            with pytest.raises(RepositoryError, match=r"holds no model_index.json|neither an existing folder"):
                genhub.AutoPipeline.from_pretrained(folder)

    assert outcomes == {True, False}


def test_a_failure_that_is_not_of_the_disk_leaves_what_was_there_and_no_scratch(tmp_path, monkeypatch):
    folder = genhub.save_repo(generator("DenseGenerator", 0), tmp_path / "repo", {"README.md": "old"})
    before = {path: path.is_dir() or path.read_bytes() for path in folder.rglob("*")}
    pipeline = generator("DenseGenerator", 1)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(pipeline.generator), "save_pretrained", interrupt)
    with pytest.raises(KeyboardInterrupt):
        genhub.save_repo(pipeline, folder)

    assert {path: path.is_dir() or path.read_bytes() for path in folder.rglob("*")} == before


def test_everything_is_on_the_disk_before_the_new_version_counts_and_before_the_old_one_goes(disk, audited, tmp_path):
    folder = genhub.save_repo(generator("DenseGenerator", 0), tmp_path / "repo")

    with disk.failing(folder, fail_at=0):
        genhub.save_repo(generator("DenseGenerator", 1), folder, {"README.md": "new"})

    commits = [place for place, (event, *_) in enumerate(disk.calls) if event == "os.rename"]
    commit = next(place for place in commits if disk.calls[place][2] == str(folder / ".saved"))
    removal = next(place for place in commits if disk.calls[place][1] == str(folder / ".saved"))
    flushed = {path for event, path, *_ in disk.calls[:commit] if event == "test.fsync"}
    files = all_files(folder)
    assert {str(folder / ".saving" / file) for file in files} < flushed
    assert {str(folder / ".saving"), str(folder / ".saving/generator")} < flushed
    assert disk.calls[commit + 1] == ("test.fsync", str(folder))
    flushed = {path for event, path, *_ in disk.calls[commit + 2 : removal] if event == "test.fsync"}
    assert {str(folder), str(folder / "generator")} <= flushed


def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
    def link(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    folder = genhub.save_repo(generator("DenseGenerator", 0), tmp_path / "repo")
    monkeypatch.setattr(os, "link", link)

    genhub.save_repo(generator("DenseGenerator", 1), folder)

    stored = load_file(folder / "generator/diffusion_pytorch_model.safetensors")
    assert equal(stored, weights_of(generator("DenseGenerator", 1)))
    assert all_files(folder) == set(repo_files(folder))


def test_our_scheduler_drops_into_stable_diffusion_and_plain_diffusers_loads_it(tmp_path):
    pipeline = PIPELINES["StableDiffusionPipeline"].make()
    pipeline.scheduler = genhub.CosineDDPMScheduler(20, clip_sample=False, steps_offset=1)  # as SD has it
    folder = genhub.save_repo(pipeline, tmp_path / "repo")
    arguments = PIPELINES["StableDiffusionPipeline"].arguments
    code = (
        f"from diffusers import StableDiffusionPipeline\n{CALL}\n"
        f"pipe = StableDiffusionPipeline.from_pretrained({str(folder)!r}, trust_remote_code=True)\n"
        f"print(type(pipe.scheduler).__name__, tensor(pipe, {arguments!r}).double().mean().item())"
    )

    name, mean = fresh.run(code, without_genhub=True).split()

    assert name == "CosineDDPMScheduler"
    assert float(mean) == pytest.approx(tensor(pipeline, arguments).double().mean().item(), abs=1e-6)


@pytest.mark.parametrize("place", ["component", "document", "whole"])
def test_a_link_leads_an_interrupted_save_of_a_stranger_to_nothing_outside(place, tmp_path):
    """A folder from elsewhere may hold a `.saved`, which is put in place of its files when it is used."""
    folder, mine = tmp_path / "theirs", tmp_path / "mine"
    genhub.save_repo(PIPELINES["GANPipeline"].make(), folder, {"README.md": "# Card"})
    shutil.copytree(folder, folder / STAGED)
    mine.mkdir()
    for name in ("LICENSE", "config.json", "notes.txt"):
        (mine / name).write_text("mine")
    if place == "component":
        shutil.rmtree(folder / "generator")
        (folder / "generator").symlink_to(mine)
    elif place == "document":
        (folder / STAGED / "LICENSE").symlink_to(mine / "LICENSE")
    else:
        (folder / STAGED).rename(tmp_path / "elsewhere")
        (folder / STAGED).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RepositoryError, match="must be a (folder|regular file) of the repository"):
        finish_save(folder)
    assert {path.name: path.read_text() for path in mine.iterdir()} == dict.fromkeys(
        ("LICENSE", "config.json", "notes.txt"), "mine"
    )
    assert not (folder / "LICENSE").exists()


def test_no_text_of_a_stranger_makes_a_search_quadratic():
    """Each text holds the beginnings of a match only, 100,000 of them."""
    begun = time.monotonic()
    for pattern, text in (
        (PICTURE, "](" * 100_000),
        (AUTO_MAP, " " * 100_000),
        (AUTO_MAP, '\n"auto_map": {' * 100_000),
        (TEXTS, ',\n"texts": {' * 100_000),
    ):
        assert not pattern.findall(text)
    assert with_figure(f"{FIGURES_BEGIN}{'](' * 100_000}{FIGURES_END}", "a.png")
    assert "papers" not in changed_comment("a", f"# ({'A' * 100_000}\n", ["data.size"])
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("name", ["model_index.json", "metrics.json"])
def test_what_people_read_is_written_a_line_an_entry(tiny_repo, name):
    text = (tiny_repo / name).read_text()

    assert text == json.dumps(json.loads(text), indent=2) + "\n"
