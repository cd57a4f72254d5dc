"""Objectives of other families than the repository has so far, to hold the loop to what it promises them."""

import torch
from torch import nn

from genhub.objectives import Objective, Phase


class TinyGame(Objective):
    """Two networks, two phases, memory: the shape of an adversarial game, on the components of a tiny recipe."""

    def __init__(self, unet: nn.Module, critic: nn.Module, critic_every: int = 1):
        self.modules = {"unet": unet, "critic": critic}
        self.phases = (Phase("critic", self.critic_loss, every=critic_every), Phase("unet", self.unet_loss))
        self.memory = torch.zeros(())

    def fake(self, batch, step):
        noise = step.random.randn(*batch["sample"].shape[1:])
        return self.modules["unet"](noise, torch.zeros(len(noise))).sample

    def score(self, images):
        return self.modules["critic"](images, torch.zeros(len(images))).sample.mean((1, 2, 3))

    def critic_loss(self, batch, step):
        with torch.no_grad():
            fake = self.fake(batch, step)
        self.memory = 0.9 * self.memory + 0.1 * fake.mean().item()
        real = batch["sample"].detach().requires_grad_()
        scores = self.score(real)
        (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        return {
            "real": nn.functional.softplus(-scores).mean(),
            "fake": nn.functional.softplus(self.score(fake)).mean(),
            "slope": slope.square().sum((1, 2, 3)).mean(),
        }

    def unet_loss(self, batch, step):
        return {"fool": nn.functional.softplus(-self.score(self.fake(batch, step))).mean()}

    def validate(self, batch, step):
        return self.unet_loss(batch, step)

    def state_dict(self):
        return {"memory": self.memory}

    def load_state_dict(self, state):
        self.memory = state["memory"]


class PartOnly(Objective):
    """Moves one part of a network and leaves the rest alone: the shape of layerwise training."""

    def __init__(self, unet: nn.Module, part: str = "unet.conv_in"):
        self.modules = {"unet": unet}
        self.phases = (Phase(f"unet.{part}", self.loss),)

    def loss(self, batch, step):
        images = batch["sample"]
        out = self.modules["unet"](images, torch.zeros(len(images))).sample
        return {"loss": (out - images).square().mean()}


class Exploding(Objective):
    """A loss that is not finite from its third step on."""

    def __init__(self, unet: nn.Module):
        self.modules, self.phases = {"unet": unet}, (Phase("unet", self.loss),)

    def loss(self, batch, step):
        images = batch["sample"]
        out = self.modules["unet"](images, torch.zeros(len(images))).sample
        return {"loss": (out - images).square().mean() * (float("nan") if step.index >= 2 else 1.0)}

    def validate(self, batch, step):
        return {"loss": torch.zeros(())}


class Resting(PartOnly):
    """Moves in every third step alone."""

    def __init__(self, unet: nn.Module):
        self.modules, self.phases = {"unet": unet}, (Phase("unet", self.loss, every=3),)
