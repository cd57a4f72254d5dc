"""The wheel and the sdist hold what they must and work where nothing else of the clone is; extras resolve alone."""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from genhub.utils.extras import DISTRIBUTION
from genhub.version import VERSION

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAX_BYTES = 15 * 2**20
BUILD = "import sys, setuptools.build_meta as backend; getattr(backend, f'build_{sys.argv[1]}')(sys.argv[2])"


def tracked() -> list[str]:
    return subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def build(kind: str, source: Path, folder: Path) -> Path:
    """Builds an `sdist` or a `wheel` as pip does, with the setuptools that is installed."""
    subprocess.run([sys.executable, "-c", BUILD, kind, str(folder)], cwd=source, check=True, capture_output=True)
    (built,) = folder.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    source = tmp_path_factory.mktemp("clone")
    for name in tracked():
        if not name.startswith("model_cards/") or name.startswith("model_cards/vae/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    return build("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """The wheel that is built from the sdist, so that this holds all that it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("built"))


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert wheel.name == f"{DISTRIBUTION.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    assert names == {name for name in tracked() if name.startswith("genhub/")}
    assert wheel.stat().st_size < MAX_BYTES


@pytest.mark.slow
def test_an_sdist_holds_no_model_and_no_test(sdist):
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]

    assert {"README.md", "LICENSE", "CHANGELOG.md", "genhub/recipes/ddpm-quick.yaml", "genhub/py.typed"} <= {*names}
    assert [name for name in names if name.startswith(("model_cards/", "tests/", "docs/"))] == []
    assert sdist.stat().st_size < MAX_BYTES


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The scripts of a fresh environment with the wheel and, behind it, the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    scheme = {"base": str(folder), "platbase": str(folder)}
    scripts, packages = (Path(sysconfig.get_path(name, "venv", scheme)) for name in ("scripts", "purelib"))
    python = scripts / Path(sys.executable).name
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    (packages / "zz_behind.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    return scripts


@pytest.mark.slow
def test_an_installed_wheel_trains_and_generates_in_an_empty_folder(installed, tmp_path, tiny):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: str) -> str:
        done = subprocess.run([str(installed / words[0]), *words[1:]], cwd=tmp_path, env=env, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    script = f"import genhub, importlib.metadata as m; print(genhub.__file__, m.version({DISTRIBUTION!r}))"
    tiny |= {"data.source": "sample", "training.max_steps": 2}
    where = run(Path(sys.executable).name, "-c", script)
    usage = run("genhub", "--help")
    run("genhub", "train", "ddpm-quick", "made", *(f"--{key}={json.dumps(value)}" for key, value in tiny.items()))
    run("genhub", "generate", "made", "--count", "2", "--output", "two.png")

    assert where.startswith(str(installed.parent))
    assert where.split()[-1] == VERSION
    assert usage.startswith("usage: genhub")
    assert (tmp_path / "two.png").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.14"])
@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_an_extra_resolves_alone(extra, python):
    uv = shutil.which("uv", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    if uv is None:
        pytest.skip("needs uv")
    command = [uv, "pip", "compile", "--quiet", "--python-version", python, *(["--extra", extra] if extra else [])]
    done = subprocess.run([*command, str(ROOT / "pyproject.toml")], capture_output=True, text=True)

    if re.search("error sending request|dns error|tcp connect", done.stderr):
        pytest.skip("needs a package index")
    assert done.returncode == 0, done.stderr
    assert "torch==" in done.stdout
