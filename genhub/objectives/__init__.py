"""What a model is trained for: an objective judges, and moves nothing."""

from genhub.objectives.adversarial import AdversarialGame, GrowingGame
from genhub.objectives.autoencoder import LayerwiseReconstruction, Reconstruction, SparseReconstruction
from genhub.objectives.classification import Classification
from genhub.objectives.diffusion import NoisePrediction
from genhub.objectives.objective import Batch, Objective, Phase, Step, Terms
from genhub.objectives.variational import EvidenceLowerBound

__all__ = [
    "AdversarialGame",
    "Batch",
    "Classification",
    "EvidenceLowerBound",
    "GrowingGame",
    "LayerwiseReconstruction",
    "NoisePrediction",
    "Objective",
    "Phase",
    "Reconstruction",
    "SparseReconstruction",
    "Step",
    "Terms",
]
