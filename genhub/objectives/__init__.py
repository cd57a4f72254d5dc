"""Objectives compute the losses that models are trained on; the training loop does the rest."""

from genhub.objectives.autoencoder import LayerwiseReconstruction, Reconstruction, SparseReconstruction
from genhub.objectives.classification import Classification
from genhub.objectives.compression import PerceptualCompression
from genhub.objectives.consistency import ConsistencyTuning
from genhub.objectives.contrastive_divergence import ContrastiveDivergence
from genhub.objectives.diffusion import NoisePrediction
from genhub.objectives.gan import AdversarialGame
from genhub.objectives.gan_fresh import FreshFakesGame
from genhub.objectives.gan_growing import GrowingGame
from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step
from genhub.objectives.text import TextNoisePrediction
from genhub.objectives.vae import EvidenceLowerBound

__all__ = [
    "AdversarialGame",
    "Batch",
    "Classification",
    "ConsistencyTuning",
    "ContrastiveDivergence",
    "EvidenceLowerBound",
    "FreshFakesGame",
    "GrowingGame",
    "LayerwiseReconstruction",
    "Losses",
    "NoisePrediction",
    "Objective",
    "PerceptualCompression",
    "Phase",
    "Reconstruction",
    "SparseReconstruction",
    "Step",
    "TextNoisePrediction",
]
