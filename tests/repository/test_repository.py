"""The promise: what is saved loads with genhub and without it, from a folder and over HTTP, and damage is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from loopback_hub import serve
from safetensors.torch import load_file, save_file
from tiny import tiny_inputs, tiny_model

import genhub
from genhub.repository.load import RepositoryError
from genhub.repository.push import push, repo_files

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="session")
def plain_repo(tmp_path_factory, tiny_always) -> Path:
    """A saved repository whose parts are all diffusers' own, as those of the recipe `ddpm`. Read only."""
    overrides = {key: value for key, value in tiny_always.items() if not key.startswith("components.unet.")}
    overrides |= {
        "components.unet.block_out_channels": [8, 8, 8],
        "components.unet.norm_num_groups": 4,
        "components.unet.attention_head_dim": 8,
        "training.checkpoint_every": 0,
    }
    return genhub.train("ddpm", tmp_path_factory.mktemp("repo") / "plain", overrides=overrides)


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """A Hub on the loopback, a process of its own: its address and the environment of its clients."""
    with serve(tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("home")) as (url, env):
        yield url, env


def fresh(code: str, env: dict | None = None, without_genhub: bool = False) -> str:
    """Runs `code` in a fresh interpreter and returns what it printed."""
    env = dict(os.environ if env is None else env) | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    if without_genhub:
        env.pop("PYTHONPATH", None)
        code = "import sys\nsys.modules['genhub'] = None  # an import of it fails\n" + code
    else:
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def generate(load: str, out: Path, call: str = "batch_size=3, num_inference_steps=4") -> str:
    """Returns code that loads a pipeline, saves three images as a tensor, and prints the classes of its parts."""
    return f"""
import numpy, torch
{load}
images = pipe({call}, generator=torch.Generator().manual_seed(0), output_type="np").images
numpy.save({str(out)!r}, images)
print(type(pipe).__module__.split(".")[0], *(type(part).__module__.split(".")[0] for part in pipe.components.values()))
"""


def same_images(a: Path, b: Path) -> bool:
    import numpy as np

    a, b = np.load(a), np.load(b)
    return a.shape == b.shape and a.std() > 0 and (a == b).all()


def test_a_repository_holds_what_the_design_names_and_no_pickle(tiny_repo):
    files = repo_files(tiny_repo)

    assert files == [
        *("README.md", "metrics.json", "model_index.json", "pipeline_cosine_ddpm.py", "recipe.yaml", "samples.png"),
        *("scheduler/scheduler_config.json", "scheduler/scheduling_cosine_ddpm.py"),
        *("unet/config.json", WEIGHTS.as_posix(), "unet/unet_patch.py"),
    ]
    for name in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json"):
        assert str(tiny_repo.parent) not in (tiny_repo / name).read_text()
        assert "_name_or_path" not in (tiny_repo / name).read_text()


@pytest.mark.slow
def test_a_folder_loads_without_genhub_and_gives_the_same_bits(tiny_repo, tmp_path):
    load = "from diffusers import DiffusionPipeline as P\npipe = P.from_pretrained({!r}, trust_remote_code=True)"
    env = dict(os.environ) | {"HF_HOME": str(tmp_path / "home")}

    ours = fresh(
        generate(f"import genhub\npipe = genhub.AutoPipeline.from_pretrained({str(tiny_repo)!r})", tmp_path / "a.npy")
    )
    theirs = fresh(generate(load.format(str(tiny_repo)), tmp_path / "b.npy"), env, without_genhub=True)

    assert ours.split() == ["genhub", "genhub", "genhub"]
    assert theirs.split() == ["diffusers_modules"] * 3
    assert same_images(tmp_path / "a.npy", tmp_path / "b.npy")


@pytest.mark.slow
def test_parts_of_diffusers_alone_need_no_trust(plain_repo, tmp_path):
    load = f"from diffusers import DDPMPipeline\npipe = DDPMPipeline.from_pretrained({str(plain_repo)!r})"

    ours = fresh(
        generate(f"import genhub\npipe = genhub.AutoPipeline.from_pretrained({str(plain_repo)!r})", tmp_path / "a.npy")
    )
    theirs = fresh(generate(load, tmp_path / "b.npy"), without_genhub=True)

    assert ours.split() == ["genhub", "diffusers", "genhub"]
    assert theirs.split() == ["diffusers", "diffusers", "diffusers"]
    assert same_images(tmp_path / "a.npy", tmp_path / "b.npy")
    assert not list(plain_repo.rglob("*.py"))


AUTOENCODERS = [
    ("AutoencoderPipeline", "DenseAutoencoder", "tied"),
    ("AutoencoderPipeline", "ConvAutoencoder", "colour"),
    ("AutoencoderPipeline", "RecurrentAutoencoder", "wide"),
    ("AutoencoderPipeline", "FeatureAutoencoder", "plain"),
    ("VAEPipeline", "DenseVAE", "conditional"),
    ("VAEPipeline", "ConvVAE", "bernoulli"),
]


@pytest.mark.slow
def test_autoencoders_load_without_genhub_and_give_the_same_bits(tmp_path):
    pipes = {model: getattr(genhub, kind)(tiny_model(model, variant)) for kind, model, variant in AUTOENCODERS}
    given = {model: tiny_inputs(model, part) for model, pipe in pipes.items() for part in pipe.components.values()}
    for model, pipe in pipes.items():
        genhub.save_repo(pipe, tmp_path / model)
        image = {"image": (given[model]["sample"] + 1) / 2}
        image |= {key: value for key, value in given[model].items() if key == "class_labels"}
        torch.save(image, tmp_path / f"{model}.pt")
    code = f"""
import inspect, torch
from diffusers import DiffusionPipeline

for model in {list(pipes)!r}:
    pipe = DiffusionPipeline.from_pretrained(f"{tmp_path}/{{model}}", trust_remote_code=True)
    image = torch.load(f"{tmp_path}/{{model}}.pt")
    made = [pipe.reconstruct(**image, output_type="pt").images]
    if "batch_size" in inspect.signature(pipe.__call__).parameters:
        labels = {{key: value for key, value in image.items() if key == "class_labels"}}
        made.append(pipe(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="pt", **labels).images)
    torch.save(made, f"{tmp_path}/{{model}}.made.pt")
    parts = [type(part) for part in (pipe, *pipe.components.values())]
    print(*(f"{{part.__module__.split('.')[0]}}.{{part.__name__}}" for part in parts))
"""

    printed = fresh(code, dict(os.environ) | {"HF_HOME": str(tmp_path / "home")}, without_genhub=True)

    expected = [f"diffusers_modules.{name}" for kind, model, _ in AUTOENCODERS for name in (kind, model)]
    assert printed.split() == expected
    for model, pipe in pipes.items():
        image = torch.load(tmp_path / f"{model}.pt")
        labels = {key: value for key, value in image.items() if key == "class_labels"}
        made = [pipe.reconstruct(**image, output_type="pt").images]
        if type(pipe) is genhub.VAEPipeline:
            one = torch.Generator().manual_seed(0)
            made.append(pipe(batch_size=2, generator=one, output_type="pt", **labels).images)
        theirs = torch.load(tmp_path / f"{model}.made.pt")
        assert len(theirs) == len(made)
        assert all(torch.equal(*pair) and pair[0].std() > 0 for pair in zip(theirs, made, strict=True))


def test_the_pipeline_of_a_folder_runs_no_code_of_it(tiny_repo, tmp_path):
    folder = shutil.copytree(tiny_repo, tmp_path / "repo")
    for path in folder.rglob("*.py"):
        path.write_text("raise RuntimeError('code of the repository was run')")

    for load in (genhub.AutoPipeline, genhub.CosineDDPMPipeline):
        pipeline = load.from_pretrained(folder)

        assert type(pipeline) is genhub.CosineDDPMPipeline
        assert type(pipeline.unet) is genhub.PatchUNet2DModel
        assert type(pipeline.scheduler) is genhub.CosineDDPMScheduler


@pytest.mark.parametrize("repo", ["tiny_repo", "plain_repo"])
def test_saved_again_a_repository_is_the_same(repo, request, tmp_path):
    folder = request.getfixturevalue(repo)

    again = genhub.save_repo(genhub.AutoPipeline.from_pretrained(folder), tmp_path / "again")

    for name in repo_files(again):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_pipeline_of_diffusers_alone_is_saved_and_found_too(plain_repo, tmp_path):
    from diffusers import DDPMPipeline

    again = genhub.save_repo(DDPMPipeline.from_pretrained(plain_repo), tmp_path / "again")

    pipeline = genhub.AutoPipeline.from_pretrained(again)
    assert type(pipeline) is DDPMPipeline
    assert (again / WEIGHTS).read_bytes() == (plain_repo / WEIGHTS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("repo", ["tiny_repo", "plain_repo"])
def test_over_http_a_pushed_repository_loads_with_and_without_genhub(repo, request, hub, tmp_path):
    folder, (_, env), name = request.getfixturevalue(repo), hub, f"someone/{repo.replace('_', '-')}"
    plain = repo == "plain_repo"
    theirs = "DDPMPipeline" if plain else "DiffusionPipeline"
    trust = "" if plain else ", trust_remote_code=True"

    said = fresh(f"import genhub.cli, sys; sys.exit(genhub.cli.main(['push', {str(folder)!r}, {name!r}]))", env)
    again = fresh(f"import genhub.cli, sys; sys.exit(genhub.cli.main(['push', {str(folder)!r}, {name!r}]))", env)
    listed = fresh(f"from huggingface_hub import HfApi; print(*sorted(HfApi().list_repo_files({name!r})))", env)
    for number, load in enumerate(
        [
            f"import genhub\npipe = genhub.AutoPipeline.from_pretrained({name!r})",
            f"import genhub\npipe = genhub.CosineDDPMPipeline.from_pretrained({name!r})",
            f"import genhub\npipe = genhub.AutoPipeline.from_pretrained({str(folder)!r})",
        ]
    ):
        assert fresh(generate(load, tmp_path / f"{number}.npy"), env).split()[0] == "genhub"
    without = env | {"HF_HOME": str(tmp_path / "home")}
    load = f"from diffusers import {theirs}\npipe = {theirs}.from_pretrained({name!r}{trust})"
    fresh(generate(load, tmp_path / "3.npy"), without, without_genhub=True)

    assert name in said
    assert name in again
    assert set(listed.split()) - {".gitattributes"} == set(repo_files(folder))
    for number in (1, 2, 3):
        assert same_images(tmp_path / "0.npy", tmp_path / f"{number}.npy")


@pytest.mark.slow
def test_training_takes_a_recipe_and_a_data_set_from_the_hub(tiny_repo, hub, tmp_path, tiny):
    _, env = hub
    upload = f"""
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("someone/few", repo_type="dataset")
api.upload_folder(repo_id="someone/few", repo_type="dataset", folder_path={tiny["data.source"]!r}, path_in_repo="data")
import genhub
from genhub.repository.push import push
push({str(tiny_repo)!r}, "someone/recipe")
folder = genhub.train("someone/recipe", {str(tmp_path / "run")!r}, overrides={{"data.source": "someone/few"}})
print(genhub.AutoPipeline.from_pretrained(folder).unet.config.in_channels)
"""

    printed = fresh(upload, env)

    assert printed.split()[-1] == "1"
    one, two = load_file(tiny_repo / WEIGHTS), load_file(tmp_path / "run" / WEIGHTS)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_what_the_hub_refuses_is_one_clear_error(tiny_repo, hub, tmp_path):
    url, env = hub
    code = """
import sys
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


def damaged(tiny_repo: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_repo, tmp_path / "repo", ignore=shutil.ignore_patterns("training"))


def forget_digests(folder: Path):
    index = json.loads((folder / "model_index.json").read_text())
    index["_genhub"]["sha256"] = {}
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "wrong shape", "missing tensor", "pickle", "missing"])
def test_damaged_weights_are_refused(tiny_repo, tmp_path, damage, digests):
    folder = damaged(tiny_repo, tmp_path)
    path = folder / WEIGHTS
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-1000])
    elif damage == "flipped":
        content[-100] ^= 1
        path.write_bytes(content)
    elif damage in ("wrong shape", "missing tensor"):
        tensors = load_file(path)
        name = "unet.conv_in.weight"
        tensors = {k: v for k, v in tensors.items() if k != name} | (
            {name: torch.zeros(3)} if "shape" in damage else {}
        )
        save_file(tensors, path, {"format": "pt"})
    else:
        path.unlink()
        if damage == "pickle":
            torch.save({}, folder / "unet/diffusion_pytorch_model.bin")
    if not digests:
        forget_digests(folder)
        if damage == "flipped":
            pytest.skip("without a recorded digest nobody can tell")

    for load in (genhub.AutoPipeline, genhub.CosineDDPMPipeline):
        with pytest.raises(RepositoryError, match=r"diffusion_pytorch_model.safetensors"):
            load.from_pretrained(folder)


def test_a_newer_repository_or_config_is_refused(tiny_repo, tmp_path):
    folder = damaged(tiny_repo, tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_genhub": index["_genhub"] | {"format": 2}}))

    with pytest.raises(RepositoryError, match="newer genhub"):
        genhub.AutoPipeline.from_pretrained(folder)

    (folder / "model_index.json").write_text(json.dumps(index))
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps(config | {"holographic": True}))
    with pytest.raises(RepositoryError, match="sets holographic, which PatchUNet2DModel as installed does not know"):
        genhub.AutoPipeline.from_pretrained(folder)


def test_a_class_that_nobody_has_is_named(tiny_repo, tmp_path):
    folder = damaged(tiny_repo, tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    index["_genhub"]["components"]["unet"] = "HolographicUNet"
    (folder / "model_index.json").write_text(json.dumps(index))

    with pytest.raises(RepositoryError, match="such a class: HolographicUNet"):
        genhub.AutoPipeline.from_pretrained(folder)


@pytest.mark.parametrize("name", ["logging", "utils", "__version__", "DDIMPipeline"])
def test_a_name_that_is_no_model_or_scheduler_is_refused(tiny_repo, tmp_path, name):
    folder = damaged(tiny_repo, tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    index["_genhub"]["components"]["unet"] = name
    (folder / "model_index.json").write_text(json.dumps(index))

    with pytest.raises(RepositoryError, match=f"such a class: {name}"):
        genhub.AutoPipeline.from_pretrained(folder)


@pytest.mark.parametrize("load", ["AutoPipeline", "CosineDDPMPipeline"])
def test_a_pickle_is_not_loaded_even_beside_other_safetensors(tiny_repo, tmp_path, load):
    folder = damaged(tiny_repo, tmp_path)
    forget_digests(folder)
    (folder / WEIGHTS).rename(folder / "unet/diffusion_pytorch_model.other.safetensors")
    torch.save({}, folder / "unet/diffusion_pytorch_model.bin")

    with pytest.raises(OSError, match="no file named diffusion_pytorch_model.safetensors"):
        getattr(genhub, load).from_pretrained(folder)


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "one-word", "a/b/c"])
def test_a_name_that_is_no_repository_is_refused(name):
    with pytest.raises(RepositoryError, match="neither an existing folder nor a repository"):
        genhub.AutoPipeline.from_pretrained(name)


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    with pytest.raises(RepositoryError, match="holds no model_index.json"):
        genhub.AutoPipeline.from_pretrained(tmp_path)


def test_a_failed_save_leaves_the_repository_that_was_there(tiny_repo, tmp_path, monkeypatch):
    folder = damaged(tiny_repo, tmp_path)
    before = {name: (folder / name).read_bytes() for name in repo_files(folder)}
    pipeline = genhub.AutoPipeline.from_pretrained(folder)
    monkeypatch.setattr(
        type(pipeline.unet), "save_pretrained", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full"))
    )

    with pytest.raises(OSError, match="disk full"):
        genhub.save_repo(pipeline, folder)

    assert {name: (folder / name).read_bytes() for name in repo_files(folder)} == before


@pytest.mark.parametrize("repo", ["tiny_repo", "plain_repo"])
def test_the_card_parses_and_its_python_runs(repo, request, tmp_path):
    folder = request.getfixturevalue(repo)

    card = ModelCard.load(folder / "README.md")

    metrics = json.loads((folder / "metrics.json").read_text())
    data = card.data.to_dict()
    assert (data["library_name"], data["license"]) == ("diffusers", "apache-2.0")
    assert data["pipeline_tag"] == "unconditional-image-generation"
    assert "genhub" in data["tags"]
    assert card.data.eval_results[0].metric_value == pytest.approx(metrics["results"][0]["value"], abs=1e-6)
    blocks = [block.split("```")[0] for block in card.text.split("```python\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        names: dict = {}
        exec(block.replace("path/or/user/name", str(folder)).replace("batch_size=16", "batch_size=2"), names)
        assert len(names["images"]) == 2
        assert names["images"][0].mode == "L"


def test_pushing_checks_before_it_sends(tiny_repo, tmp_path):
    folder = damaged(tiny_repo, tmp_path)
    (folder / "README.md").write_text("---\nlicense: [unclosed\n---\n")

    with pytest.raises(RepositoryError, match="card .* is not valid"):
        push(folder, "someone/x")
    (folder / "README.md").unlink()
    with pytest.raises(RepositoryError, match="has no README.md"):
        push(folder, "someone/x")
    with pytest.raises(RepositoryError, match="holds no model_index.json"):
        push(tmp_path, "someone/x")
