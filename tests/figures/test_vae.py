"""The latents of tiny variational autoencoders: strips and planes of images."""

import pytest
import torch

from genhub import AutoPipeline, data, figure
from genhub.figures.vae import find_pairs


def test_strips_lead_from_one_image_to_the_other_and_along_each_latent(repos, tmp_path, drawing, held_out):
    pipeline = AutoPipeline.from_pretrained(repos("vae"))

    figure("interpolation", str(repos("vae")), str(tmp_path / "x.png"), count=2)

    drawn = drawing["image_rows"]
    assert len(drawn["rows"]) == 4 + 10
    for number, (row, mixed) in enumerate(zip(drawn["rows"][:4:2], drawn["rows"][1:4:2], strict=True)):
        pair = held_out[2 * number : 2 * number + 2]
        torch.testing.assert_close(mixed[[0, 1, 7, 8]], pair.images[[0, 0, 1, 1]] / 255)
        torch.testing.assert_close(mixed[4], pair.images.float().mean(0) / 255)
        assert torch.equal(row[[0, 8]], pair.images / 255)
        torch.testing.assert_close(row[[1, 7]], pipeline.reconstruct(pair.images / 255, output_type="pt").images)
        names = [held_out.class_names[label] for label in pair.labels]
        assert drawn["names"][2 * number + 1] == "pixels"
        assert drawn["names"][2 * number] == " to ".join(dict.fromkeys(names))
    origin = pipeline.decode(torch.zeros(1, 10), output_type="pt").images[0]
    for axis, row in enumerate(drawn["rows"][4:]):
        torch.testing.assert_close(row[4], origin)
        code = torch.zeros(1, 10)
        code[0, axis] = -1.6
        torch.testing.assert_close(row[0], pipeline.decode(code, output_type="pt").images[0])
        assert drawn["names"][4 + axis].startswith(f"latent {axis}, sd ")
    below_pairs, below_latents = [row for row in drawn["captions"] if row]
    assert below_pairs == ["image", "0.00", "0.17", "0.33", "0.50", "0.67", "0.83", "1.00", "image"]
    assert below_latents[::2] == ["-1.6", "-0.8", "0.0", "0.8", "1.6"]


def test_pairs_of_a_conditional_model_are_of_one_class():
    images = data.Images(torch.zeros(6, 1, 2, 2, dtype=torch.uint8), torch.tensor([3, 1, 1, 3, 3, 2]))

    assert find_pairs(images, 5, same_class=True) == [(0, 3), (1, 2)]
    assert find_pairs(images, 1, same_class=True) == [(0, 3)]
    assert find_pairs(images, 2, same_class=False) == [(0, 1), (2, 3)]
    assert find_pairs(images[:1], 2, same_class=False) == []


def test_the_plane_is_that_of_the_pipeline_and_says_which_latents_it_is_of(repos, tmp_path, drawing):
    figure("manifold", str(repos("conv-vae")), str(tmp_path / "x.png"), count=9)

    drawn = drawing["image_plane"]
    pipeline = AutoPipeline.from_pretrained(repos("conv-vae"))
    torch.testing.assert_close(drawn["images"], pipeline.manifold(9, 0.05, 0.95, (0, 1), output_type="pt").images)
    assert (drawn["x_label"], drawn["y_label"]) == ("quantile of latent 0", "quantile of latent 1")
    assert (drawn["ticks"][0], drawn["ticks"][-1]) == (
        (pytest.approx(0, abs=1e-6), "0.05"),
        (pytest.approx(1), "0.95"),
    )


def test_of_many_latents_the_plane_is_of_the_two_that_vary_most(repos, tmp_path, drawing, held_out):
    means = AutoPipeline.from_pretrained(repos("vae")).encode(held_out.images / 255)
    across, down = sorted(means.std(0).argsort()[-2:].tolist())

    figure("manifold", str(repos("vae")), str(tmp_path / "x.png"), count=4)

    assert drawing["image_plane"]["x_label"] == f"quantile of latent {across}"
    assert drawing["image_plane"]["y_label"] == f"quantile of latent {down}"
    assert "the most used of 10 (the others are 0)" in drawing["image_plane"]["title"]
