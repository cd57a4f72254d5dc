"""Figures of GANs, of tiny repositories that are saved here: what they show, and what is refused."""

import inspect
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from tiny import tiny_model

import genhub
from genhub import AutoPipeline, GANPipeline, figure, plotting
from genhub.commands.generate import generate
from genhub.evaluation.features import pinned_spaces
from genhub.figures.gan import POINTS, blocks_of, game_curves
from genhub.figures.training import geometric
from genhub.utils.randomness import seed_of

RECIPES = Path(genhub.__file__).parent / "recipes"
SIZED = {"sample_size": 28, "hidden_sizes": [8]}
GENERATORS = {  # the recipe's name -> the generator that its repository holds here
    "gan": ("DenseGenerator", "plain", {}),
    "gan-best": ("DenseGenerator", "plain", SIZED),  # of Fashion MNIST, as its images are
    "dcgan": ("DCGANGenerator", "colour", {}),
    "conditional-dcgan": ("DCGANGenerator", "conditional", {"num_class_embeds": 10}),
    "progressive-gan": ("ProgressiveGenerator", "margin", {}),
    "stylegan": ("StyleGANGenerator", "plain", {"block_out_channels": [4, 4, 8], "sample_size": 16}),
}
DRAWN = {  # what is drawn of each
    "gan": ["latent-interpolation", "arithmetic", "prior-samples", "game"],
    "gan-best": ["arithmetic"],
    "dcgan": ["latent-interpolation", "arithmetic", "prior-samples"],
    "conditional-dcgan": ["latent-interpolation", "arithmetic", "prior-samples"],
    "progressive-gan": ["latent-interpolation", "arithmetic", "growth"],
    "stylegan": ["latent-interpolation", "arithmetic", "prior-samples", "growth", "style-mixing", "game"],
}


def records(count=8, warnings=()):
    """What a run has logged: 100 images a step, numbers that rise by 1 from one record to the next."""
    keys = ["D(real)", "D(fake)", "spread", "real_spread", "grad_norm"]
    keys = [*(f"discriminator/{key}" for key in keys), "generator/grad_norm"]
    logged = [
        {"step": 10 * step, "images": 1000 * step} | {key: float(step + place) for place, key in enumerate(keys)}
        for step in range(1, count + 1)
    ]
    logged += [{"step": step, "warning": name, "message": "Try another."} for step, name in warnings]
    return "\n".join(map(json.dumps, sorted(logged, key=lambda record: record["step"]))) + "\n"


@pytest.fixture(scope="module")
def repos(tmp_path_factory, tiny_always):
    """Returns the tiny repository of a recipe, saved when it is first asked for. Read only."""
    folder = tmp_path_factory.mktemp("gans")

    def repo(name):
        if not (folder / name).is_dir():
            recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
            recipe["data"] = {"source": "sample" if name == "gan-best" else tiny_always["data.source"], "val_size": 16}
            model, variant, changes = GENERATORS[name]
            pipeline = GANPipeline(tiny_model(model, variant, **changes))
            genhub.save_repo(pipeline, folder / name, {"recipe.yaml": yaml.safe_dump(recipe)})
            (folder / name / "training").mkdir()
            log = records(warnings=[(35, "mode collapse"), (35, "oscillation")])
            (folder / name / "training/metrics.jsonl").write_text(log)
        return folder / name

    return repo


@pytest.fixture
def drawing(monkeypatch):
    """What the functions that draw are about to be called with, by their names."""
    seen = {}
    for name in ("named_rows", "chart", "chart_png"):
        draw = getattr(plotting, name)

        def spy(*args, name=name, draw=draw, **kwargs):
            seen[name] = inspect.signature(draw).bind(*args, **kwargs).arguments
            return draw(*args, **kwargs)

        monkeypatch.setattr(plotting, name, spy)
    return seen


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr("genhub.figures.gan.LOOKED_AT", 40)


def latents_of(pipeline, *places, seed=0):
    length = pipeline.generator.config.latent_channels
    return torch.cat(
        [torch.randn(1, length, generator=torch.Generator().manual_seed(seed_of("image", seed, n))) for n in places]
    )


def images_of(pipeline, latents, **options):
    return pipeline(latents=latents, output_type="pt", **options).images


def noise_of(seed=0):
    return torch.Generator().manual_seed(seed_of("figure", seed))


@pytest.mark.parametrize(("recipe", "name"), [(recipe, name) for recipe in DRAWN for name in DRAWN[recipe]])
def test_a_figure_is_a_picture_and_the_same_one_every_time(recipe, name, repos, tmp_path, drawing):
    files = [tmp_path / "1.png", tmp_path / "2.png"]

    for file in files:
        assert figure(name, str(repos(recipe)), str(file)) == file

    assert Image.open(files[0]).format == "PNG"
    assert files[0].read_bytes() == files[1].read_bytes()
    assert name == "game" or "seed 0, not selected" in drawing["named_rows"]["title"]


@pytest.mark.parametrize("name", ["latent-interpolation", "arithmetic", "style-mixing", "growth"])
def test_another_seed_is_another_picture(name, repos, tmp_path, drawing):
    drawn = [figure(name, str(repos("stylegan")), str(tmp_path / "x.png"), seed=seed).read_bytes() for seed in (0, 7)]

    assert drawn[0] != drawn[1]
    assert "seed 7, not selected" in drawing["named_rows"]["title"]


def test_samples_are_the_images_that_generate_makes_of_the_seed(repos, tmp_path, drawing):
    generate(str(repos("gan")), count=3, seed=5, output=str(tmp_path / "g.png"), folder=str(tmp_path / "g"))

    figure("prior-samples", str(repos("gan")), str(tmp_path / "x.png"), seed=5, count=3)

    for place, image in enumerate(drawing["named_rows"]["rows"][0]):
        wanted = Image.open(tmp_path / "g" / f"{place:05d}.png")
        assert (image[0] * 255).round().flatten().tolist() == list(wanted.getdata())


def test_without_labels_all_classes_are_made_in_turn_and_without_a_count_one_image_of_each_label(repos, tmp_path):
    repo, labels = str(repos("conditional-dcgan")), [place % 10 for place in range(12)]

    in_turn = generate(repo, count=12, output=str(tmp_path / "in_turn.png"))
    asked = generate(repo, class_labels=labels, output=str(tmp_path / "asked.png"))

    assert asked.read_bytes() == in_turn.read_bytes()


def test_ways_lead_from_latents_to_latents_along_the_arc_and_the_line(repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos("dcgan"))
    latents = latents_of(pipeline, 0, 1, 2, 3)

    figure("latent-interpolation", str(repos("dcgan")), str(tmp_path / "x.png"), count=2)

    seen = drawing["named_rows"]
    assert seen["names"] == ["0 to 1, spherical", "0 to 1, linear", "2 to 3, spherical", "2 to 3, linear"]
    assert seen["captions"][-1][::4] == ["0", "0.5", "1"]
    for pair in (0, 1):
        ends = latents[2 * pair : 2 * pair + 2]
        arc, line = seen["rows"][2 * pair : 2 * pair + 2]
        for row in (arc, line):
            torch.testing.assert_close(row[[0, -1]], images_of(pipeline, ends))
        torch.testing.assert_close(line[4:5], images_of(pipeline, ends.mean(0, keepdim=True)))
        angle = torch.nn.functional.cosine_similarity(*ends.split(1)).acos()
        middle = ends.mean(0, keepdim=True) / torch.cos(angle / 2)  # sin(a / 2) / sin(a) = 1 / (2 cos(a / 2))
        torch.testing.assert_close(arc[4:5], images_of(pipeline, middle))


def test_each_way_of_a_conditional_generator_is_of_one_class(repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos("conditional-dcgan"))

    figure("latent-interpolation", str(repos("conditional-dcgan")), str(tmp_path / "x.png"))

    seen = drawing["named_rows"]
    assert len(seen["rows"]) == 20
    assert seen["names"][16:18] == ["Bag, spherical", "Bag, linear"]
    for label in range(10):
        wanted = images_of(pipeline, latents_of(pipeline, 2 * label, 2 * label + 1), class_labels=label)
        torch.testing.assert_close(seen["rows"][2 * label][[0, -1]], wanted)


def test_ways_by_styles_share_their_ends_with_the_others_but_not_their_middles(repos, tmp_path, drawing):
    figure("latent-interpolation", str(repos("stylegan")), str(tmp_path / "x.png"), count=1)

    arc, line, style = drawing["named_rows"]["rows"]
    torch.testing.assert_close(style[[0, -1]], arc[[0, -1]])
    torch.testing.assert_close(line[[0, -1]], arc[[0, -1]])
    assert (style[4] - arc[4]).abs().max() > 1e-3
    assert "the network normalises latents" in drawing["named_rows"]["title"]


@pytest.mark.parametrize("recipe", ["gan", "conditional-dcgan"])
def test_a_sum_is_that_of_the_means_of_the_first_latents(recipe, repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos(recipe))
    asked = {"class_labels": 0} if recipe == "conditional-dcgan" else {}
    latents = latents_of(pipeline, *range(9))
    means = latents.view(3, 3, -1).mean(1)

    figure("arithmetic", str(repos(recipe)), str(tmp_path / "x.png"))

    rows = drawing["named_rows"]["rows"]
    assert drawing["named_rows"]["names"] == ["0 to 2", "- 3 to 5", "+ 6 to 8"]
    torch.testing.assert_close(torch.cat([row[:3] for row in rows]), images_of(pipeline, latents, **asked))
    torch.testing.assert_close(torch.stack([row[3] for row in rows]), images_of(pipeline, means, **asked))
    wanted = images_of(pipeline, (means[0] - means[1] + means[2])[None], **asked)
    torch.testing.assert_close(rows[1][6:7], wanted)
    differences = (torch.cat([row[5:] for row in rows]) - wanted).abs().amax((1, 2, 3))
    assert (differences > 1e-4).tolist() == [place != 4 for place in range(9)]
    assert ("of class T - shirt / top" in drawing["named_rows"]["title"]) == bool(asked)
    assert "the first ones, whatever they show" in drawing["named_rows"]["title"]


def test_terms_of_fashion_mnist_are_those_that_the_classifier_is_surest_of(repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos("gan-best"))
    images = images_of(pipeline, latents_of(pipeline, *range(40)))
    space = next(pinned_spaces())
    chances = space.probabilities(space((images * 255).round().to(torch.uint8)))

    figure("arithmetic", str(repos("gan-best")), str(tmp_path / "x.png"))

    seen = drawing["named_rows"]
    assert seen["names"] == ["Dress", "- T - shirt / top", "+ Pullover"]
    for row, texts, label in zip(seen["rows"], seen["captions"], (3, 0, 2), strict=True):
        surest = chances[:, label].topk(3)
        torch.testing.assert_close(row[:3], images[surest.indices])
        assert texts[:4] == [*(f"{chance:.2f}" for chance in surest.values), "mean"]
    assert "the 3 of 40 that the classifier of fmnist-eval-1 is surest of" in seen["title"]


def test_mixtures_take_the_styles_of_the_column_in_the_layers_named(repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos("stylegan"))
    generator = pipeline.generator
    noise = torch.randn(1, generator.num_noise, generator=noise_of())
    with torch.no_grad():
        styles = generator.map(latents_of(pipeline, *range(5)))

    def image(own, other, start, stop):
        taken = styles[own].repeat(1, 6, 1)
        taken[:, start:stop] = styles[other]
        with torch.no_grad():
            return ((generator.synthesize(taken, noise)[0] + 1) / 2).clamp(0, 1)

    figure("style-mixing", str(repos("stylegan")), str(tmp_path / "x.png"), count=2)

    seen = drawing["named_rows"]
    assert seen["names"][::4] == ["coarse, 4 x 4", "middle, 4 x 4", "fine, 8 x 8 to 16 x 16"]
    for block, (start, stop) in enumerate([(0, 1), (1, 2), (2, 6)]):
        head, *rows = seen["rows"][4 * block : 4 * block + 4]
        assert (head[0] == 128 / 255).all()
        for column in (0, 1):
            torch.testing.assert_close(head[1 + column], image([3 + column], [3 + column], 0, 6))
        for row, images in enumerate(rows):
            torch.testing.assert_close(images[0], image([row], [row], 0, 6))
            for column in (0, 1):
                torch.testing.assert_close(images[1 + column], image([row], [3 + column], start, stop))


@pytest.mark.parametrize("layers", range(2, 20, 2))
def test_coarse_middle_and_fine_layers_are_all_layers_once(layers):
    blocks = blocks_of(layers)

    assert [layer for start, stop in blocks.values() for layer in range(start, stop)] == list(range(layers))
    assert list(blocks) == ["coarse", "middle", "fine"][: len(blocks)]


def test_18_layers_are_parted_as_in_the_paper():
    assert blocks_of(18) == {"coarse": (0, 4), "middle": (4, 8), "fine": (8, 18)}


@pytest.mark.parametrize("recipe", ["progressive-gan", "stylegan"])
def test_levels_are_rows_and_half_faded_in_is_half_of_both(recipe, repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos(recipe))
    sources = [torch.Generator().manual_seed(seed_of("image", 0, place)) for place in range(5)]

    figure("growth", str(repos(recipe)), str(tmp_path / "x.png"), count=5)

    seen = drawing["named_rows"]
    rows, levels = seen["rows"], len(pipeline.generator.blocks)
    sizes = [f"{4 * 2**level} x {4 * 2**level}" for level in range(levels)]
    assert seen["names"] == [sizes[0], *(name for size in sizes[1:] for name in (f"{size}, half faded in", size))]
    torch.testing.assert_close(rows[-1], pipeline(5, sources, output_type="pt").images)
    for level in range(1, levels):
        before, half, after = rows[2 * level - 2 : 2 * level + 1]
        inside = (before > 0) & (before < 1) & (after > 0) & (after < 1)  # those outside were cut
        assert inside.any()
        torch.testing.assert_close(half[inside], (before + after)[inside] / 2)
    assert ("of 8 x 8 pixels the middle 6 x 8 are shown" in seen["title"]) == (recipe == "progressive-gan")


def test_growth_leaves_the_repository_as_it_is(repos, tmp_path):
    repo = repos("progressive-gan")
    before = {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()}

    figure("growth", str(repo), str(tmp_path / "x.png"))

    assert {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()} == before


def test_the_game_is_drawn_as_it_was_logged():
    panels, title, warnings = game_curves("repo", records(4, [(15, "mode collapse"), (99, "mode collapse")]))

    assert [[line.name for line in panel.lines] for panel in panels] == [
        ["real images", "fakes"],
        ["real images", "fakes"],
        ["discriminator", "generator"],
    ]
    assert panels[0].lines[0].x == [1, 2, 3, 4]
    assert [[line.y[0] for line in panel.lines] for panel in panels] == [[1, 2], [4, 3], [5, 6]]
    assert [panel.log_y for panel in panels] == [False, False, True]
    assert warnings == {"mode collapse": [1.5, 4]}  # between two records, and after the last one
    assert title == "The game while training; dashed: warnings"


def test_a_long_game_is_drawn_in_means():
    panels, title, _ = game_curves("repo", records(2 * POINTS + 1))

    line = panels[0].lines[0]
    assert len(line.x) <= POINTS
    assert (line.x[:2], line.y[:2]) == ([2, 5], [2, 5])
    assert title == "The game while training; each point is the mean of 3 records"


def test_steps_at_which_the_generator_rests_are_left_out():
    logged = [json.loads(line) for line in records(4).splitlines()]
    del logged[1]["generator/grad_norm"]

    panels, _, _ = game_curves("repo", "\n".join(map(json.dumps, logged)))

    assert panels[2].lines[1].x == [1, 3, 4]


def test_warnings_stand_in_all_panels_and_in_one_legend(repos, tmp_path, drawing):
    figure("game", str(repos("gan")), str(tmp_path / "x.png"))

    axes = drawing["chart_png"]["figure"].axes
    for one in axes:
        marks = [line for line in one.get_lines() if line.get_label() in ("mode collapse", "oscillation")]
        assert [line.get_xdata()[0] for line in marks] == [3.5, 3.5]
    names = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert names == ["real images", "fakes", "mode collapse", "oscillation"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "repo has no training/metrics.jsonl: it stays where the model was trained"),
        ('{"step": 1, "loss": 2.0}\n', r"repo has no record of discriminator/D\(real\) in .*: only adversarial games"),
    ],
)
def test_without_a_log_of_a_game_it_is_said(text, message):
    with pytest.raises(ValueError, match=message):
        game_curves("repo", text)


@pytest.mark.parametrize("count", [3, 8, 20])
@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 7)])
def test_the_first_row_of_a_grid_is_what_was_laid_out_in_it(count, shape):
    images = torch.randint(256, (count, *shape), generator=torch.Generator().manual_seed(0)) / 255

    row = plotting.first_row(plotting.grid(images, columns=8), count)

    torch.testing.assert_close(row, images[:8])


@pytest.mark.parametrize(("count", "most"), [(1, 8), (5, 8), (50, 8), (50, 1), (1000, 4)])
def test_milestones_lie_ever_farther_apart_between_both_ends(count, most):
    places = geometric(list(range(count)), most)

    assert places[-1] == count - 1
    assert len(places) == 1 or places[0] == 0
    assert len(places) <= most
    assert all(b > a for a, b in zip(places, places[1:], strict=False))
    assert (count, most) != (1000, 4) or places == [0, 9, 99, 999]


def test_milestones_are_what_the_run_drew_and_when(repos, tmp_path, drawing):
    repo = shutil.copytree(repos("dcgan"), tmp_path / "repo")
    (repo / "training/samples").mkdir()
    drawn = torch.randint(256, (3, 64, 3, 5, 5), generator=torch.Generator().manual_seed(0)) / 255
    for step, images in zip((10, 25, 80), drawn, strict=True):
        plotting.grid(images, columns=8).save(repo / f"training/samples/step-{step:08d}.png")

    figure("milestones", str(repo), str(tmp_path / "x.png"))

    seen = drawing["named_rows"]
    assert seen["names"] == ["1,000 images", "2,500 images", "8,000 images"]
    torch.testing.assert_close(torch.stack(seen["rows"]), drawn[:, :8])


@pytest.mark.parametrize(
    ("recipe", "name", "options", "message"),
    [
        ("stylegan", "milestones", {}, r"no pictures in training/samples.*`--training.sample_every N`"),
        ("dcgan", "style-mixing", {}, "a generator with styles, such as StyleGANGenerator, got DCGANGenerator"),
        ("progressive-gan", "style-mixing", {}, "a generator with styles, .*, got ProgressiveGenerator"),
        ("dcgan", "growth", {}, "a generator that grows, such as ProgressiveGenerator, got DCGANGenerator"),
        ("dcgan", "arithmetic", {"count": 3}, "`count` must be unset: the figure arithmetic takes `seed`, got 3"),
        ("dcgan", "game", {"seed": 3}, "`seed` must be unset: the figure game takes no options, got 3"),
        ("dcgan", "growth", {"count": 0}, "`count` must be at least 1, got 0"),
        ("dcgan", "manifold", {}, "`repo` must hold a pipeline with `manifold`, such as VAEPipeline, got GANPipeline"),
    ],
)
def test_what_a_repository_lacks_is_said_in_one_line(recipe, name, options, message, repos, tmp_path):
    with pytest.raises(ValueError, match=message):
        figure(name, str(repos(recipe)), str(tmp_path / "x.png"), **options)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("latent-interpolation", "arithmetic"),
        ("arithmetic", "arithmetic"),
        ("style-mixing", "mix"),
        ("growth", "mix"),
        ("prior-samples", "interpolate"),
    ],
)
def test_a_diffusion_model_has_no_figures_of_gans(name, method, tiny_repo, tmp_path):
    with pytest.raises(ValueError, match=rf"`repo` must hold a pipeline with `{method}`, such as .*GANPipeline, got"):
        figure(name, str(tiny_repo), str(tmp_path / "x.png"))
