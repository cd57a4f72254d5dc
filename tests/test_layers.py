"""The rooms: who may import whom, and how long a file may be, read from the sources."""

import ast
import graphlib
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
SCRIPTS = sorted((ROOT.parent / "scripts").rglob("*.py"))
ROOMS = {  # from the top: each room, and the rooms below it that its files may import
    "__init__": {"version"},
    "cli": {"commands", "training", "repository", "recipes", "utils", "version"},
    "commands": {
        "browser",
        "graphs",
        "figures",
        "training",
        "evaluation",
        "repository",
        "recipes",
        "data",
        "plotting",
        "utils",
        "version",
    },
    "browser": {"graphs", "repository", "data", "utils"},
    "graphs": {"repository", "utils"},
    "figures": {"evaluation", "repository", "recipes", "data", "objectives", "plotting", "utils"},
    "training": {"evaluation", "repository", "recipes", "data", "objectives", "plotting", "utils"},
    "evaluation": {"data", "models", "objectives", "repository", "utils"},
    "repository": {"pipelines", "utils", "version"},
    "recipes": {"data", "objectives", "utils"},
    "data": {"utils"},
    "objectives": {"utils"},
    "pipelines": set(),
    "models": set(),
    "schedulers": set(),
    "plotting": {"utils"},
    "utils": {"version"},
    "version": set(),
}
EXCEPTIONS = {
    "repository/load.py": {"__init__"},  # finds a class by the public name that a repository records
}
TRAVELLERS = [
    path
    for room in ("models", "schedulers", "pipelines")
    for path in sorted((ROOT / room).glob("*.py"))
    if path.stem != "__init__"
]
OBJECTIVES = list((ROOT / "objectives").glob("*.py"))

MAX_FUNCTION_LINES = 40  # without its docstring
MAX_FILE_LINES = 250
# "file" or "file:function" -> why it is longer; an entry that is no longer true has to go
LONGER = {
    "genhub/models/gan_progressive.py": "two networks of the same parts travel in one file",
    "genhub/models/gan_stylegan.py": "travels alone, so it copies parts of gan_progressive.py",
    "genhub/pipelines/pipeline_cosine_ddpm.py": "one class travels in one file, with the methods that pipelines share",
    "genhub/pipelines/pipeline_cosine_ddpm.py:__call__": "parameters of diffusers' image and inpainting calls",
    "genhub/pipelines/pipeline_gan.py": "one class travels in one file, with the methods that pipelines share",
    "genhub/pipelines/pipeline_vae.py": "one class travels in one file, with the methods that pipelines share",
    "genhub/schedulers/scheduling_cosine_ddpm.py": "a schedule, the reading of other configs, and a sampler",
    "genhub/schedulers/scheduling_cosine_ddpm.py:step": "four paragraphs, one for each equation",
    "genhub/training/run.py": "names every part of a run once",
}


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


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def rooms_imported(path):
    """The rooms of genhub that a file imports, its own among them; `__init__` for the package itself."""
    for imported in imports(path):
        package, *rest = imported.split(".")
        if package in ("genhub", ""):  # "": a relative import, which no room has
            yield rest[0] if rest and rest[0] in ROOMS else "__init__"


def test_every_file_stands_in_a_room_and_at_the_root_is_only_the_face():
    assert {room_of(path) for path in FILES} == {*ROOMS}
    assert {path.stem for path in FILES if path.parent == ROOT} == {"__init__", "cli", "version"}


def test_arrows_between_rooms_point_down():
    order = list(ROOMS)

    assert [(room, below) for room in order for below in ROOMS[room] if order.index(below) <= order.index(room)] == []


@pytest.mark.parametrize("path", TRAVELLERS, ids=name)
def test_what_travels_with_the_weights_imports_nothing_of_genhub(path):
    assert strangers(path, "numpy", "torch", "diffusers") == []


@pytest.mark.parametrize("path", OBJECTIVES, ids=name)
def test_an_objective_needs_only_torch_and_diffusers(path):
    assert strangers(path, "torch", "diffusers", "genhub") == []


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_imports_its_own_room_and_those_that_the_table_allows(path):
    allowed, exceptions = {room_of(path), *ROOMS[room_of(path)]}, EXCEPTIONS.get(name(path), set())

    imported = set(rooms_imported(path))

    assert imported - allowed == exceptions  # so an exception that is no longer needed has to go


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


def lines_of(node):
    """The lines of a function, without its docstring."""
    docstring = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
    return node.end_lineno - node.lineno + 1 - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)


def test_functions_and_files_are_short_but_for_those_that_say_why():
    longer = set()
    for path in [*FILES, *SCRIPTS]:
        file, text = path.relative_to(ROOT.parent).as_posix(), path.read_text()
        if len(text.splitlines()) > MAX_FILE_LINES:
            longer.add(file)
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        longer |= {f"{file}:{node.name}" for node in functions if lines_of(node) > MAX_FUNCTION_LINES}

    assert sorted(longer - LONGER.keys()) == [], "these are too long"
    assert sorted(LONGER.keys() - longer) == [], "these are short enough now: delete their entries"


@pytest.mark.slow
def test_every_file_can_be_imported_first_and_leaves_no_trace(tmp_path):
    modules = [".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in FILES]
    script = f"""
import importlib, os, signal, sys, threading
import accelerate, datasets, diffusers.image_processor, diffusers.optimization, diffusers.training_utils
import pydantic, torch, tqdm.auto, yamlcore
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
