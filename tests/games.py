"""Small objectives of other families than the package has, to test what the loop promises to all objectives."""

import torch
from torch import nn

from genhub.objectives import Objective, Phase


class TinyGame(Objective):
    """An adversarial game of two denoisers: two phases, a penalty on gradients, and state of its own."""

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
    """Trains one part of a network, as layerwise training does."""

    def __init__(self, unet: nn.Module, part: str = "unet.conv_in"):
        self.modules = {"unet": unet}
        self.phases = (Phase(f"unet.{part}", self.loss),)

    def loss(self, batch, step):
        images = batch["sample"]
        out = self.modules["unet"](images, torch.zeros(len(images))).sample
        return {"loss": (out - images).square().mean()}


class Exploding(Objective):
    """A loss that is not finite from its third step on, or a gradient that never is."""

    def __init__(self, unet: nn.Module, spoils: str = "loss"):
        self.modules, self.phases = {"unet": unet}, (Phase("unet", self.loss),)
        self.spoils = spoils

    def loss(self, batch, step):
        images = batch["sample"]
        out = self.modules["unet"](images, torch.zeros(len(images))).sample
        if self.spoils == "gradient":
            out.register_hook(lambda gradient: gradient * float("nan"))
        is_bad = self.spoils == "loss" and step.index >= 2
        return {"loss": (out - images).square().mean() * (float("nan") if is_bad else 1.0)}

    def validate(self, batch, step):
        return {"loss": torch.zeros(())}


class Resting(PartOnly):
    """Updates its network in every third step only."""

    def __init__(self, unet: nn.Module):
        self.modules, self.phases = {"unet": unet}, (Phase("unet", self.loss, every=3),)


class AverageTarget(Objective):
    """Moves a network away from the images, and towards its own moving average, as consistency models do."""

    def __init__(self, unet: nn.Module):
        self.modules, self.phases = {"unet": unet}, (Phase("unet", self.loss),)

    def loss(self, batch, step):
        average, images = step.average("unet"), batch["sample"]
        if average is None:
            raise ValueError("`training.ema` must name unet: its moving average is the target.")
        timesteps = torch.zeros(len(images), device=images.device)
        with torch.no_grad():
            target = average(images, timesteps).sample
        sample = self.modules["unet"](images, timesteps).sample
        return {"distance": (sample - target).square().mean(), "push": -0.01 * (sample - images).square().mean()}

    def validate(self, batch, step):
        return {"loss": torch.zeros(())}


class Blank(PartOnly):
    """Trains a network whose output is not finite in evaluation mode, though its weights and losses are."""

    def __init__(self, unet: nn.Module):
        super().__init__(unet)
        unet.register_forward_hook(self.spoil)

    @staticmethod
    def spoil(module, inputs, output):
        if not module.training:
            output.sample.fill_(float("nan"))

    def validate(self, batch, step):
        return {"loss": torch.zeros(())}
