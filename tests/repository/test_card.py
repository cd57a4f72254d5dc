"""The card says what a run was and measured; its code runs, and what is between its marks is renewed."""

import ast
import dataclasses
import json

import pytest
from huggingface_hub import ModelCard
from tiny_pipelines import PIPELINES, tiny_stable_diffusion

import genhub
from genhub.repository import card
from genhub.repository.card_results import with_figure, with_results

EXPERIMENT = card.Experiment("The chapter's game.", batch_size=32, mixed_precision="no", planned_steps=100)
METRICS = {
    "recipe": "gan",
    "data": "sample",
    "results": [],
    "training": {
        "steps": 100,
        "images": 3200,
        "seconds": 90.0,
        "images_per_second": 35.6,
        "parameters": {"generator": 1234, "discriminator": 567},
        "train_images": 1600,
        "seed": 7,
        "steps_on": {"A CPU": 100},
    },
    "hardware": {"device": "A CPU", "processes": 1, "threads": 1},
    "versions": {"genhub": "0.1.0", "torch": "2.13.0"},
    "sampling": {"images": 64, "seconds": 0.1},
}


def python_of(text):
    return [block.split("```")[0] for block in text.split("```python\n")[1:]]


def test_the_card_of_a_run_says_what_it_was():
    text = card.write(PIPELINES["GANPipeline"].make(), METRICS, EXPERIMENT)

    lines = text.splitlines()
    assert "# gan" in lines
    assert "The chapter's game." in lines
    assert "A `GANPipeline` of `DenseGenerator` (generator 1,234, discriminator 567 parameters), trained and" in text
    assert "![samples, not selected](samples.png)" in lines
    assert "64 samples of one fixed seed, not selected." in lines
    assert "| data | `sample`, 1,600 training images |" in lines
    assert "| seed | 7 |" in lines
    assert "| steps | 100 of 32 images: 3,200 images, 2.0 epochs |" in lines
    assert "| time | 1.5 minutes, 35.6 images/s |" in lines
    assert "| hardware | A CPU, 1 process(es) of 1 thread(s) |" in lines
    assert "| precision | float32 |" in lines
    assert "| versions | genhub 0.1.0, torch 2.13.0 |" in lines
    assert "Images of 8x8 pixels like those of the training set, and nothing else." in text
    assert "Fashion MNIST: Xiao, Rasul & Vollgraf (2017)" in text
    assert "\n\n\n" not in text
    data = ModelCard(text).data.to_dict()
    assert data["datasets"] == ["zalando-datasets/fashion_mnist"]
    assert "license" not in data
    assert data["tags"] == ["genhub", "gan", "image-generation"]


def test_the_card_describes_the_images_and_the_networks():
    told = {"images": "28x28 pixels, grey", "notes": ["3 are left out."], "networks": [("vae", "`DenseVAE(a=1)`")]}

    text = card.write(PIPELINES["GANPipeline"].make(), METRICS, dataclasses.replace(EXPERIMENT, **told))

    assert (
        "| data | `sample`, 1,600 training images of 28x28 pixels, grey; 3 are left out. |\n| vae | `DenseVAE(a=1)` |"
        in text
    )


def test_later_writes_keep_the_words_and_the_metadata_of_the_author():
    pipeline = PIPELINES["GANPipeline"].make()
    first = card.write(pipeline, METRICS, EXPERIMENT)
    begin = f"{card.AUTHOR_BEGIN}\n"
    edited = first.replace(begin, f"{begin}Made for a *school*.\n").replace("---\n", "---\nlicense: mit\n", 1)

    second = card.write(pipeline, METRICS | {"data": "./mine"}, EXPERIMENT, edited)
    third = card.write(pipeline, METRICS | {"data": "./mine"}, EXPERIMENT, second)

    assert f"{begin}Made for a *school*.\n{card.AUTHOR_END}" in second
    data = ModelCard(second).data.to_dict()
    assert data["license"] == "mit"
    assert "datasets" not in data
    assert third == second
    assert card.write(pipeline, METRICS, EXPERIMENT, first) == first


def test_a_run_that_was_stopped_and_moved_says_so():
    training = METRICS["training"] | {"steps": 60, "steps_on": {"A CPU": 20, "A GPU": 40}}

    training |= {"changes": [{"step": 40, "key": "optimizers.generator.lr", "from": 0.1, "to": 0.01}]}

    text = card.write(PIPELINES["GANPipeline"].make(), METRICS | {"training": training}, EXPERIMENT)

    assert "\n| from step 40 on | `optimizers.generator.lr` 0.01, 0.1 before |\n| time |" in text
    assert "| steps | 60, stopped before the recipe's 100, of 32 images" in text
    assert "| hardware | A CPU (20 steps) and A GPU (40 steps), 1 process(es)" in text


@pytest.mark.parametrize(
    ("overrides", "processes", "commands"),
    [
        (None, 1, ["genhub train recipe.yaml  # the file beside this card"]),
        ({}, 1, ["genhub train gan", "genhub train recipe.yaml  # the file beside this card"]),
        (
            {"training.max_steps": 5, "data.source": "a folder"},
            2,
            [
                "accelerate launch --num_processes 2 scripts/train.py gan --training.max_steps 5 "
                "--data.source 'a folder'",
                "accelerate launch --num_processes 2 scripts/train.py recipe.yaml  # the file beside this card",
            ],
        ),
    ],
)
def test_the_commands_train_the_same_again(overrides, processes, commands):
    metrics = METRICS | {"hardware": METRICS["hardware"] | {"processes": processes}}

    text = card.write(PIPELINES["GANPipeline"].make(), metrics, dataclasses.replace(EXPERIMENT, overrides=overrides))

    assert text.split("```bash\n")[1].split("\n```")[0].splitlines() == commands


@pytest.mark.parametrize(
    ("name", "load", "call"),
    [
        ("GANPipeline, classes", "DiffusionPipeline", "pipe(batch_size=16, class_labels=[0] * 16).images"),
        ("CosineDDPMPipeline, as diffusers has it", "DDPMPipeline", "pipe(batch_size=16, num_inference_steps=4)"),
        ("DDPMPipeline, scheduler of genhub", "DDPMPipeline", "pipe(batch_size=16).images"),
        ("ImageClassificationPipeline", "DiffusionPipeline", "pipe(image).labels"),
        ("AutoencoderPipeline", "DiffusionPipeline", "pipe.decode(codes).images"),
        ("StableDiffusionPipeline", "StableDiffusionPipeline", 'pipe("a prompt", num_images_per_prompt=16).images'),
    ],
)
def test_the_card_loads_in_plain_diffusers_with_trust_only_where_source_travels(name, load, call):
    text = card.minimal(PIPELINES[name].make(), "someone/some-name")

    ours, theirs = python_of(text)
    assert "pipe = genhub.AutoPipeline.from_pretrained" in ours
    assert f"from diffusers import {load}\n" in theirs
    assert call in theirs
    assert ("trust_remote_code=True" in theirs) is not PIPELINES[name].is_plain
    assert "# some-name\n" in text
    assert "## Training" not in text
    assert "\n\n\n" not in text
    assert ModelCard(text).data.library_name == "diffusers"


def test_a_pipeline_of_text_is_tagged_as_one():
    assert ModelCard(card.minimal(tiny_stable_diffusion(), "a/b")).data.pipeline_tag == "text-to-image"


@pytest.mark.parametrize("repo", ["tiny_repo", "plain_repo"])
def test_the_card_of_a_trained_model_parses_and_its_python_runs(repo, request):
    folder = request.getfixturevalue(repo)

    model_card = ModelCard.load(folder / "README.md")

    metrics = json.loads((folder / "metrics.json").read_text())
    data = model_card.data.to_dict()
    assert data["library_name"] == "diffusers"
    assert data["pipeline_tag"] == "unconditional-image-generation"
    assert "genhub" in data["tags"]
    assert model_card.data.eval_results[0].metric_value == pytest.approx(metrics["results"][0]["value"], abs=1e-6)
    blocks = python_of(model_card.text)
    assert len(blocks) == 2
    for block in blocks:
        names: dict = {}
        exec(block.replace("path/or/user/name", str(folder)).replace("batch_size=16", "batch_size=2"), names)
        assert len(names["images"]) == 2
        assert names["images"][0].mode == "L"


def test_results_are_renewed_between_the_marks_and_nothing_else_changes():
    pipeline = PIPELINES["GANPipeline"].make()
    row = {"name": "val_loss", "value": 0.5, "split": "val", "images": 16, "seeds": 1}
    text = card.write(pipeline, METRICS, EXPERIMENT).replace("## Limits", "A word of the author's.\n\n## Limits")

    renewed = with_results(text, METRICS | {"results": [row], "reported": {"val_loss": 0.4}})

    assert "| val_loss | 0.50000 | 0.4 | 16 images of val, the same random numbers every time, 1 run |" in renewed
    assert "A word of the author's." in renewed
    assert ModelCard(with_results(renewed, METRICS)).text == ModelCard(text).text
    assert with_results("# A card without marks", METRICS) == "# A card without marks"


def test_figures_are_listed_once_in_order():
    text = card.write(PIPELINES["GANPipeline"].make(), METRICS, EXPERIMENT)

    for file in ("b.png", "a.gif", "b.png"):
        text = with_figure(text, file)

    assert "## Figures\n\n![a](a.gif)\n\n![b](b.png)\n\n<!-- /figures -->" in text
    assert with_figure("# A card without marks", "a.png") == "# A card without marks"


def test_the_template_is_part_of_the_package():
    assert card.TEMPLATE.is_file()
    assert genhub.__file__.removesuffix("__init__.py") in str(card.TEMPLATE)


def test_a_prompt_with_quotes_and_lines_stays_one_string_in_the_code_of_the_card():
    pipe = PIPELINES["StableDiffusionPipeline"].make()
    pipe.example_prompt = 'a 12" record\nwith a scratch'

    for code in python_of(card.minimal(pipe, "someone/some-name")):
        strings = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
        assert pipe.example_prompt in strings
