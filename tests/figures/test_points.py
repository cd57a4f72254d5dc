"""Points in space and the plane of their reconstructions."""

import pytest
import torch

from genhub import AutoPipeline, data, figure, save_repo
from genhub.figures.points import angle_between, first_components, normal


def test_an_autoencoder_that_is_pca_has_its_plane_its_error_and_reconstructions_on_it(repos, tmp_path, drawing):
    points = data.load(data.DataConfig(source="points", val_size=0), "train").images.flatten(1)
    pipeline = AutoPipeline.from_pretrained(repos("linear-ae-pca"))
    (layer,) = pipeline.autoencoder.layers
    mean, axes = points.mean(0), torch.linalg.svd(points - points.mean(0), full_matrices=False)[2][:2]
    skew = torch.tensor([[2.0, 1.0], [0.0, -1.0]])  # other codes for the same plane
    with torch.no_grad():
        layer.encoder.weight.copy_(skew @ axes)
        layer.encoder.bias.copy_(-skew @ axes @ mean)
        layer.decoder.weight.copy_(axes.T @ skew.inverse())
        layer.decoder.bias.copy_(mean)
    save_repo(pipeline, tmp_path / "repo", {"recipe.yaml": (repos("linear-ae-pca") / "recipe.yaml").read_text()})

    figure("plane", str(tmp_path / "repo"), str(tmp_path / "x.png"))

    drawn = drawing["space"]
    torch.testing.assert_close(drawn["copies"], first_components(points))
    torch.testing.assert_close(drawn["codes"], (points - mean) @ axes.T @ skew.T)
    distances = (drawn["surface"] - mean) @ normal(first_components(points)).float()
    torch.testing.assert_close(distances, torch.zeros(9, 9), atol=1e-5, rtol=0)
    error = (points - drawn["copies"]).square().mean()
    assert (
        f"0.00 degrees from the plane of the first two principal components; mean squared error {error:.5f}, "
        in (drawn["title"])
    )
    assert f"of PCA {error:.5f}" in drawn["title"]


@pytest.mark.parametrize("degrees", [0, 1e-4, 30, 90])
def test_the_angle_of_two_planes_is_that_of_their_normals_whichever_way_they_point(degrees):
    turn = torch.tensor(degrees, dtype=torch.double).deg2rad()
    first, second = torch.tensor([0, 0, 1], dtype=torch.double), torch.stack([turn.sin(), 0 * turn, turn.cos()])

    assert angle_between(first, second) == pytest.approx(degrees)
    assert angle_between(first, -second) == pytest.approx(degrees)
