"""A public pipeline or model class is the travelling one, with safe loading, and a pipeline with pushing; diffusers
records it by its public name."""

import inspect
import json
import pickle
from pathlib import Path

import pytest
from diffusers import DiffusionPipeline, UniPCMultistepScheduler
from diffusers.pipelines import pipeline_loading_utils
from tiny import MODELS
from tiny_pipelines import OF_GENHUB, PIPELINES

import genhub
from genhub.repository.installed import installed

CLASSES = {type(tiny.make()) for tiny in OF_GENHUB.values()}
CLASSES |= {getattr(genhub, name) for name in MODELS if name in genhub.__all__}
every_class = pytest.mark.parametrize("cls", sorted(CLASSES, key=lambda cls: cls.__name__), ids=lambda c: c.__name__)


@every_class
def test_a_public_class_is_one_class_of_the_package_made_of_the_travelling_one(cls):
    (travelling,) = (
        base for base in cls.__mro__ if base.__module__.startswith(("genhub.pipelines.", "genhub.models."))
    )

    assert getattr(genhub, cls.__name__) is cls is installed(travelling)
    assert pickle.loads(pickle.dumps(cls)) is cls
    assert repr(cls) == f"<class 'genhub.{cls.__name__}'>"
    assert (cls.__name__, cls.__doc__) == (travelling.__name__, travelling.__doc__)
    assert inspect.signature(cls) == inspect.signature(travelling)


@pytest.mark.parametrize("thing", [genhub.GANPipeline, genhub.DenseVAE, genhub.ModelMixin, genhub.Muon, genhub.train])
def test_anything_else_is_installed_as_it_is(thing):
    assert installed(thing) is thing


@pytest.mark.parametrize("name", OF_GENHUB)
def test_diffusers_records_classes_of_genhub_by_their_public_names(name, tmp_path):
    pipeline = PIPELINES[name].make()

    DiffusionPipeline.save_pretrained(pipeline, tmp_path)

    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == type(pipeline).__name__
    for key, part in pipeline.components.items():
        assert index[key] == ([None, None] if part is None else ["genhub", type(part).__name__])


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", OF_GENHUB)
def test_what_a_pipeline_saves_is_what_genhub_saves_with_a_card(name, tmp_path):
    pipeline = PIPELINES[name].make()
    if "scheduler" in pipeline.components:
        pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)

    pipeline.save_pretrained(tmp_path / "a")
    genhub.save_repo(pipeline, tmp_path / "b")

    found, expected = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    assert found.pop(Path("README.md"))
    assert found == expected
    (tmp_path / "a/README.md").write_text("my own card")
    pipeline.save_pretrained(tmp_path / "a", safe_serialization=True)
    assert (tmp_path / "a/README.md").read_text() == "my own card"


@pytest.mark.parametrize(
    "option", [{"variant": "fp16"}, {"safe_serialization": False}, {"max_shard_size": "1MB"}, {"private": True}]
)
def test_an_option_that_would_change_the_files_is_refused(option, tmp_path):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` must be left out"):
        PIPELINES["GANPipeline"].make().save_pretrained(tmp_path / "a", **option)


def test_saving_takes_the_arguments_of_diffusers_in_their_order():
    ours, theirs = (inspect.signature(cls.save_pretrained) for cls in (genhub.GANPipeline, DiffusionPipeline))

    assert list(ours.parameters) == list(theirs.parameters)
    assert [p.default for p in ours.parameters.values()] == [p.default for p in theirs.parameters.values()]


def test_the_private_table_of_diffusers_holds_genhub():
    assert pipeline_loading_utils.LOADABLE_CLASSES["genhub"] == {}
