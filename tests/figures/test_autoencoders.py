"""Figures of autoencoders, of tiny repositories that are trained here: what they show, and what is refused."""

import inspect
import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from genhub import AutoPipeline, data, figure, plotting, train
from genhub.commands.generate import generate
from genhub.figures.codes import edges_of, in_use, percent
from genhub.figures.reconstructions import squared_error
from genhub.figures.subject import load_subject
from genhub.figures.training import FRAMES, thinned
from genhub.figures.vae import pairs_of
from genhub.utils.randomness import seed_of

RECIPES = {  # what is drawn of each
    "stacked-ae": ["reconstructions", "codes", "units", "activations", "progress"],
    "denoising-ae": ["denoising"],
    "denoising-gaussian-ae": ["denoising"],
    "hashing-ae": ["units", "activations", "neighbours"],
    "vae": [
        "reconstructions",
        "codes",
        "units",
        "activations",
        "prior-samples",
        "interpolation",
        "manifold",
        "progress",
    ],
    "conditional-vae": ["reconstructions", "codes", "units", "prior-samples", "interpolation", "manifold"],
    "conv-vae": ["codes", "manifold"],
}
COUNTS = {"manifold": 9, "neighbours": 3, "interpolation": 2, "prior-samples": 4}


@pytest.fixture(scope="module")
def repos(tmp_path_factory, tiny_always):
    """Returns the tiny repository of a recipe, trained when it is first asked for. Read only."""
    made, folder = {}, tmp_path_factory.mktemp("autoencoders")
    shared = {"data.source": tiny_always["data.source"], "data.val_size": 16, "training.num_samples": 4}
    shared |= {"training.batch_size": 16, "training.max_steps": 3, "training.sample_every": 1}
    shared |= {"training.validate_every": 0}

    def repo(name):
        if name not in made:
            made[name] = train(name, folder / name, overrides=shared)
        return made[name]

    return repo


@pytest.fixture
def drawing(monkeypatch):
    """What the functions that draw are about to be called with, by their names."""
    seen = {}
    for name in ("named_rows", "plane", "image_map", "histograms", "gif"):
        draw = getattr(plotting, name)

        def spy(*args, name=name, draw=draw, **kwargs):
            seen[name] = inspect.signature(draw).bind(*args, **kwargs).arguments
            return draw(*args, **kwargs)

        monkeypatch.setattr(plotting, name, spy)
    return seen


def held_out(repo, count=16):
    return data.load(data.DataConfig(source=source_of(repo), val_size=16), "val")[:count]


def source_of(repo):
    return yaml.safe_load((repo / "recipe.yaml").read_text())["data"]["source"]


@pytest.mark.parametrize(("recipe", "name"), [(recipe, name) for recipe in RECIPES for name in RECIPES[recipe]])
def test_a_figure_is_a_picture_and_the_same_one_every_time(recipe, name, repos, tmp_path):
    suffix = "gif" if name == "progress" else "png"
    files = [tmp_path / f"{number}.{suffix}" for number in (1, 2)]
    count = {} if name == "progress" else {"count": COUNTS.get(name, 12)}

    for file in files:
        assert figure(name, str(repos(recipe)), str(file), **count) == file

    assert Image.open(files[0]).format == suffix.upper()
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("recipe", ["stacked-ae", "vae", "conditional-vae"])
def test_reconstructions_stand_beneath_their_originals_with_their_error(recipe, repos, tmp_path, drawing):
    repo = repos(recipe)
    images = held_out(repo, 12)
    labels = {"class_labels": images.labels} if recipe == "conditional-vae" else {}
    pipeline = AutoPipeline.from_pretrained(repo)
    copies = pipeline.reconstruct(images.images / 255, output_type="pt", **labels).images

    figure("reconstructions", str(repo), str(tmp_path / "x.png"), count=12)

    seen = drawing["named_rows"]
    assert seen["names"] == ["original", "reconstruction"] * 2
    assert [len(row) for row in seen["rows"]] == [10, 10, 2, 2]
    torch.testing.assert_close(torch.cat([seen["rows"][1], seen["rows"][3]]), copies)
    assert f"{(copies - images.images / 255).square().mean():.4f}" in seen["title"]
    assert "the first 12 validation images" in seen["title"]


def test_without_validation_images_those_of_the_test_are_shown(repos, tmp_path, drawing):
    repo = shutil.copytree(repos("stacked-ae"), tmp_path / "repo")
    recipe = yaml.safe_load((repo / "recipe.yaml").read_text())
    recipe["data"]["val_size"] = 0
    (repo / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    figure("reconstructions", str(repo), count=3)

    test = data.load(data.DataConfig(source=source_of(repo), val_size=0), "test")
    assert torch.equal(drawing["named_rows"]["rows"][0], test.images[:3] / 255)
    assert "the first 3 test images" in drawing["named_rows"]["title"]


def test_the_error_is_that_of_what_is_shown():
    assert squared_error(torch.tensor([-1.0, 0.5, 3.0]), torch.tensor([0.0, 0.0, 1.0])) == pytest.approx(0.25 / 3)


def test_lost_pixels_are_black_and_the_others_twice_as_bright(repos, tmp_path, drawing):
    figure("denoising", str(repos("denoising-ae")), str(tmp_path / "x.png"), count=8)

    clean, corrupted, denoised = drawing["named_rows"]["rows"]
    assert drawing["named_rows"]["names"] == ["clean", "corrupted", "denoised"]
    kept = corrupted > 1e-6
    torch.testing.assert_close(corrupted[kept], 2 * clean[kept])
    assert 0.4 < kept[clean > 0].double().mean() < 0.6
    assert denoised.shape == clean.shape
    assert "0.5, the others divided by 0.5; seed 0" in drawing["named_rows"]["title"]
    assert f"{(denoised - clean).square().mean():.4f}" in drawing["named_rows"]["title"]


def test_noise_is_as_strong_as_in_training_and_a_function_of_the_seed(repos, tmp_path, drawing):
    noises = []
    for seed in (0, 0, 1):
        figure("denoising", str(repos("denoising-gaussian-ae")), str(tmp_path / "x.png"), count=10, seed=seed)
        clean, corrupted, _ = drawing["named_rows"]["rows"]
        noises.append(corrupted - clean)

    assert torch.equal(noises[0], noises[1])
    assert not torch.equal(noises[0], noises[2])
    assert noises[0].std().item() == pytest.approx(0.2, rel=0.05)


def test_codes_are_drawn_with_their_images_and_classes(repos, tmp_path, drawing):
    repo = repos("stacked-ae")

    figure("codes", str(repo), str(tmp_path / "x.png"), count=12)

    seen, images = drawing["image_map"], held_out(repo, 12)
    assert torch.equal(seen["images"], images.images / 255)
    assert torch.equal(seen["labels"], images.labels)
    assert seen["names"][1] == "Trouser"
    assert seen["points"].shape == (12, 2)
    assert "t-SNE of codes of 30 numbers, of 12 validation images" in seen["title"]


def test_codes_of_two_numbers_are_drawn_as_they_are(repos, tmp_path, drawing):
    repo = repos("conv-vae")

    figure("codes", str(repo), str(tmp_path / "x.png"))

    binary = (held_out(repo).images > 127).float()
    torch.testing.assert_close(drawing["image_map"]["points"], AutoPipeline.from_pretrained(repo).encode(binary))


def test_images_stand_in_the_order_in_which_they_excite_a_unit(repos, tmp_path, drawing):
    repo = repos("hashing-ae")
    images = held_out(repo).images / 255
    codes = AutoPipeline.from_pretrained(repo).encode(images)

    figure("units", str(repo), str(tmp_path / "x.png"))

    seen = drawing["named_rows"]
    assert len(seen["rows"]) == 16
    for unit, row in enumerate(seen["rows"]):
        active = int((codes[:, unit] > 0.5).sum())
        assert len(row) == min(10, active)
        assert torch.equal(row, images[codes[:, unit].argsort(descending=True, stable=True)[: len(row)]])
        assert (f"unit {unit}, never above 1/2" == seen["names"][unit]) == (active == 0)


def test_a_unit_is_active_above_zero_a_sigmoid_above_a_half_and_a_signed_one_by_its_spread():
    codes = torch.tensor([[0.0, 0.4, 0.6, 2.0], [0.0, 0.0, 0.9, 0.1]])

    assert in_use(codes, False) == (
        ["never active", "active in 50%", "active in 100%", "active in 100%"],
        [0, 1, 2, 2],
        "are never active",
    )
    assert in_use(codes.clamp(max=1), True)[:2] == (
        ["never above 1/2", "never above 1/2", "above 1/2 in 100%", "above 1/2 in 50%"],
        [0, 0, 2, 1],
    )
    said, excite, idle = in_use(torch.tensor([[-1.0, 0.1], [1.0, 0.2]]), False)
    assert (said, excite) == (["sd 1.00", "sd 0.05, collapsed"], [2, 0])
    assert "standard deviation is below 0.1" in idle


def test_a_code_that_never_fires_is_still_a_picture(repos, tmp_path, monkeypatch, drawing):
    monkeypatch.setattr("genhub.figures.subject.Subject.codes", lambda self, images: torch.zeros(len(images), 3))

    picture = Image.open(figure("units", str(repos("stacked-ae")), str(tmp_path / "x.png")))

    assert drawing["named_rows"]["names"] == [f"unit {unit}, never active" for unit in range(3)]
    assert "3 of 3 units are never active" in drawing["named_rows"]["title"]
    assert (np.asarray(picture)[-12 - 3 * 58 : -12, -12 - 10 * 58 : -12] == 128).all()


@pytest.mark.parametrize(
    ("part", "total", "text"),
    [(0, 9, "0%"), (1, 1000, "under 1%"), (1, 3, "33%"), (999, 1000, "over 99%"), (7, 7, "100%")],
)
def test_a_share_is_not_rounded_to_none_or_all(part, total, text):
    assert percent(part, total) == text


def test_bins_reach_over_all_activations_and_zero():
    assert edges_of(torch.tensor([0.2, 0.3]), sigmoid=True) == pytest.approx([place / 10 for place in range(11)])
    assert edges_of(torch.tensor([2.0, 4.0]), sigmoid=False) == pytest.approx([place / 5 for place in range(21)])
    assert edges_of(torch.tensor([-1.0, 1.0]), sigmoid=False) == pytest.approx(
        [p / 10 for p in range(-10, 11)], abs=1e-9
    )
    assert edges_of(torch.zeros(3), sigmoid=False)[::20] == [0, 1]


def test_histograms_are_of_all_activations_and_of_the_means_of_units(repos, tmp_path, drawing):
    repo = repos("stacked-ae")
    codes = AutoPipeline.from_pretrained(repo).encode(held_out(repo).images / 255)

    figure("activations", str(repo), str(tmp_path / "x.png"))

    everything, means = drawing["histograms"]["parts"]
    torch.testing.assert_close(everything.values, codes)
    torch.testing.assert_close(means.values, codes.mean(0))
    assert [part.shares().sum().item() for part in (everything, means)] == pytest.approx([1, 1])
    assert f"{percent(int((codes == 0).sum()), codes.numel())} are exactly 0" in drawing["histograms"]["title"]


def test_a_sample_is_the_image_that_generate_makes_of_the_seed(repos, tmp_path, drawing):
    repo = repos("vae")
    generate(str(repo), count=9, seed=5, output=str(tmp_path / "g.png"), folder=str(tmp_path / "g"))

    figure("prior-samples", str(repo), str(tmp_path / "x.png"), seed=5, count=9)

    seen = drawing["named_rows"]
    assert [len(row) for row in seen["rows"]] == [7, 2]
    assert seen["names"] == ["0 to 6", "7 to 8"]
    assert "seed 5" in seen["title"]
    for place, image in enumerate(torch.cat(list(seen["rows"]))):
        wanted = np.asarray(Image.open(tmp_path / "g" / f"{place:05d}.png"))
        np.testing.assert_array_equal((image[0] * 255).round(), wanted)


def test_21_samples_stand_in_three_rows(repos, tmp_path, drawing):
    figure("prior-samples", str(repos("vae")), str(tmp_path / "x.png"))

    assert [len(row) for row in drawing["named_rows"]["rows"]] == [7, 7, 7]


def test_samples_of_classes_share_their_latents(repos, tmp_path, drawing):
    repo = repos("conditional-vae")
    pipeline = AutoPipeline.from_pretrained(repo)

    figure("prior-samples", str(repo), str(tmp_path / "x.png"), count=2)

    seen = drawing["named_rows"]
    assert (len(seen["rows"]), seen["names"][8]) == (10, "Bag")
    latents = [torch.randn(1, 10, generator=torch.Generator().manual_seed(seed_of("image", 0, n))) for n in (0, 1)]
    for label, row in enumerate(seen["rows"]):
        wanted = pipeline.decode(torch.cat(latents), label, output_type="pt").images
        torch.testing.assert_close(row, wanted)


def test_strips_lead_from_one_image_to_the_other_and_along_each_latent(repos, tmp_path, drawing):
    repo = repos("vae")
    pipeline, images = AutoPipeline.from_pretrained(repo), held_out(repo, 4)

    figure("interpolation", str(repo), str(tmp_path / "x.png"), count=2)

    seen = drawing["named_rows"]
    assert len(seen["rows"]) == 2 + 10
    for place, row in enumerate(seen["rows"][:2]):
        assert torch.equal(row[[0, 8]], images.images[2 * place : 2 * place + 2] / 255)
        ends = pipeline.reconstruct(images.images[2 * place : 2 * place + 2] / 255, output_type="pt").images
        torch.testing.assert_close(row[[1, 7]], ends)
        names = [images.class_names[label] for label in images.labels[2 * place : 2 * place + 2]]
        assert seen["names"][place] == " to ".join(dict.fromkeys(names))
    origin = pipeline.decode(torch.zeros(1, 10), output_type="pt").images[0]
    for axis, row in enumerate(seen["rows"][2:]):
        torch.testing.assert_close(row[4], origin)
        code = torch.zeros(1, 10)
        code[0, axis] = -1.6
        torch.testing.assert_close(row[0], pipeline.decode(code, output_type="pt").images[0])
        assert seen["names"][2 + axis].startswith(f"latent {axis}, sd ")
    written = [row for row in seen["captions"] if row]
    assert written[0] == ["image", "0.00", "0.17", "0.33", "0.50", "0.67", "0.83", "1.00", "image"]
    assert written[1][::2] == ["-1.6", "-0.8", "0.0", "0.8", "1.6"]


def test_pairs_of_a_conditional_model_are_of_one_class():
    images = data.Images(torch.zeros(6, 1, 2, 2, dtype=torch.uint8), torch.tensor([3, 1, 1, 3, 3, 2]))

    assert pairs_of(images, 5, alike=True) == [(0, 3), (1, 2)]
    assert pairs_of(images, 1, alike=True) == [(0, 3)]
    assert pairs_of(images, 2, alike=False) == [(0, 1), (2, 3)]
    assert pairs_of(images[:1], 2, alike=False) == []


def test_the_plane_is_that_of_the_pipeline_and_says_which_latents_it_is_of(repos, tmp_path, drawing):
    repo = repos("conv-vae")

    figure("manifold", str(repo), str(tmp_path / "x.png"), count=9)

    seen = drawing["plane"]
    wanted = AutoPipeline.from_pretrained(repo).manifold(9, 0.05, 0.95, (0, 1), output_type="pt").images
    torch.testing.assert_close(seen["images"], wanted)
    assert (seen["x_label"], seen["y_label"]) == ("quantile of latent 0", "quantile of latent 1")
    assert (seen["ticks"][0], seen["ticks"][-1]) == (
        (pytest.approx(0, abs=1e-6), "0.05"),
        (pytest.approx(1), "0.95"),
    )


def test_of_many_latents_the_plane_is_of_the_two_that_differ_most(repos, tmp_path, drawing):
    repo = repos("vae")
    means = AutoPipeline.from_pretrained(repo).encode(held_out(repo).images / 255)
    across, down = sorted(means.std(0).argsort()[-2:].tolist())

    figure("manifold", str(repo), str(tmp_path / "x.png"), count=4)

    assert drawing["plane"]["x_label"] == f"quantile of latent {across}"
    assert drawing["plane"]["y_label"] == f"quantile of latent {down}"
    assert "the other 8 latents are 0" in drawing["plane"]["title"]


def test_neighbours_are_those_of_the_search_and_the_bits_stand_beneath_them(repos, tmp_path, drawing):
    repo = repos("hashing-ae")
    config = data.DataConfig(source=source_of(repo), val_size=16)
    asked, known = data.load(config, "test"), data.load(config, "train")
    pipeline = AutoPipeline.from_pretrained(repo)
    hashes, of_known = pipeline.hash(asked.images[:3] / 255), pipeline.hash(known.images / 255)

    figure("neighbours", str(repo), str(tmp_path / "x.png"), count=3)

    seen = drawing["named_rows"]
    assert seen["names"] == [asked.class_names[label] for label in asked.labels[:3]]
    for place, (row, captions) in enumerate(zip(seen["rows"], seen["captions"], strict=True)):
        bits = [bin(int(hashes[place]) ^ int(other)).count("1") for other in of_known]
        assert torch.equal(row[0], asked.images[place] / 255)
        assert captions == ["asked", *(f"{n} bit{'s' * (n != 1)}" for n in sorted(bits)[:8])]
        found = [next(i for i in range(len(known)) if torch.equal(known.images[i] / 255, image)) for image in row[1:]]
        assert [bits[i] for i in found] == sorted(bits)[:8]


@pytest.mark.parametrize(("recipe", "what"), [("vae", "the same random numbers"), ("stacked-ae", "their copies")])
def test_each_picture_of_training_is_a_frame_with_its_step_and_the_last_one_stays(
    recipe, what, repos, tmp_path, monkeypatch
):
    titles, draw = [], plotting.titled
    monkeypatch.setattr(plotting, "titled", lambda body, title: titles.append(title) or draw(body, title))

    animation = Image.open(figure("progress", str(repos(recipe)), str(tmp_path / "x.gif")))

    assert [title.splitlines()[1] for title in titles] == [f"after step {step} of 3" for step in (1, 2, 3)]
    assert what in titles[0]
    durations = []
    for place in range(animation.n_frames):
        animation.seek(place)
        durations.append(animation.info["duration"])
    assert durations == [250, 250, 2500]
    drawn = np.asarray(Image.open(repos(recipe) / "training/samples/step-00000003.png"))
    height, width = drawn.shape
    np.testing.assert_array_equal(np.asarray(animation.convert("L"))[-12 - height : -12, 12 : 12 + width], drawn)


@pytest.mark.parametrize("count", [1, 2, FRAMES, FRAMES + 1, 1000])
def test_a_long_run_is_thinned_to_equal_steps_with_both_ends(count):
    kept = thinned(list(range(count)))

    assert len(kept) == min(count, FRAMES)
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert len({int(b - a) for a, b in zip(kept, kept[1:], strict=False)}) <= 2


def test_without_pictures_of_training_the_remedy_is_named(tiny_repo, tmp_path):
    with pytest.raises(ValueError, match=r"no pictures in training/samples.*`--training.sample_every N`"):
        figure("progress", str(tiny_repo), str(tmp_path / "x.gif"))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("reconstructions", "reconstruct"),
        ("denoising", "denoise"),
        ("codes", "encode"),
        ("units", "encode"),
        ("activations", "encode"),
        ("prior-samples", "interpolate"),
        ("interpolation", "traverse"),
        ("manifold", "manifold"),
        ("neighbours", "search"),
    ],
)
def test_a_diffusion_model_has_no_figures_of_autoencoders(name, method, tiny_repo, tmp_path):
    with pytest.raises(ValueError, match=rf"`repo` must hold a pipeline with `{method}`, such as .*, got \w*DDPM"):
        figure(name, str(tiny_repo), str(tmp_path / "x.png"))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("recipe", "name", "options", "message"),
    [
        ("stacked-ae", "denoising", {}, "`repo` must be trained on corrupted images, .*, got stacked-ae, whose"),
        ("stacked-ae", "neighbours", {}, "made of at most 62 sigmoids, got 30 units with `latent_activation` relu"),
        ("stacked-ae", "manifold", {}, "`repo` must hold a pipeline with `manifold`, such as VAEPipeline, got"),
        ("stacked-ae", "reconstructions", {"count": 0}, "`count` must be at least 1, got 0"),
        (
            "stacked-ae",
            "reconstructions",
            {"seed": 1},
            "`seed` must be unset: the figure reconstructions takes `count`",
        ),
        ("stacked-ae", "progress", {"count": 3}, "`count` must be unset: the figure progress takes no options, got 3"),
        ("stacked-ae", "codes", {"count": 4}, r"at least 5 codes of at least 2 numbers, got \(4, 30\)"),
        ("vae", "prior-samples", {"seed": -1}, "`seed` must be at least 0, got -1"),
        ("vae", "denoising", {}, "`repo` must hold a pipeline with `denoise`, such as AutoencoderPipeline, got VAE"),
        ("stacked-ae", "milestones", {}, "`repo` must hold a model that makes images, got AutoencoderPipeline"),
        ("vae", "manifold", {"count": 8}, "`count` must make a square, such as 4 or 400, got 8"),
        ("vae", "progress", {"output": "x.png"}, "`output` must be a .gif file, got x.png"),
    ],
)
def test_what_a_repository_lacks_is_said_in_one_line(recipe, name, options, message, repos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suffix = "gif" if name == "progress" else "png"

    with pytest.raises(ValueError, match=message):
        figure(name, str(repos(recipe)), **{"output": f"y.{suffix}", **options})

    assert not list(tmp_path.iterdir())


def test_points_in_space_are_no_pictures(tmp_path):
    repo = train("linear-ae-pca", tmp_path / "repo", overrides={"training.epochs": 1})

    with pytest.raises(ValueError, match="`repo` must be trained on pictures, got linear-ae-pca, trained on points"):
        figure("reconstructions", str(repo))


def test_without_scikit_learn_the_extra_is_named(repos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)

    with pytest.raises(ValueError, match=r"pip install genhub\[eval\]"):
        figure("codes", str(repos("stacked-ae")), str(tmp_path / "x.png"))


def test_a_model_of_binary_pixels_is_shown_binary_images(repos):
    subject = load_subject(str(repos("conv-vae")), "reconstruct")

    assert set(subject.images("val").images.unique().tolist()) == {0, 255}
