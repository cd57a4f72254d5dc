"""Codes of the same images while a model learns: `code-drift`."""

import numpy as np
import torch

from genhub import plotting
from genhub.figures.autoencoders import describe_count
from genhub.figures.subject import label_names, load_subject
from genhub.figures.training import choose_geometrically, load_records, step_of
from genhub.figures.vae import most_used

RADII = (1, 2)  # of circles around the origin, in standard deviations of the prior


def code_drift(repo: str, count: int = 6) -> bytes:
    """Draws the codes of the same held-out images early and late in training.

    Training records them at each `training.sample_every`, before the first step too. The moments are geometrically
    spaced; of many latents the two that the trained model uses most are drawn. Circles show one and two standard
    deviations of the prior that a variational autoencoder pulls its codes to; what is drawn are the means of q(z|x).

    Args:
        count: moments.
    """
    subject = load_subject(repo, "encode")
    recipe, files = load_records(repo, "codes", ".npy")
    files = choose_geometrically(files, count)
    recorded = [torch.from_numpy(np.load(file)).float() for file in files]
    length = recorded[-1].shape[1]
    if length < 2:
        raise ValueError("`repo` must have codes of at least 2 numbers, got 1.")
    images = subject.images(subject.held_out, len(recorded[-1]))
    axes = most_used(recorded[-1].std(0, correction=0), 2)
    has_prior = subject.capabilities.can("generate")
    panels = {}
    for file, codes in zip(files, recorded, strict=True):
        codes = codes[: len(images), axes]
        spread = " and ".join(f"{deviation:.2f}" for deviation in codes.std(0, correction=0).tolist())
        middle = codes.mean(0).norm().item()
        panels[f"after step {step_of(file):,}\nsd {spread}, centre {middle:.2f} from 0"] = codes
    title = f"{recipe.name}: codes of the first {describe_count(subject, images)} during training"
    if length > 2:
        title += f"; latents {axes[0]} and {axes[1]}, the most used of {length}"
    if has_prior:
        title += "; circles: 1 and 2 standard deviations of the prior"
    names = () if images.labels is None else label_names(images)
    radii = RADII if has_prior else ()
    return plotting.chart_png(plotting.point_maps(panels, title, images.labels, names, radii, is_shared=True))
