"""Codes against other reductions to the plane: `embeddings`."""

import torch

from genhub import plotting
from genhub.figures.autoencoders import describe_count, tsne
from genhub.figures.subject import label_names, load_subject

NEIGHBOURS = 10


def embeddings(repo: str, count: int = 1000, seed: int = 42) -> bytes:
    """Draws held-out images in the plane, by t-SNE of codes, of pixels and of PCA.

    PCA to two numbers stands beside them. Above each stand its trustworthiness (Venna & Kaski 2001: 1 if the ten
    nearest neighbours in the plane are also neighbours by their pixels), and how often the class of most of them is
    that of the image. The principal components are those of the images drawn.

    Args:
        count: images.
        seed: of t-SNE.
    """
    subject = load_subject(repo, "encode")
    images = subject.images(subject.held_out, count)
    codes, flat = subject.codes(images), images.images.flatten(1) / 255
    length, neighbours = codes.shape[1], min(NEIGHBOURS, (len(images) - 1) // 2)
    if length < 2 or len(codes) < 5:
        raise ValueError(f"`repo` must give at least 5 codes of at least 2 numbers, got {tuple(codes.shape)}.")
    planes = (
        {f"the {length} codes as they are": codes} if length == 2 else {f"t-SNE of {length} codes": tsne(codes, seed)}
    )
    planes[f"t-SNE of {flat.shape[1]} pixels"] = tsne(flat, seed)
    if 2 < length < min(flat.shape):
        planes[f"t-SNE of {length} principal components"] = tsne(principal(flat, length), seed)
    planes["2 principal components"] = principal(flat, 2)
    names = () if images.labels is None else label_names(images)
    panels = {f"{name}\n{describe(plane, flat, images.labels, neighbours)}": plane for name, plane in planes.items()}
    title = (
        f"{subject.name}: {describe_count(subject, images)} in the plane; trustworthiness against pixels"
        f"{', and classes told by the' if names else ', of'} {neighbours} nearest neighbours"
    )
    return plotting.chart_png(plotting.point_maps(panels, title, images.labels, names))


def principal(values: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the first `count` principal components (N, count) of values (N, D)."""
    centred = values.double() - values.double().mean(0)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    return (left * sizes)[:, :count].float()


def describe(plane: torch.Tensor, flat: torch.Tensor, labels: torch.Tensor | None, neighbours: int) -> str:
    """Returns in words how true a plane (N, 2) is to the pixels (N, D) and, if there are any, to the labels."""
    from sklearn.manifold import trustworthiness

    words = f"trustworthiness {trustworthiness(flat.numpy(), plane.numpy(), n_neighbors=neighbours):.3f}"
    return words if labels is None else f"{words}, {neighbour_accuracy(plane, labels, neighbours):.0%} of classes told"


def neighbour_accuracy(plane: torch.Tensor, labels: torch.Tensor, neighbours: int) -> float:
    """Returns how often the class that most of the nearest neighbours of a point have is its own; of as many, the
    first class."""
    distances = torch.cdist(plane.double(), plane.double())
    nearest = distances.fill_diagonal_(torch.inf).topk(neighbours, largest=False).indices
    return (labels[nearest].mode(1).values == labels).double().mean().item()
