"""The adversarial game with the fakes of Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17, for comparison."""

import torch

from genhub.objectives.gan import AdversarialGame
from genhub.objectives.objective import Batch, Step


class FreshFakesGame(AdversarialGame):
    """As in the book's loop, the discriminator's fakes come from the generator in evaluation mode (batch normalisation
    by running statistics), and the generator's phase draws its own; arguments are those of `AdversarialGame`."""

    def make_and_cache_fakes(self, batch: Batch, step: Step) -> torch.Tensor:
        """Generates the fakes of the discriminator's phase, and caches none."""
        generator = self.modules["generator"].eval()
        with torch.no_grad():
            fakes = self.make_fakes(batch, step)
        generator.train()
        return fakes
