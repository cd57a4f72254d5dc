"""Codes and reconstructions of tiny repositories: what is drawn, and what is refused."""

import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from genhub import AutoPipeline, data, figure, recipes
from genhub.figures.autoencoders import bin_edges, describe_units, percent, squared_error
from genhub.figures.subject import load_subject


@pytest.mark.parametrize("recipe", ["stacked-ae", "vae", "conditional-vae"])
def test_reconstructions_stand_below_their_originals_with_their_error(recipe, repos, tmp_path, drawing, held_out):
    images = held_out[:12]
    labels = {"class_labels": images.labels} if recipe == "conditional-vae" else {}
    pipeline = AutoPipeline.from_pretrained(repos(recipe))
    copies = pipeline.reconstruct(images.images / 255, output_type="pt", **labels).images

    figure("reconstructions", str(repos(recipe)), str(tmp_path / "x.png"), count=12)

    drawn = drawing["image_rows"]
    assert drawn["names"] == ["original", "reconstruction"] * 2
    assert [len(row) for row in drawn["rows"]] == [10, 10, 2, 2]
    torch.testing.assert_close(torch.cat([drawn["rows"][1], drawn["rows"][3]]), copies)
    assert f"{(copies - images.images / 255).square().mean():.4f}" in drawn["title"]
    assert "the first 12 validation images" in drawn["title"]


def test_without_validation_images_those_of_the_test_are_shown(repos, tmp_path, drawing):
    repo = shutil.copytree(repos("stacked-ae"), tmp_path / "repo")
    recipe = yaml.safe_load((repo / "recipe.yaml").read_text())
    recipe["data"]["val_size"] = 0
    (repo / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    figure("reconstructions", str(repo), count=3)

    test = data.load(data.DataConfig(source=recipes.load(repo).data.source, val_size=0), "test")
    assert torch.equal(drawing["image_rows"]["rows"][0], test.images[:3] / 255)
    assert "the first 3 test images" in drawing["image_rows"]["title"]


def test_the_error_is_that_of_what_is_shown():
    assert squared_error(torch.tensor([-1.0, 0.5, 3.0]), torch.tensor([0.0, 0.0, 1.0])) == pytest.approx(0.25 / 3)


def test_lost_pixels_are_black_and_the_others_twice_as_bright(repos, tmp_path, drawing):
    figure("denoising", str(repos("denoising-ae")), str(tmp_path / "x.png"), count=8)

    clean, corrupted, denoised = drawing["image_rows"]["rows"]
    assert drawing["image_rows"]["names"] == ["clean", "corrupted", "denoised"]
    kept = corrupted > 1e-6
    torch.testing.assert_close(corrupted[kept], 2 * clean[kept])
    assert 0.4 < kept[clean > 0].double().mean() < 0.6
    assert denoised.shape == clean.shape
    assert "0.5, the others divided by 0.5; seed 0" in drawing["image_rows"]["title"]
    assert f"{(denoised - clean).square().mean():.4f}" in drawing["image_rows"]["title"]


def test_noise_is_as_strong_as_in_training_and_a_function_of_the_seed(repos, tmp_path, drawing):
    noises = []
    for seed in (0, 0, 1):
        figure("denoising", str(repos("denoising-gaussian-ae")), str(tmp_path / "x.png"), count=10, seed=seed)
        clean, corrupted, _ = drawing["image_rows"]["rows"]
        noises.append(corrupted - clean)

    assert torch.equal(noises[0], noises[1])
    assert not torch.equal(noises[0], noises[2])
    assert noises[0].std().item() == pytest.approx(0.2, rel=0.05)


def test_codes_are_drawn_with_their_images_and_classes(repos, tmp_path, drawing, held_out):
    figure("codes", str(repos("stacked-ae")), str(tmp_path / "x.png"), count=12)

    drawn = drawing["image_map"]
    assert torch.equal(drawn["images"], held_out.images[:12] / 255)
    assert torch.equal(drawn["labels"], held_out.labels[:12])
    assert drawn["names"][1] == "Trouser"
    assert drawn["points"].shape == (12, 2)
    assert "t-SNE of the 30-dimensional codes of 12 validation images, coloured by class" in drawn["title"]


def test_codes_of_two_numbers_are_drawn_as_they_are(repos, tmp_path, drawing, held_out):
    figure("codes", str(repos("conv-vae")), str(tmp_path / "x.png"))

    binary = (held_out.images > 127).float()
    codes = AutoPipeline.from_pretrained(repos("conv-vae")).encode(binary)
    torch.testing.assert_close(drawing["image_map"]["points"], codes)
    assert "t-SNE" not in drawing["image_map"]["title"]


def test_images_stand_in_the_order_of_a_units_activations(repos, tmp_path, drawing, held_out):
    images = held_out.images / 255
    codes = AutoPipeline.from_pretrained(repos("hashing-ae")).encode(images)

    figure("units", str(repos("hashing-ae")), str(tmp_path / "x.png"))

    drawn = drawing["image_rows"]
    assert len(drawn["rows"]) == 16
    for unit, row in enumerate(drawn["rows"]):
        active = int((codes[:, unit] > 0.5).sum())
        assert len(row) == min(10, active)
        assert torch.equal(row, images[codes[:, unit].argsort(descending=True, stable=True)[: len(row)]])
        assert (f"unit {unit}, never above 1/2" == drawn["names"][unit]) == (active == 0)


def test_a_unit_is_active_above_zero_a_sigmoid_above_a_half_and_a_signed_one_by_its_deviation():
    codes = torch.tensor([[0.0, 0.4, 0.6, 2.0], [0.0, 0.0, 0.9, 0.1]])

    assert describe_units(codes, False) == (
        ["never active", "active in 50%", "active in 100%", "active in 100%"],
        [0, 1, 2, 2],
        "are never active",
    )
    assert describe_units(codes.clamp(max=1), True)[:2] == (
        ["never above 1/2", "never above 1/2", "above 1/2 in 100%", "above 1/2 in 50%"],
        [0, 0, 2, 1],
    )
    descriptions, active, inactive = describe_units(torch.tensor([[-1.0, 0.1], [1.0, 0.2]]), False)
    assert (descriptions, active) == (["sd 1.00", "sd 0.05, collapsed"], [2, 0])
    assert "standard deviation is below 0.1" in inactive


def test_a_code_that_is_never_active_is_still_a_picture(repos, tmp_path, monkeypatch, drawing):
    monkeypatch.setattr("genhub.figures.subject.Subject.codes", lambda self, images: torch.zeros(len(images), 3))

    picture = Image.open(figure("units", str(repos("stacked-ae")), str(tmp_path / "x.png")))

    assert drawing["image_rows"]["names"] == [f"unit {unit}, never active" for unit in range(3)]
    assert "3 of 3 units are never active" in drawing["image_rows"]["title"]
    assert (np.asarray(picture)[-12 - 3 * 58 : -12, -12 - 10 * 58 : -12] == 128).all()


@pytest.mark.parametrize(
    ("count", "total", "text"),
    [(0, 9, "0%"), (1, 1000, "under 1%"), (1, 3, "33%"), (999, 1000, "over 99%"), (7, 7, "100%")],
)
def test_a_share_is_not_rounded_to_none_or_all(count, total, text):
    assert percent(count, total) == text


def test_bins_reach_over_all_activations_and_zero():
    tenths = [number / 10 for number in range(11)]

    assert bin_edges(torch.tensor([0.2, 0.3]), is_sigmoid=True) == pytest.approx(tenths)
    assert bin_edges(torch.tensor([2.0, 5.0]), is_sigmoid=False)[::2] == pytest.approx([5 * x for x in tenths])
    assert bin_edges(torch.tensor([-1.0, 1.0]), is_sigmoid=False)[::2] == pytest.approx(
        [2 * x - 1 for x in tenths], abs=1e-9
    )
    assert bin_edges(torch.zeros(3), is_sigmoid=False)[::20] == [0, 1]


def test_histograms_are_of_all_activations_and_of_the_means_of_units(repos, tmp_path, drawing, held_out):
    codes = AutoPipeline.from_pretrained(repos("stacked-ae")).encode(held_out.images / 255)

    figure("activations", str(repos("stacked-ae")), str(tmp_path / "x.png"))

    everything, means = drawing["histograms"]["parts"]
    torch.testing.assert_close(everything.values, codes)
    torch.testing.assert_close(means.values, codes.mean(0))
    assert [part.shares().sum().item() for part in (everything, means)] == pytest.approx([1, 1])
    assert f"{percent(int((codes == 0).sum()), codes.numel())} are exactly 0" in drawing["histograms"]["title"]


def test_neighbours_are_those_of_the_search_and_the_bits_stand_below_them(repos, tmp_path, drawing, tiny_always):
    config = data.DataConfig(source=tiny_always["data.source"], val_size=16)
    queries, known = data.load(config, "test"), data.load(config, "train")
    pipeline = AutoPipeline.from_pretrained(repos("hashing-ae"))
    hashes, known_hashes = pipeline.hash(queries.images[:3] / 255), pipeline.hash(known.images / 255)

    figure("neighbours", str(repos("hashing-ae")), str(tmp_path / "x.png"), count=3)

    drawn = drawing["image_rows"]
    assert drawn["names"] == [queries.class_names[label] for label in queries.labels[:3]]
    for index, (row, captions) in enumerate(zip(drawn["rows"], drawn["captions"], strict=True)):
        bits = [bin(int(hashes[index]) ^ int(other)).count("1") for other in known_hashes]
        assert torch.equal(row[0], queries.images[index] / 255)
        assert captions == ["query", *("1 bit" if n == 1 else f"{n} bits" for n in sorted(bits)[:8])]
        shown = [next(i for i in range(len(known)) if torch.equal(known.images[i] / 255, image)) for image in row[1:]]
        assert [bits[i] for i in shown] == sorted(bits)[:8]


def test_without_scikit_learn_the_extra_is_named(repos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)

    with pytest.raises(ValueError, match=r'pip install -e "\.\[eval\]"'):
        figure("codes", str(repos("stacked-ae")), str(tmp_path / "x.png"))


def test_a_model_of_binary_pixels_is_shown_binary_images(repos):
    subject = load_subject(str(repos("conv-vae")), "reconstruct")

    assert set(subject.images("val").images.unique().tolist()) == {0, 255}
