"""Figures of a repository by their names: `genhub figure NAME REPO`. What they show is read here, and drawn by
`genhub.plotting`."""

from collections.abc import Callable

from genhub.figures.codes import activations, codes, units
from genhub.figures.curves import (
    MEMORISER,
    minutes,
    quality_against_time,
    quality_in_training,
    sampling_time,
    training_time,
)
from genhub.figures.gan import arithmetic, game, growth, latent_interpolation, style_mixing
from genhub.figures.reconstructions import denoising, neighbours, reconstructions
from genhub.figures.samples import classes, first_of_each
from genhub.figures.training import milestones, progress
from genhub.figures.vae import interpolation, manifold, prior_samples

__all__ = [
    "ANIMATED",
    "FIGURES",
    "MEMORISER",
    "first_of_each",
    "minutes",
    "quality_against_time",
    "quality_in_training",
]

FIGURES: dict[str, Callable[..., bytes]] = {
    "activations": activations,
    "arithmetic": arithmetic,
    "classes": classes,
    "codes": codes,
    "denoising": denoising,
    "game": game,
    "growth": growth,
    "interpolation": interpolation,
    "latent-interpolation": latent_interpolation,
    "manifold": manifold,
    "milestones": milestones,
    "neighbours": neighbours,
    "progress": progress,
    "reconstructions": reconstructions,
    "prior-samples": prior_samples,
    "sampling-time": sampling_time,
    "style-mixing": style_mixing,
    "training-time": training_time,
    "units": units,
}
ANIMATED = {"progress"}  # those that are GIF files
