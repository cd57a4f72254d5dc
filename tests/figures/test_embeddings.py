"""Codes and other reductions to the plane."""

import pytest
import torch

from genhub import figure
from genhub.figures.embeddings import neighbour_accuracy, principal


def test_each_reduction_stands_beside_the_codes_with_its_scores(repos, tmp_path, drawing, held_out):
    figure("embeddings", str(repos("conv-vae")), str(tmp_path / "x.png"))

    drawn = drawing["point_maps"]
    names, planes = zip(*drawn["panels"].items(), strict=True)
    assert [name.splitlines()[0] for name in names] == [
        *("the 2 codes as they are", "t-SNE of 784 pixels", "2 principal components")
    ]
    assert all("trustworthiness 0." in name and "of classes told" in name for name in names)
    binary = (held_out.images > 127).flatten(1).float()
    torch.testing.assert_close(planes[-1], principal(binary, 2))
    assert torch.equal(drawn["labels"], held_out.labels)


def test_classes_far_apart_are_all_told_by_their_neighbours_and_mixed_ones_by_half():
    labels = torch.arange(40) % 2
    apart = torch.stack([100.0 * labels, torch.arange(40.0)], 1)
    mixed = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))

    assert neighbour_accuracy(apart, labels, 5) == 1
    assert neighbour_accuracy(mixed, torch.arange(4000) % 2, 5) == pytest.approx(0.5, abs=0.03)


def test_principal_components_keep_the_most_variance_and_are_uncorrelated():
    values = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(6)

    kept = principal(values, 2)

    largest = torch.linalg.eigvalsh(values.T.cov())[-2:].flip(0)
    torch.testing.assert_close(kept.T.cov(), largest.diag(), atol=1e-3, rtol=1e-4)
