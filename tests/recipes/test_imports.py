"""Which classes a recipe may name. A stranger's recipe runs no code."""

import json
import subprocess
import sys

import pytest
import yaml
from diffusers import ModelMixin
from torch.optim.lr_scheduler import LRScheduler

from genhub import recipes
from genhub.recipes.imports import import_class

QUICK = "ddpm-quick"
UNET, SCHEDULE = "components.unet", "optimizers.unet.schedule"
CODE = [  # what must be neither imported nor returned, by paths that lead there
    "this.s",
    "antigravity.fly",
    "os.system",
    "mine.Model",
    "torch.hub.load",
    "torch.utils.collect_env.main",
    "torch.serialization.load",
    "torch.nn.Module.load_state_dict",
    "torch.nn.functional.relu",
    "torch.nn.modules.linear.Linear",
    "genhub.cli.main",
    "genhub.cli.sys.modules",
    "genhub.commands.doctor.examine",
    "genhub.models.gan_dcgan.DCGANGenerator",
    "genhub.objectives.gan.torch",
    "diffusers.commands.diffusers_cli.main",
    "diffusers.utils.import_utils.importlib.import_module",
    "diffusers.utils.dynamic_modules_utils.get_class_from_dynamic_module",
    "diffusers.__spec__.loader",
    "diffusers.__class__",
    "transformers.__main__.main",
    "transformers.models.clip.__main__.Model",
    "transformers.utils.import_utils._LazyModule",
    "torch.optim.__builtins__",
    "torch.optim.lr_scheduler.__loader__",
    "diffusers.optimization.logging.os.makedirs",
    "diffusers.optimization.__builtins__",
]
OTHERS = [  # public, and of no kind that a recipe is made of
    "genhub.train",
    "genhub.AutoPipeline",
    "genhub.objectives.torch",
    "diffusers.utils",
    "diffusers.AutoModel",
    "torch.optim.lr_scheduler.math",
    "torch.nn.Linear",
    "diffusers.optimization.math",
    "diffusers.optimization.Optimizer",
]


@pytest.mark.parametrize("section", [UNET, "objective", "optimizers.unet", SCHEDULE, "pipeline"])
@pytest.mark.parametrize("path", CODE)
def test_a_path_that_is_no_public_name_of_a_known_package_is_refused(section, path):
    with pytest.raises(ValueError, match=f"`{section}.class` must be a .*, got {path}"):
        recipes.load(QUICK, {section: {"class": path}})


@pytest.mark.parametrize("path", OTHERS)
def test_a_public_name_of_another_kind_is_refused(path):
    for section in (UNET, "objective", "optimizers.unet", SCHEDULE, "pipeline"):
        with pytest.raises(
            ValueError, match=f"`{section}.class` (must be a .*, got {path}|is '{path}', and .* has no)"
        ):
            recipes.load(QUICK, {section: {"class": path}})


@pytest.mark.parametrize(
    ("section", "path", "kind"),
    [
        (UNET, "torch.optim.AdamW", "ModelMixin or SchedulerMixin"),
        (UNET, "genhub.CosineDDPMPipeline", "ModelMixin or SchedulerMixin"),
        ("objective", "genhub.PatchUNet2DModel", "Objective"),
        ("optimizers.unet", "genhub.PatchUNet2DModel", "Optimizer"),
        ("pipeline", "genhub.PatchUNet2DModel", "DiffusionPipeline"),
        (SCHEDULE, "torch.optim.AdamW", "LRScheduler"),
    ],
)
def test_a_class_of_another_section_is_refused(section, path, kind):
    with pytest.raises(ValueError, match=f"`{section}.class` must be a {kind}, got {path}"):
        recipes.load(QUICK, {section: {"class": path}})


@pytest.mark.parametrize(
    ("section", "path", "message"),
    [
        (UNET, "genhub.PatchUNet2DModl", "genhub has no 'PatchUNet2DModl' .did you mean 'PatchUNet2DModel'"),
        ("optimizers.unet", "torch.optim.AdamV", "torch.optim has no 'AdamV' .did you mean 'Adam"),
        (UNET, "Model", "must be a dotted path such as torch.optim.AdamW, got 'Model'"),
        (UNET, ".Model", "must be a dotted path such as torch.optim.AdamW, got '.Model'"),
        (UNET, "genhub..Model", "must be a dotted path such as torch.optim.AdamW, got 'genhub..Model'"),
    ],
)
def test_a_mistake_in_a_path_is_named(section, path, message):
    with pytest.raises(ValueError, match=message):
        recipes.load(QUICK, {f"{section}.class": path})


def test_a_hostile_recipe_imports_nothing_and_gives_one_error(tmp_path):
    (tmp_path / "mine.py").write_text("print('code of a stranger')\nclass Model: pass\n")
    recipe = recipes.load(QUICK)
    hostile = []
    for number, path in enumerate(CODE):
        recipe.sections["components"]["unet"] = {"class": path}
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(recipe.sections))
        hostile.append(str(tmp_path / f"{number}.yaml"))
    script = f"""
import json, sys
from genhub import recipes
recipes.load({QUICK!r})
before, errors = set(sys.modules), []
for path in {hostile!r}:
    try:
        recipes.load(path)
    except ValueError as error:
        errors.append(str(error))
print(json.dumps([errors, sorted(set(sys.modules) - before)]))
"""

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    errors, imported = json.loads(done.stdout)
    assert (len(errors), imported) == (len(CODE), [])


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("torch.optim.lr_scheduler.LambdaLR", {"lr_lambda": "os.system"}),
        ("torch.optim.lr_scheduler.LambdaLR", {"lr_lambda": ["os.system"]}),
        ("torch.optim.lr_scheduler.CyclicLR", {"base_lr": 0.1, "max_lr": 0.2, "scale_fn": "os.system"}),
    ],
)
def test_an_argument_is_never_imported(path, arguments):
    with pytest.raises(ValueError, match=f"`{SCHEDULE}.*` must be .*, got .*os.system"):
        recipes.load(QUICK, {SCHEDULE: {"class": path, **arguments}})


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "import genhub\nfrom os import system\nclass Mine(genhub.LeanUNet2DModel): pass\nclass Other: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_models", None)


@pytest.mark.usefixtures("own_module")
def test_a_class_of_ones_own_needs_trust_and_no_more():
    own = {f"{UNET}.class": "my_models.Mine"}

    with pytest.raises(ValueError, match="got my_models.Mine. Your own classes need `trust_code`"):
        recipes.load(QUICK, own)
    assert "my_models" not in sys.modules
    assert recipes.load(QUICK, own, trust_code=True).components["unet"].cls.__name__ == "Mine"


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize("name", ["Other", "system", "genhub"])
def test_trust_does_not_make_another_kind_a_component(name):
    with pytest.raises(ValueError, match=f"must be a ModelMixin or SchedulerMixin, got my_models.{name}"):
        recipes.load(QUICK, {UNET: {"class": f"my_models.{name}"}}, trust_code=True)


def test_a_module_that_cannot_be_imported_is_named():
    with pytest.raises(ValueError, match="`components.unet.class` is 'nowhere.Model', and No module named 'nowhere'"):
        recipes.load(QUICK, {f"{UNET}.class": "nowhere.Model"}, trust_code=True)


def test_functions_that_return_schedules_are_the_only_functions():
    name = "diffusers.optimization.get_constant_schedule"

    assert import_class("part", name, (LRScheduler,)).__name__ == "get_constant_schedule"
    with pytest.raises(ValueError, match="`part.class` must be a public class of"):
        import_class("part", name, (ModelMixin,))
