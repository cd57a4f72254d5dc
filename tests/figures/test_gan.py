"""Latents and styles of tiny generators: what is drawn, and what is refused."""

import pytest
import torch

from genhub import AutoPipeline, figure
from genhub.evaluation.features import pinned_spaces
from genhub.figures.gan import split_layers
from genhub.utils.randomness import keyed_generator

MODES = ("spherical", "linear", "pixels")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr("genhub.figures.gan.EXAMINED", 40)


def latents_of(pipeline, *indices):
    length = pipeline.generator.config.latent_channels
    return torch.cat([torch.randn(1, length, generator=keyed_generator("image", 0, index)) for index in indices])


def images_of(pipeline, latents, **options):
    return pipeline(latents=latents, output_type="pt", **options).images


def test_interpolations_lead_from_latents_to_latents_along_the_arc_and_the_line(repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos("dcgan"))
    latents = latents_of(pipeline, 0, 1, 2, 3)

    figure("latent-interpolation", str(repos("dcgan")), str(tmp_path / "x.png"), count=2)

    drawn = drawing["image_rows"]
    assert drawn["names"] == [f"{pair}, {mode}" for pair in ("0 to 1", "2 to 3") for mode in MODES]
    assert drawn["captions"][-1][::4] == ["0", "0.5", "1"]
    for pair in (0, 1):
        ends = latents[2 * pair : 2 * pair + 2]
        arc, line, mixed = drawn["rows"][3 * pair : 3 * pair + 3]
        for row in (arc, line, mixed):
            torch.testing.assert_close(row[[0, -1]], images_of(pipeline, ends))
        torch.testing.assert_close(mixed[4], images_of(pipeline, ends).mean(0))
        torch.testing.assert_close(line[4:5], images_of(pipeline, ends.mean(0, keepdim=True)))
        angle = torch.nn.functional.cosine_similarity(*ends.split(1)).acos()
        middle = ends.mean(0, keepdim=True) / torch.cos(angle / 2)  # sin(a / 2) / sin(a) = 1 / (2 cos(a / 2))
        torch.testing.assert_close(arc[4:5], images_of(pipeline, middle))


def test_each_interpolation_of_a_conditional_generator_is_of_one_class(repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos("conditional-dcgan"))

    figure("latent-interpolation", str(repos("conditional-dcgan")), str(tmp_path / "x.png"))

    drawn = drawing["image_rows"]
    assert len(drawn["rows"]) == 30
    assert drawn["names"][24:27] == ["Bag, spherical", "Bag, linear", "Bag, pixels"]
    for label in range(10):
        expected = images_of(pipeline, latents_of(pipeline, 2 * label, 2 * label + 1), class_labels=label)
        torch.testing.assert_close(drawn["rows"][3 * label][[0, -1]], expected)


def test_interpolations_by_style_share_their_ends_with_the_others_but_not_their_middles(repos, tmp_path, drawing):
    figure("latent-interpolation", str(repos("stylegan")), str(tmp_path / "x.png"), count=1)

    arc, line, style, _ = drawing["image_rows"]["rows"]
    torch.testing.assert_close(style[[0, -1]], arc[[0, -1]])
    torch.testing.assert_close(line[[0, -1]], arc[[0, -1]])
    assert (style[4] - arc[4]).abs().max() > 1e-3
    assert "the network normalises latents" in drawing["image_rows"]["title"]


@pytest.mark.parametrize("recipe", ["gan", "conditional-dcgan"])
def test_the_result_is_that_of_the_means_of_the_first_latents(recipe, repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos(recipe))
    label = {"class_labels": 0} if recipe == "conditional-dcgan" else {}
    latents = latents_of(pipeline, *range(9))
    means = latents.view(3, 3, -1).mean(1)

    figure("arithmetic", str(repos(recipe)), str(tmp_path / "x.png"))

    rows = drawing["image_rows"]["rows"]
    assert drawing["image_rows"]["names"] == ["0 to 2", "- 3 to 5", "+ 6 to 8"]
    torch.testing.assert_close(torch.cat([row[:3] for row in rows]), images_of(pipeline, latents, **label))
    torch.testing.assert_close(torch.stack([row[3] for row in rows]), images_of(pipeline, means, **label))
    expected = images_of(pipeline, (means[0] - means[1] + means[2])[None], **label)
    torch.testing.assert_close(rows[1][6:7], expected)
    differences = (torch.cat([row[5:] for row in rows]) - expected).abs().amax((1, 2, 3))
    assert (differences > 1e-4).tolist() == [index != 4 for index in range(9)]
    assert ("of class T - shirt / top" in drawing["image_rows"]["title"]) == bool(label)
    assert "latents are the first ones of seed 0, uncurated" in drawing["image_rows"]["title"]


def test_operands_of_fashion_mnist_are_those_that_the_classifier_is_surest_of(repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos("gan-best"))
    images = images_of(pipeline, latents_of(pipeline, *range(40)))
    space = next(pinned_spaces())
    probabilities = space.probabilities(space((images * 255).round().to(torch.uint8)))

    figure("arithmetic", str(repos("gan-best")), str(tmp_path / "x.png"))

    drawn = drawing["image_rows"]
    assert drawn["names"] == ["Dress", "- T - shirt / top", "+ Pullover"]
    for row, captions, label in zip(drawn["rows"], drawn["captions"], (3, 0, 2), strict=True):
        surest = probabilities[:, label].topk(3)
        torch.testing.assert_close(row[:3], images[surest.indices])
        assert captions[:4] == [*(f"{probability:.2f}" for probability in surest.values), "mean"]
    assert "the 3 of 40 that the classifier of fmnist-eval-1 is surest of" in drawn["title"]


def test_mixtures_take_the_styles_of_the_column_in_the_layers_named(repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos("stylegan"))
    generator = pipeline.generator
    noise = torch.randn(1, generator.noise_size, generator=keyed_generator("figure", 0))
    with torch.no_grad():
        styles = generator.map(latents_of(pipeline, *range(5)))

    def image(own, other, start, stop):
        taken = styles[own].repeat(1, 6, 1)
        taken[:, start:stop] = styles[other]
        with torch.no_grad():
            return ((generator.synthesize(taken, noise)[0] + 1) / 2).clamp(0, 1)

    figure("style-mixing", str(repos("stylegan")), str(tmp_path / "x.png"), count=2)

    drawn = drawing["image_rows"]
    assert drawn["names"][::4] == ["coarse, 4 x 4", "middle, 4 x 4", "fine, 8 x 8 to 16 x 16"]
    for block, (start, stop) in enumerate([(0, 1), (1, 2), (2, 6)]):
        head, *rows = drawn["rows"][4 * block : 4 * block + 4]
        assert (head[0] == 128 / 255).all()
        for column in (0, 1):
            torch.testing.assert_close(head[1 + column], image([3 + column], [3 + column], 0, 6))
        for row, images in enumerate(rows):
            torch.testing.assert_close(images[0], image([row], [row], 0, 6))
            for column in (0, 1):
                torch.testing.assert_close(images[1 + column], image([row], [3 + column], start, stop))


@pytest.mark.parametrize("layers", range(2, 20, 2))
def test_coarse_middle_and_fine_layers_are_all_layers_once(layers):
    ranges = split_layers(layers)

    assert [layer for start, stop in ranges.values() for layer in range(start, stop)] == list(range(layers))
    assert list(ranges) == ["coarse", "middle", "fine"][: len(ranges)]


def test_18_layers_are_split_as_in_the_paper():
    assert split_layers(18) == {"coarse": (0, 4), "middle": (4, 8), "fine": (8, 18)}


@pytest.mark.parametrize("recipe", ["progressive-gan", "stylegan"])
def test_levels_are_rows_and_half_faded_in_is_half_of_both(recipe, repos, tmp_path, drawing):
    pipeline = AutoPipeline.from_pretrained(repos(recipe))
    sources = [keyed_generator("image", 0, index) for index in range(5)]

    figure("growth", str(repos(recipe)), str(tmp_path / "x.png"), count=5)

    drawn = drawing["image_rows"]
    rows, levels = drawn["rows"], len(pipeline.generator.blocks)
    sizes = [f"{4 * 2**level} x {4 * 2**level}" for level in range(levels)]
    assert drawn["names"] == [sizes[0], *(name for size in sizes[1:] for name in (f"{size}, half faded in", size))]
    torch.testing.assert_close(rows[-1], pipeline(5, sources, output_type="pt").images)
    for level in range(1, levels):
        before, half, after = rows[2 * level - 2 : 2 * level + 1]
        inside = (before > 0) & (before < 1) & (after > 0) & (after < 1)  # those outside were cut
        assert inside.any()
        torch.testing.assert_close(half[inside], (before + after)[inside] / 2)
    assert ("of 8 x 8 pixels the middle 6 x 8 are shown" in drawn["title"]) == (recipe == "progressive-gan")


def test_growth_leaves_the_repository_as_it_is(repos, tmp_path):
    repo = repos("progressive-gan")
    before = {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()}

    figure("growth", str(repo), str(tmp_path / "x.png"))

    assert {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()} == before


def test_noise_of_one_level_changes_images_as_far_as_its_scale_reaches(repos, tmp_path, drawing, monkeypatch):
    load = AutoPipeline.from_pretrained

    def load_noisy(folder):
        pipeline = load(folder)
        with torch.no_grad():
            for layer in pipeline.generator.blocks[1]:
                layer.noise_scale.fill_(1.0)  # those of the other levels are 0
        return pipeline

    monkeypatch.setattr(AutoPipeline, "from_pretrained", load_noisy)

    figure("noise-inputs", str(repos("stylegan")), str(tmp_path / "x.png"), count=1)

    drawn = drawing["image_rows"]
    names, rows = drawn["names"], dict(zip(("all", *(4, 8, 16)), drawn["rows"], strict=True))
    assert [name.rpartition(", sd")[0] for name in names] == [
        *("latent 0, all levels", "latent 0, 4 x 4 only", "latent 0, 8 x 8 only", "latent 0, 16 x 16 only")
    ]
    pipeline = load_noisy(repos("stylegan"))
    quiet = pipeline._synthesize(pipeline._styles(latents_of(pipeline, 0), 1.0), None).detach()
    for row in rows.values():
        torch.testing.assert_close(row[:1], quiet / 2 + 0.5)
    torch.testing.assert_close(rows[8], rows["all"])
    assert (rows[8][1:7] - rows[8][:1]).abs().amax((1, 2, 3)).min() > 1e-3
    for size in (4, 16):
        torch.testing.assert_close(rows[size][:7], rows[size][:1].expand(7, -1, -1, -1))
        assert (rows[size][7] == 0).all()
    assert rows[8][7].max() == 1
