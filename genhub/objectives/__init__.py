"""What a model is trained for: an objective judges, and moves nothing."""

from genhub.objectives.classification import Classification
from genhub.objectives.diffusion import NoisePrediction
from genhub.objectives.objective import Batch, Objective, Phase, Step, Terms

__all__ = ["Batch", "Classification", "NoisePrediction", "Objective", "Phase", "Step", "Terms"]
