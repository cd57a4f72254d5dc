"""What a sparse autoencoder pays for its units: `penalties`."""

import torch

from genhub import plotting, recipes
from genhub.objectives.autoencoder import SparseReconstruction, bernoulli_kl
from genhub.recipes.recipe import Recipe
from genhub.repository.load import download

FIRST, LAST, STEPS = 0.005, 0.95, 190  # mean activations, in steps of 0.005
SLOPES = 12  # the largest that is drawn: that of the divergence has no bound


def penalties(repo: str) -> bytes:
    """Draws the penalty on a unit's mean activation, and on two others that it could be.

    The divergence of Eq. 17-2 stands beside the absolute and the squared error, and the slopes of all three below:
    they are what moves a unit. The target is that of the recipe; no weights and no data are read.
    """
    recipe = recipes.load(download(repo, required="recipe.yaml"))
    target = target_of(recipe)
    panels = penalty_panels(target)
    title = (
        f"{recipe.name}: what a unit pays for a mean activation of q, by the divergence of {target:g} and q and by "
        "other errors, without weights; below, how hard each pulls"
    )
    return plotting.chart_png(plotting.chart(panels, title, {f"target {target:g}": [target]}))


def target_of(recipe: Recipe) -> float:
    """Returns the mean activation that a sparse autoencoder aims at.

    Raises:
        ValueError: the recipe penalises no mean activation.
    """
    objective = recipe.stages[-1].objective
    if not (issubclass(objective.cls, SparseReconstruction) and objective.arguments.get("kl_weight")):
        raise ValueError(
            "`repo` must be trained towards a mean activation, by `objective.kl_weight` above 0, got "
            f"{recipe.name}, whose objective is {objective.path}."
        )
    return objective.arguments.get("target", 0.1)


def penalty_panels(p: float) -> list[plotting.Panel]:
    """Returns the penalties of mean activations and the sizes of their slopes, for the target `p`."""
    q = torch.linspace(FIRST, LAST, STEPS, dtype=torch.double)
    costs = {
        "Kullback-Leibler divergence": bernoulli_kl(p, q),
        "absolute error |q - p|": (q - p).abs(),
        "squared error (q - p)²": (q - p).square(),
    }
    slopes = [((q - p) / (q * (1 - q))).abs(), torch.ones_like(q), 2 * (q - p).abs()]
    drawn = [plotting.Line(name, q.tolist(), cost.tolist(), has_markers=False) for name, cost in costs.items()]
    pulls = []
    for name, slope in zip(costs, slopes, strict=True):
        is_shown = slope <= SLOPES
        pulls.append(plotting.Line(name, q[is_shown].tolist(), slope[is_shown].tolist(), has_markers=False))
    x_label = "mean activation q of a unit over a batch"
    return [
        plotting.Panel(drawn, x_label, "penalty", x_start=0),
        plotting.Panel(pulls, x_label, "size of its slope in q", x_start=0),
    ]
