"""A deep belief net of restricted Boltzmann machines (Smolensky 1986; Hinton, Osindero & Teh 2006, *A Fast Learning
Algorithm for Deep Belief Nets*, Neural Computation 18, 1527-1554).

One machine of binary units has the energy E(v, h) = -a'v - b'h - v'W h and p(v, h) = exp(-E) / Z, so that the units of
one side are independent given the other side (Hinton 2002, Training Products of Experts, Sec. 2):

    p(h = 1 | v) = sigmoid(W'v + b)    p(v = 1 | h) = sigmoid(W h + a)    F(v) = -a'v - sum log(1 + exp(W'v + b))

Above the first machine each one models the hidden units of the one below. The two top layers stay undirected, the
others pass down by p(v | h). A net of one machine is a restricted Boltzmann machine.

Departures from the text: no label units and no fine-tuning by the wake-sleep algorithm; all biases start at 0. A grey
pixel is the probability of a white one.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


@dataclass
class DeepBeliefNetOutput(BaseOutput):
    """Output of `DeepBeliefNet`.

    Args:
        sample: (B, C, H, W), the reconstructions; for a single machine (B, K), the means of its last visible states.
        latents: (B, L), the means of the top hidden units; for a single machine its last hidden states.
        target: (B, K), the visible states that a single machine was given.
        free_energy: (B,), F of `target`.
        fantasy_free_energy: (B,), F of the states at the ends of the Gibbs chains.
    """

    sample: torch.Tensor
    latents: torch.Tensor | None = None  # accelerate needs the default under mixed precision
    target: torch.Tensor | None = None
    free_energy: torch.Tensor | None = None
    fantasy_free_energy: torch.Tensor | None = None


class DeepBeliefNet(ModelMixin, ConfigMixin):
    """Maps images (B, C, H, W) in [-1, 1] to the hidden units of the top machine (B, L) and back; the machines see
    pixels in [0, 1]. Chance comes in as `noise`, uniform numbers in [0, 1): a unit is 1 where its noise is below its
    probability.

    Args:
        hidden_sizes: hidden units of the machines below the top one; none for a single machine.
        latent_channels: L, hidden units of the top machine.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ("RestrictedBoltzmannMachine",)
    _supports_group_offloading = False  # its hooks see calls, and a machine is not called

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        hidden_sizes: tuple[int, ...] = (),
        latent_channels: int = 500,
    ):
        super().__init__()
        self.height, self.width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        self.sizes = (in_channels * self.height * self.width, *hidden_sizes, latent_channels)
        if min(self.sizes) < 1:
            raise ValueError(
                f"`sample_size`, `hidden_sizes` and `latent_channels` must be at least 1, got {self.sizes}."
            )
        layers = nn.ModuleList(RestrictedBoltzmannMachine(*pair) for pair in itertools.pairwise(self.sizes))
        self.layers = cast("Sequence[RestrictedBoltzmannMachine]", layers)

    @apply_forward_hook
    def encode(self, sample: torch.Tensor) -> torch.Tensor:
        """Maps images (B, C, H, W) to the means of the top hidden units (B, L), from layer to layer by means."""
        values = ((sample + 1) / 2).flatten(1)  # (B, C, H, W) -> (B, C H W)
        for layer in self.layers:
            values = layer.hidden_mean(values)
        return values

    @apply_forward_hook
    def decode(self, latents: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Maps top hidden units (B, L) to the means of images (B, C, H, W); the layers between are drawn with `noise`
        (B, K), K being the sum of `hidden_sizes`, or are means without."""
        values = latents
        for depth in reversed(range(len(self.layers))):
            values = self.layers[depth].visible_mean(values)
            if noise is not None and depth:
                values, noise = draw(values, noise[:, : self.sizes[depth]]), noise[:, self.sizes[depth] :]
        return (2 * values - 1).unflatten(1, (-1, self.height, self.width))

    @apply_forward_hook
    def gibbs(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Takes one step of Gibbs sampling in the top machine, h -> v -> h, from hidden states (B, L), with `noise`
        (B, K + L), K being the visible units of that machine."""
        return self.layers[-1].gibbs(latents, noise)[-1]

    def forward(
        self,
        sample: torch.Tensor,
        layer: int | None = None,
        noise: torch.Tensor | None = None,
        chains: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> DeepBeliefNetOutput | tuple:
        """Reconstructs `sample` by means; or, with the number `layer` of a single machine, draws its input, lets it
        run, and returns the free energies at both ends.

        Args:
            noise: for a single machine, (B, `num_draws(layer, k)`) for k steps of Gibbs sampling.
            chains: (B, J), hidden states of the machine to go on from, instead of those of its input.
        """
        if layer is None or noise is None:
            latents = self.encode(sample)
            output = DeepBeliefNetOutput(self.decode(latents), latents)
            return output if return_dict else output.to_tuple()
        target, noise = draw_next(((sample + 1) / 2).flatten(1), noise)
        with torch.no_grad():
            for below in self.layers[:layer]:
                target, noise = draw_next(below.hidden_mean(target), noise)
            machine = self.layers[layer]
            hidden, noise = draw_next(machine.hidden_mean(target), noise)
            hidden, mean, visible = hidden if chains is None else chains.to(hidden), target, target
            for part in noise.split(sum(self.sizes[layer : layer + 2]), 1):
                mean, visible, hidden = machine.gibbs(hidden, part)
        energies = machine.free_energy(target), machine.free_energy(visible)
        output = DeepBeliefNetOutput(mean, hidden, target, *energies)
        return output if return_dict else output.to_tuple()

    def num_draws(self, layer: int, steps: int) -> int:
        """Returns how many units are drawn to train a machine: all from the pixels to its hidden units, and both of
        its sides in each of `steps` of Gibbs sampling."""
        return sum(self.sizes[: layer + 2]) + steps * sum(self.sizes[layer : layer + 2])


class RestrictedBoltzmannMachine(nn.Module):
    """Visible units (B, K), hidden units (B, J), and a weight for each pair of them."""

    def __init__(self, visible_size: int, hidden_size: int):
        super().__init__()
        self.pairs = TransposableLinear(visible_size, hidden_size)  # with the hidden units' biases
        self.visible_bias = nn.Parameter(torch.zeros(visible_size))
        nn.init.normal_(self.pairs.weight, std=0.01)  # Hinton 2010, UTML TR 2010-003, Sec. 8
        nn.init.zeros_(self.pairs.bias)

    def hidden_mean(self, visible: torch.Tensor) -> torch.Tensor:
        """Returns p(h = 1 | v), (B, J)."""
        return torch.sigmoid(self.pairs(visible))

    @apply_forward_hook
    def visible_mean(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns p(v = 1 | h), (B, K)."""
        return torch.sigmoid(self.pairs(hidden, self.visible_bias))

    def gibbs(self, hidden: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draws v given h, then h given v; returns p(v = 1 | h), v and h."""
        mean = self.visible_mean(hidden)
        visible, noise = draw_next(mean, noise)
        return mean, visible, draw(self.hidden_mean(visible), noise)

    @apply_forward_hook
    def free_energy(self, visible: torch.Tensor) -> torch.Tensor:
        """Returns F(v) = -log sum_h exp(-E(v, h)), (B,), in float32."""
        return -(visible @ self.visible_bias).float() - F.softplus(self.pairs(visible).float()).sum(1)


# Same as genhub.models.autoencoder_dense.TransposableLinear
class TransposableLinear(nn.Linear):
    """A linear layer that also applies its transposed matrix, within its forward: offloading and casting see no other
    use of a weight."""

    def forward(self, values: torch.Tensor, transposed_bias: torch.Tensor | None = None) -> torch.Tensor:
        """Maps (B, K) to (B, L), or with another bias (B, L) to (B, K)."""
        if transposed_bias is None:
            return super().forward(values)
        return F.linear(values, self.weight.T, transposed_bias)


def draw(mean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Returns states of 0 and 1 that are 1 where uniform `noise` is below `mean`."""
    return (noise < mean).to(mean.dtype)


def draw_next(mean: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns states drawn with the first columns of `noise`, and its other columns."""
    size = mean.shape[1]
    return draw(mean, noise[:, :size]), noise[:, size:]
