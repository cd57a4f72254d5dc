"""Points in space: `plane`."""

import math

import torch

from genhub import data, plotting
from genhub.figures.subject import load_subject, pixels

LINES = 9  # of the surface in each direction


def plane(repo: str) -> bytes:
    """Draws points in space, the plane that an autoencoder found in them, and their codes.

    The title compares it with the plane of the first two principal components: their angle, and both errors.
    """
    subject = load_subject(repo, "encode", "AutoencoderPipeline")
    images = subject.load("train")
    if not isinstance(images, data.Points) or images.images.shape[1:].numel() != 3:
        raise ValueError(
            f"`repo` must be trained on points in space, such as linear-ae-pca, got {subject.name}, trained on "
            f"{subject.recipe.data.source}."
        )
    codes = subject.pipeline.encode(images.images).cpu()
    if codes.shape[1] != 2:
        raise ValueError(f"`repo` must have codes of 2 numbers, got {codes.shape[1]}.")

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return pixels(subject.pipeline.decode(latents, output_type="pt")).flatten(-3)

    points, copies = images.images.flatten(1), decode(codes)
    across, down = (torch.linspace(*ends, LINES) for ends in zip(codes.amin(0), codes.amax(0), strict=True))
    surface = decode(torch.cartesian_prod(across, down)).view(LINES, LINES, 3)
    principal = first_components(points)
    copied, best = ((points - other).square().mean().item() for other in (copies, principal))
    title = (
        f"{subject.name}: {len(points)} training points and the plane of their reconstructions, "
        f"{angle_between(normal(copies), normal(principal)):.2f} degrees from the plane of the first two principal "
        f"components; mean squared error {copied:.5f}, of PCA {best:.5f}; lines lead from points to reconstructions"
    )
    return plotting.chart_png(plotting.space(points, copies, surface, codes, title))


def first_components(points: torch.Tensor) -> torch.Tensor:
    """Returns points (N, 3) projected onto their first two principal components."""
    mean = points.mean(0)
    _, _, axes = torch.linalg.svd(points - mean, full_matrices=False)
    return mean + (points - mean) @ axes[:2].T @ axes[:2]


def normal(points: torch.Tensor) -> torch.Tensor:
    """Returns the direction (3,) in which points (N, 3) vary least."""
    return torch.linalg.svd(points.double() - points.double().mean(0), full_matrices=False)[2][2]


def angle_between(first: torch.Tensor, second: torch.Tensor) -> float:
    """Returns the angle of two planes with these normals, in degrees from 0 to 90."""
    sine = torch.linalg.cross(first, second).norm()  # more exact than the cosine for a small angle
    return math.degrees(torch.atan2(sine, (first @ second).abs()).item())
