"""Who may import whom, read from the sources: what travels alone needs nothing of genhub, and layers stay apart."""

import ast
import graphlib
import importlib.util
import inspect
import pydoc
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import diffusers.pipelines
import pytest

import genhub

ROOT = Path(genhub.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TRAVELLERS = [
    *(path for folder in ("models", "schedulers") for path in (ROOT / folder).glob("*.py") if path.stem != "__init__"),
    *(ROOT / "pipelines").glob("pipeline_*.py"),
]
OBJECTIVES = list((ROOT / "objectives").glob("*.py"))
ROOMS = (  # from the top: an arrow points down this list, or stays in its room
    "cli.py",
    "commands",
    "figures",
    "training",
    "evaluation",
    "repository",
    "recipes",
    "data",
    "objectives",
    "pipelines",
    "models",
    "schedulers",
    "plotting",
    "utils",
    "version.py",
)


def name(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """Dotted names of all that a file imports, at whatever depth; relative ones begin with a dot."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def strangers(path, *packages):
    """What a file imports beside the standard library and `packages`."""
    known = {*sys.stdlib_module_names, *packages}
    return [imported for imported in imports(path) if imported.partition(".")[0] not in known]


def exists(dotted):
    parent, _, last = dotted.rpartition(".")
    found = parent and importlib.util.find_spec(parent) and hasattr(importlib.import_module(parent), last)
    return found or importlib.util.find_spec(dotted) is not None


def test_the_rules_are_about_files_that_exist():
    assert {path.parent.name for path in TRAVELLERS} == {"models", "schedulers", "pipelines"}
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == {*ROOMS, "__init__.py"}


@pytest.mark.parametrize("path", TRAVELLERS, ids=name)
def test_what_travels_with_the_weights_needs_only_torch_and_diffusers(path):
    assert strangers(path, "numpy", "torch", "diffusers") == []


@pytest.mark.parametrize("path", OBJECTIVES, ids=name)
def test_an_objective_needs_only_torch_and_diffusers(path):
    assert strangers(path, "torch", "diffusers", "genhub") == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name != "__init__.py" or path.parent != ROOT], ids=name
)
def test_an_arrow_points_down(path):
    room = path.relative_to(ROOT).parts[0]
    below = {part.removesuffix(".py") for part in ROOMS[ROOMS.index(room) :]}

    imported = {found for found in imports(path) if found.startswith(("genhub", "."))}

    reached = {found.split(".")[1] if "." in found else found for found in imported}
    if path == ROOT / "repository/load.py":  # asks the face for a class by its public name
        reached.discard("genhub")
    assert reached <= below


def test_no_circle_of_imports():
    names = {path: ".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in FILES}
    modules = {name.removesuffix(".__init__") for name in names.values()}
    arrows = {
        name.removesuffix(".__init__"): {
            target for found in imports(path) for target in (found, found.rpartition(".")[0]) if target in modules
        }
        - {"genhub", name.removesuffix(".__init__")}
        for path, name in names.items()
    }

    graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError


@pytest.mark.parametrize("path", (ROOT / "training").glob("*.py"), ids=name)
def test_training_knows_the_protocol_of_objectives_and_no_family(path):
    files = [*TRAVELLERS, *(file for file in OBJECTIVES if file.stem != "objective")]
    nodes = [node for file in files for node in ast.parse(file.read_text()).body]
    families = [node.name for node in nodes if isinstance(node, ast.ClassDef)]
    others = r"genhub\.objectives\.(?!objective\.)"

    assert [family for family in families if re.search(rf"\b{family}\b", path.read_text())] == []
    assert [found for found in imports(path) if re.match(others, found)] == []


@pytest.mark.parametrize("path", TRAVELLERS, ids=name)
def test_no_other_file_has_the_name_under_which_one_travels(path):
    assert Counter(file.stem for file in FILES)[path.stem] == 1


def test_no_folder_is_named_like_a_pipeline_of_diffusers():
    folders = {path.parent.name for path in FILES}

    assert [folder for folder in folders if hasattr(diffusers.pipelines, folder)] == []


@pytest.mark.parametrize("path", FILES, ids=name)
def test_what_is_imported_from_genhub_exists(path):
    assert [found for found in imports(path) if found.partition(".")[0] == "genhub" and not exists(found)] == []


@pytest.mark.slow
def test_every_file_can_be_imported_first_and_leaves_no_trace(tmp_path):
    modules = [".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in FILES]
    script = f"""
import importlib, os, signal, sys, threading
import accelerate, datasets, diffusers.image_processor, diffusers.optimization, diffusers.training_utils
import jsonargparse, torch, tqdm.auto, yaml
from diffusers import DDPMPipeline, DDPMScheduler, ModelMixin, UNet2DModel

def world():
    return (dict(os.environ), os.getcwd(), os.listdir(), list(sys.argv), list(sys.path), threading.active_count(),
            torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads(),
            torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
            [signal.getsignal(number) for number in signal.valid_signals()])

before = world()
for module in {modules!r}:
    for known in [name for name in sys.modules if name.partition(".")[0] == "genhub"]:
        del sys.modules[known]
    importlib.import_module(module.removesuffix(".__init__"))
    assert world() == before, module
"""

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


COPIES = [
    (path, number, dotted)
    for path in FILES
    for number, line in enumerate(path.read_text().splitlines())
    for dotted in re.findall(r"^ *# Same as (genhub\.[\w.]+)$", line)
]


@pytest.mark.parametrize(("path", "number", "dotted"), COPIES, ids=[dotted for *_, dotted in COPIES])
def test_what_is_marked_as_a_copy_is_one(path, number, dotted):
    original = inspect.getsource(pydoc.locate(dotted)).rstrip()  # a function, or a method

    below = path.read_text().splitlines()[number + 1 :]

    assert "\n".join(below[: original.count("\n") + 1]) == original
