"""The evidence lower bound (Kingma & Welling 2013, arXiv 1312.6114), in nats per image.

Both likelihoods follow one convention: sums over pixels and latents, means over images, and densities of pixels in
[0, 1] with all constants. Bits per dimension are nats / (D log 2). The book's loss, MSE + KL / D, is
(-ELBO - D log(sigma sqrt(2 pi))) / D for a Gaussian with sigma^2 = 1/2.
"""

import math

import torch
import torch.nn.functional as F
from diffusers import ModelMixin

from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step

BINARISE = (None, "threshold", "random")


class EvidenceLowerBound(Objective):
    """-log p(x|z) + beta KL(q(z|x) || p(z)) with one z ~ q(z|x) per image; the model's config chooses p(x|z).

    Args:
        vae: called as `vae(sample, class_labels, noise)`, returns `sample`, `logits`, `latents`, `mean` and `logvar`;
            its config has `latent_channels`, `likelihood` and `sigma`.
        kl_weight: beta (Higgins et al. 2017, beta-VAE); 1 is the bound.
        warm_up: share of the stage in which the weight rises linearly from 0 (Bowman et al. 2016, arXiv 1511.06349,
            Sec. 3.1).
        has_exact_kl: whether the KL is the closed form (Kingma & Welling 2013, App. B), or log q(z|x) - log p(z) at
            the sampled z, as in the tutorial.
        binarise: make pixels 0 or 1: "threshold" (1 above 1/2, as in the tutorial) or "random" (in each step anew, 1
            with the grey value as probability; Salakhutdinov & Murray 2008). None keeps them grey, as soft targets of
            a Bernoulli.
    """

    def __init__(
        self,
        vae: ModelMixin,
        kl_weight: float = 1.0,
        warm_up: float = 0.0,
        has_exact_kl: bool = True,
        binarise: str | None = None,
    ):
        if not 0 <= kl_weight < math.inf:
            raise ValueError(f"`kl_weight` must be at least 0 and finite, got {kl_weight}.")
        if not 0 <= warm_up <= 1:
            raise ValueError(f"`warm_up` must lie in [0, 1], got {warm_up}.")
        if binarise not in BINARISE:
            raise ValueError(f"`binarise` must be None, threshold or random, got {binarise!r}.")
        self.modules = {"vae": vae}
        self.phases = (Phase("vae", self.bound_loss),)
        self.kl_weight, self.warm_up, self.has_exact_kl = kl_weight, warm_up, has_exact_kl
        self.binarise = binarise
        if binarise is not None:
            self.notes = (f"Pixels are made black or white (`objective.binarise: {binarise}`).",)
        config = vae.config
        self.latent_channels, self.is_conditional = config["latent_channels"], bool(config["num_class_embeds"])
        self.sigma = config["sigma"] if config["likelihood"] == "gaussian" else None

    def check(self, shape) -> None:
        super().check(shape)
        if self.binarise is not None and shape.channels > 1:
            raise ValueError(
                f"`objective.binarise` must be null for colour images, whose pixels would be of 8 colours, got "
                f"{self.binarise}; `data.channels: 1` makes them grey."
            )

    def bound_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns both terms in nats per image, the KL times its weight."""
        weight = self.kl_weight * (min(step.progress / self.warm_up, 1.0) if self.warm_up else 1.0)
        *_, reconstruction, kl = self.terms(batch, step)
        return {"reconstruction": reconstruction, "kl": weight * kl}

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns the negative bound (of weight 1), its terms, the squared error of pixels in [0, 1] and, for a
        Gaussian, the book's loss."""
        sample, target, reconstruction, kl = self.terms(batch, step)
        error = F.mse_loss(sample.float(), target) / 4
        losses = {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl, "mse": error}
        if self.sigma is not None:
            losses["mse_plus_kl"] = error + kl / target.shape[1:].numel()
        return losses

    def terms(self, batch: Batch, step: Step) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns reconstructions and targets (B, C, H, W), and the means over images of -log p(x|z) and the KL."""
        noise = step.random.randn(self.latent_channels)
        target = self.binarise_pixels(batch["sample"], step)
        output = self.modules["vae"](target, batch["labels"] if self.is_conditional else None, noise)
        if self.sigma is None:
            pixels = (target + 1) / 2
            loss = F.binary_cross_entropy_with_logits(output.logits.float(), pixels, reduction="none")
            reconstruction = loss.flatten(1).sum(1)
        else:
            error = (output.sample.float() - target).flatten(1) / 2  # (B, D)
            constant = error.shape[1] * math.log(self.sigma * math.sqrt(2 * math.pi))
            reconstruction = error.square().sum(1) / (2 * self.sigma**2) + constant
        mean, logvar = output.mean.float(), output.logvar.float()
        if self.has_exact_kl:
            kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1)
        else:  # log q - log p at z = mean + exp(logvar / 2) noise; the constants cancel
            kl = 0.5 * (output.latents.float().square() - noise.square() - logvar).sum(1)
        return output.sample, target, reconstruction.mean(), kl.mean()

    def binarise_pixels(self, sample: torch.Tensor, step: Step) -> torch.Tensor:
        """Sets the pixels of images (B, C, H, W) in [-1, 1] to -1 or 1, as `binarise` says."""
        if self.binarise is None:
            return sample
        if self.binarise == "threshold":
            return 2.0 * (sample > 0) - 1
        return 2.0 * (step.random.rand(*sample.shape[1:]) < (sample + 1) / 2) - 1
