"""Contrastive divergence (Hinton 2002, *Training Products of Experts by Minimizing Contrastive Divergence*, Neural
Computation 14, 1771-1800), also with persistent chains (Tieleman 2008)."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin

from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step


class ContrastiveDivergence(Objective):
    """Trains one restricted Boltzmann machine of a stack on what the frozen ones below make of the images (Hinton,
    Osindero & Teh 2006, Sec. 4).

    The loss is F(v_0) - F(v_k), v_k being the end of a Gibbs chain of k steps, through which no gradient flows. For
    k -> infinity its gradient is that of -log p(v_0); its value is no measure of likelihood.

    Args:
        machine: called as `machine(sample, layer, noise, chains)`, returns `free_energy`, `fantasy_free_energy`,
            `latents`, `sample` and `target`; has `layers`, and `num_draws`, which says how much noise a call takes.
        layer: number of the machine, from 0.
        gibbs_steps: k.
        is_persistent: whether chains go on from step to step, one for each image of the batch, instead of starting at
            the images (Tieleman 2008, *Training Restricted Boltzmann Machines using Approximations to the Likelihood
            Gradient*).
    """

    notes = ("A pixel is drawn black or white in each step anew, white with its grey value as probability.",)
    per_sample = ("chains",)

    def __init__(self, machine: ModelMixin, layer: int = 0, gibbs_steps: int = 1, is_persistent: bool = False):
        model: Any = machine
        count = len(getattr(model, "layers", ()))
        if not 0 <= layer < count:
            raise ValueError(f"`layer` must lie in 0..{count - 1}, got {layer}.")
        if gibbs_steps < 1:
            raise ValueError(f"`gibbs_steps` must be at least 1, got {gibbs_steps}.")
        self.modules = {"machine": machine}
        self.phases = (Phase(f"machine.layers.{layer}", self.divergence_loss),)
        self.layer, self.draws, self.is_persistent = layer, model.num_draws(layer, gibbs_steps), is_persistent
        self.chains: torch.Tensor | None = None  # (B, J) of 0 and 1; a process fills its own rows

    def divergence_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the difference of free energies; persistent chains move on."""
        if not self.is_persistent:
            output = self._run(batch, step, None)
        else:
            rows = slice(step.random.rows.start, step.random.rows.stop)
            old = (
                self.chains[rows] if self.chains is not None and step.index else None
            )  # the first ones start at images
            output = self._run(batch, step, old)
            if self.chains is None or len(self.chains) != step.random.total:
                shape = (step.random.total, output.latents.shape[1])
                self.chains = torch.zeros(shape, dtype=torch.uint8, device=output.latents.device)
            self.chains[rows] = output.latents.to(torch.uint8)
        return {"contrastive_divergence": (output.free_energy - output.fantasy_free_energy).mean()}

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns the difference of free energies for chains that start at the images, and the mean squared error of
        the visible units after them."""
        output = self._run(batch, step, None)
        error = F.mse_loss(output.sample.float(), output.target.float())
        return {"loss": (output.free_energy - output.fantasy_free_energy).mean(), "layer_mse": error}

    def _run(self, batch: Batch, step: Step, chains: torch.Tensor | None) -> Any:
        """Returns the output of the machine."""
        return self.modules["machine"](batch["sample"], self.layer, step.random.rand(self.draws), chains)

    def state_dict(self) -> dict:
        return {} if self.chains is None else {"chains": self.chains}

    def load_state_dict(self, state: dict) -> None:
        device = next(self.modules["machine"].parameters()).device
        self.chains = state["chains"].to(device) if "chains" in state else None
