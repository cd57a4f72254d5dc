"""The table of figures: each is found by its name, explains itself, draws the same every time, and says what a
repository lacks."""

import ast
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from PIL import Image

from genhub import figure, train
from genhub import figures as package
from genhub.figures import ANIMATED, FIGURES

DRAWN = {  # recipe -> figures of its repository
    "deep-belief-net": ["reconstructions", "codes", "network"],
    "ddpm-quick": ["trajectory", "forward-process", "noise-schedule", "network"],
    "linear-ae-pca": ["plane"],
    "stacked-ae": [
        *("reconstructions", "codes", "units", "activations", "embeddings", "network"),
        *("progress", "reconstruction-progress", "training-time", "code-drift"),
    ],
    "sparse-kl-ae": ["penalties"],
    "denoising-ae": ["denoising"],
    "denoising-gaussian-ae": ["denoising"],
    "hashing-ae": ["units", "activations", "neighbours"],
    "vae": [
        *("codes", "units", "activations", "prior-samples", "interpolation", "manifold"),
        *("progress", "reconstruction-progress", "milestones", "one-epoch"),
    ],
    "conditional-vae": ["reconstructions", "codes", "units", "classes", "prior-samples", "interpolation", "manifold"],
    "conv-vae": ["codes", "manifold"],
    "gan": ["latent-interpolation", "arithmetic", "prior-samples", "game"],
    "gan-best": ["arithmetic"],
    "dcgan": ["latent-interpolation", "arithmetic", "prior-samples", "network"],
    "conditional-dcgan": ["latent-interpolation", "arithmetic", "prior-samples", "classes"],
    "progressive-gan": ["latent-interpolation", "arithmetic", "growth"],
    "stylegan": [
        "latent-interpolation",
        "arithmetic",
        "prior-samples",
        "growth",
        "style-mixing",
        "noise-inputs",
        "game",
    ],
}
COUNTS = {"manifold": 9, "neighbours": 3, "interpolation": 2, "codes": 12, "units": 12, "reconstructions": 12}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr("genhub.figures.gan.EXAMINED", 40)


@pytest.mark.parametrize("name", FIGURES)
def test_a_name_leads_to_a_function_whose_docstring_begins_with_one_short_sentence(name):
    module, _, function = FIGURES[name].partition(":")

    sentence = inspect.getdoc(pkgutil.resolve_name(FIGURES[name])).splitlines()[0]

    assert module.startswith("genhub.figures.")
    assert function == name.replace("-", "_")
    assert sentence.endswith(".")
    assert ". " not in sentence
    assert len(sentence) <= 85


def test_the_table_can_be_read_without_importing_anything():
    tree = ast.parse(Path(package.__file__).read_text())

    (table,) = [node.value for node in tree.body if isinstance(node, ast.AnnAssign)]

    assert ast.literal_eval(table) == FIGURES
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert FIGURES.keys() >= ANIMATED


def test_every_figure_is_drawn_here_but_those_that_need_an_evaluation():
    drawn = {name for names in DRAWN.values() for name in names}

    assert drawn == FIGURES.keys() - {"sampling-time", "samplers"}


@pytest.mark.parametrize(("recipe", "name"), [(recipe, name) for recipe in DRAWN for name in DRAWN[recipe]])
def test_a_figure_is_a_picture_and_the_same_one_every_time(recipe, name, repos, tmp_path, drawing):
    suffix = "gif" if name in ANIMATED else "png"
    files = [tmp_path / f"{number}.{suffix}" for number in (1, 2)]
    options = {"count": COUNTS[name]} if name in COUNTS else {}

    for file in files:
        assert figure(name, str(repos(recipe)), str(file), **options) == file

    assert Image.open(files[0]).format == suffix.upper()
    assert files[0].read_bytes() == files[1].read_bytes()
    if name in (
        *("latent-interpolation", "arithmetic", "style-mixing", "noise-inputs", "growth", "prior-samples", "classes"),
        *("trajectory", "one-epoch"),
    ):
        assert re.search("seed 0, (otherwise )?uncurated", drawing["image_rows"]["title"])


@pytest.mark.parametrize("name", ["latent-interpolation", "arithmetic", "style-mixing", "noise-inputs", "growth"])
def test_another_seed_is_another_picture(name, repos, tmp_path, drawing):
    pictures = [
        figure(name, str(repos("stylegan")), str(tmp_path / "x.png"), seed=seed).read_bytes() for seed in (0, 7)
    ]

    assert pictures[0] != pictures[1]
    assert "seed 7, uncurated" in drawing["image_rows"]["title"]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("reconstructions", "reconstruct"),
        ("denoising", "denoise"),
        ("codes", "encode"),
        ("units", "encode"),
        ("activations", "encode"),
        ("neighbours", "hash"),
        ("interpolation", "traverse"),
        ("manifold", "manifold"),
        ("prior-samples", "interpolate"),
        ("latent-interpolation", "arithmetic"),
        ("arithmetic", "arithmetic"),
        ("style-mixing", "mix"),
        ("noise-inputs", "mix"),
        ("embeddings", "encode"),
        ("code-drift", "encode"),
        ("plane", "encode"),
        ("growth", "arithmetic"),
    ],
)
def test_a_diffusion_model_has_no_figures_of_other_families(name, task, tiny_repo, tmp_path):
    with pytest.raises(ValueError, match=rf"a pipeline with the task `{task}`, such as \w+Pipeline.*, got \w*DDPM"):
        figure(name, str(tiny_repo), str(tmp_path / "x.png"))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("recipe", "name", "options", "message"),
    [
        ("stacked-ae", "denoising", {}, "`repo` must be trained on corrupted images, .*, got stacked-ae, whose"),
        (
            "stacked-ae",
            "neighbours",
            {},
            "the task `hash`, such as .* with a sigmoid code, got .* with DenseAutoencoder",
        ),
        ("stacked-ae", "manifold", {}, "`repo` must hold a pipeline with the task `manifold`, such as VAEPipeline"),
        ("stacked-ae", "classes", {}, "with the task `generate`, such as CosineDDPMPipeline, .*, got Autoencoder"),
        ("stacked-ae", "milestones", {}, "`repo` must hold a model that generates images, got AutoencoderPipeline"),
        ("stacked-ae", "codes", {"count": 4}, r"at least 5 codes of at least 2 numbers, got \(4, 30\)"),
        ("stacked-ae", "reconstructions", {"count": 0}, "`count` must be at least 1, got 0"),
        ("stacked-ae", "reconstructions", {"seed": 1}, "the figure reconstructions takes `count`"),
        ("stacked-ae", "progress", {"count": 3}, "`count` must be unset: the figure progress takes no options, got 3"),
        ("vae", "prior-samples", {"seed": -1}, "`seed` must be at least 0, got -1"),
        ("vae", "denoising", {}, "with the task `denoise`, such as AutoencoderPipeline, got VAEPipeline"),
        ("vae", "manifold", {"count": 8}, "`count` must make a square, such as 4 or 400, got 8"),
        ("vae", "progress", {"output": "x.png"}, "`output` must be a .gif file, got x.png"),
        ("dcgan", "style-mixing", {}, "the task `mix`, such as .* StyleGANGenerator, got .* with DCGANGenerator"),
        ("progressive-gan", "style-mixing", {}, "the task `mix`, such as .*, got .* with ProgressiveGenerator"),
        ("dcgan", "growth", {}, "a generator that grows, such as ProgressiveGenerator, got DCGANGenerator"),
        ("dcgan", "arithmetic", {"count": 3}, "`count` must be unset: the figure arithmetic takes `seed`, got 3"),
        ("dcgan", "trajectory", {}, "`repo` must hold a diffusion pipeline, CosineDDPMPipeline, got GANPipeline"),
        ("vae", "forward-process", {}, "`repo` must hold a diffusion pipeline, CosineDDPMPipeline, got VAEPipeline"),
        ("gan", "noise-schedule", {}, "`repo` must hold a diffusion pipeline, CosineDDPMPipeline, got GANPipeline"),
        ("ddpm-quick", "trajectory", {"output": "x.jpg"}, "`output` must be a .png or .gif file, got x.jpg"),
        ("ddpm-quick", "trajectory", {"steps": 21}, "`num_inference_steps` must lie between 1 and 20, got 21"),
        (
            "ddpm-quick",
            "trajectory",
            {"against": "x"},
            "figure trajectory takes `steps` and `seed` and `count`, got x",
        ),
        (
            "stacked-ae",
            "plane",
            {},
            "`repo` must be trained on points in space, such as linear-ae-pca, got stacked-ae",
        ),
        ("stacked-ae", "one-epoch", {}, "`repo` must hold a model that generates images, got AutoencoderPipeline"),
        ("stacked-ae", "embeddings", {"count": 4}, r"at least 5 codes of at least 2 numbers, got \(4, 30\)"),
        ("stacked-ae", "penalties", {}, "by `objective.kl_weight` above 0, got stacked-ae, whose objective is genhub"),
        ("gan", "reconstruction-progress", {}, "`repo` must hold a model that reconstructs images, got GANPipeline"),
        ("hashing-ae", "code-drift", {}, r"no codes in training/codes.*`--training.sample_every N`"),
        ("dcgan", "game", {"seed": 3}, "`seed` must be unset: the figure game takes no options, got 3"),
    ],
)
def test_what_a_repository_lacks_is_said_in_one_line(recipe, name, options, message, repos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suffix = "gif" if name in ANIMATED else "png"

    with pytest.raises(ValueError, match=message):
        figure(name, str(repos(recipe)), **{"output": f"y.{suffix}", **options})

    assert not list(tmp_path.iterdir())


def test_points_in_space_are_no_pictures(tmp_path):
    repo = train("linear-ae-pca", tmp_path / "repo", overrides={"training.epochs": 1})

    with pytest.raises(ValueError, match="`repo` must be trained on pictures, got linear-ae-pca, trained on points"):
        figure("reconstructions", str(repo))
