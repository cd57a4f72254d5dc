"""Learning to copy images through a narrow, sparse, noisy or shallow code. Errors are those of pixels in [0, 1]."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step


class Reconstruction(Objective):
    """Mean squared error of pixels in [0, 1] between images and their reconstructions, of corrupted images if asked
    for (denoising autoencoders: Vincent et al. 2008).

    Args:
        autoencoder: called as `autoencoder(sample)`, or with `noise` (B, K) for `code_noise`; gives `sample`.
        mask: share of the pixels that are set to 0; the others are divided by 1 - `mask`, as Keras's Dropout does.
        patch_size: above 1, squares of this side are lost whole (He et al. 2021, arXiv 2111.06377, Sec. 3), and what
            is left stays as it is.
        noise: standard deviation of Gaussian noise on the pixels, in units of their range.
        code_noise: standard deviation of Gaussian noise on what the code layer is given, which drives a sigmoid code
            to 0 and 1 (Salakhutdinov & Hinton 2008, semantic hashing).
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        mask: float = 0.0,
        noise: float = 0.0,
        code_noise: float = 0.0,
        patch_size: int = 1,
    ):
        if not 0 <= mask < 1:
            raise ValueError(f"`mask` must lie in [0, 1), got {mask}.")
        if patch_size < 1:
            raise ValueError(f"`patch_size` must be at least 1, got {patch_size}.")
        for name, sigma in (("noise", noise), ("code_noise", code_noise)):
            if not 0 <= sigma < float("inf"):
                raise ValueError(f"`{name}` must be at least 0 and finite, got {sigma}.")
        if code_noise and not autoencoder.config.get("hidden_sizes"):
            raise ValueError(
                "`code_noise` must be 0 unless the model has `hidden_sizes`: it is added to the last ones."
            )
        self.modules = {"autoencoder": autoencoder}
        self.phases = (Phase("autoencoder", self.reconstruction_loss),)
        self.mask, self.noise, self.code_noise, self.patch_size = mask, noise, code_noise, patch_size
        self.code_inputs = autoencoder.config["hidden_sizes"][-1] if code_noise else None

    def reconstruction_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the error of reconstructions from the corrupted images, against the images as they are."""
        inputs = {"noise": self.code_noise * step.random.randn(self.code_inputs)} if self.code_noise else {}
        sample = self.corrupted(batch["sample"], step)
        return {"mse": mse(self.modules["autoencoder"](sample, **inputs).sample, batch["sample"])}

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns the error on images as they are and, where training corrupts them, on corrupted ones."""
        sample = batch["sample"]
        terms = {"loss": mse(self.modules["autoencoder"](sample).sample, sample)}
        if self.mask or self.noise:
            corrupted = self.corrupted(sample, step)
            terms["mse_corrupted"] = mse(self.modules["autoencoder"](corrupted).sample, sample)
        return terms

    def corrupted(self, sample: torch.Tensor, step: Step) -> torch.Tensor:
        """Returns `sample` (B, C, H, W) in [-1, 1] with pixels lost and noise added; its range may be exceeded."""
        if self.mask:
            sample = self.masked(sample, step)
        if self.noise:
            sample = sample + 2 * self.noise * step.random.randn(*sample.shape[1:])
        return sample

    @property
    def corruption(self) -> str:
        """Says how images are corrupted, "" if they are not."""
        lost = f"each pixel lost with probability {self.mask:g}, the others divided by {1 - self.mask:g}"
        if self.patch_size > 1:
            lost = f"each patch of {self.patch_size} x {self.patch_size} pixels lost with probability {self.mask:g}"
        noisy = f"Gaussian noise of standard deviation {self.noise:g}"
        return " and ".join([lost] * bool(self.mask) + [noisy] * bool(self.noise))

    def masked(self, sample: torch.Tensor, step: Step) -> torch.Tensor:
        """Returns `sample` with pixels, or patches of all channels, set to 0 (-1 here)."""
        channels, height, width = sample.shape[1:]
        side = self.patch_size
        if side == 1:
            return (step.random.rand(channels, height, width) >= self.mask) * (sample + 1) / (1 - self.mask) - 1
        rows, columns = math.ceil(height / side), math.ceil(width / side)
        kept = step.random.rand(1, rows, columns) >= self.mask  # (B, 1, H / P, W / P)
        kept = kept.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :height, :width]  # (B, 1, H, W)
        return kept * (sample + 1) - 1


class SparseReconstruction(Reconstruction):
    """Reconstruction with a penalty on active codes (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17, Sparse
    Autoencoders).

    The mean activation is that of a part of the batch of `part_size` images, in training and in validation, so that
    the penalty means the same in both; a process of several sees the parts of its own share.

    Args:
        l1_weight: of the sum of a code's absolute values, a mean over images.
        kl_weight: of the Kullback-Leibler divergence between `target` and each unit's mean activation, a sum over
            units (Eq. 17-2). Keras divides a penalty by the batch: its 5e-3 in batches of 32 is 1.5625e-4 here.
        target: the wanted mean activation, for `kl_weight`.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        l1_weight: float = 0.0,
        kl_weight: float = 0.0,
        target: float = 0.1,
        part_size: int = 32,
    ):
        super().__init__(autoencoder)
        for name, weight in (("l1_weight", l1_weight), ("kl_weight", kl_weight)):
            if not 0 <= weight < float("inf"):
                raise ValueError(f"`{name}` must be at least 0 and finite, got {weight}.")
        if not 0 < target < 1:
            raise ValueError(f"`target` must lie in (0, 1), got {target}.")
        if part_size < 1:
            raise ValueError(f"`part_size` must be at least 1, got {part_size}.")
        if kl_weight and autoencoder.config.get("latent_activation") != "sigmoid":
            raise ValueError("`kl_weight` must be 0 unless the model's `latent_activation` is sigmoid.")
        self.l1_weight, self.kl_weight, self.target, self.part_size = l1_weight, kl_weight, target, part_size

    def reconstruction_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the error and the weighted penalties."""
        output = self.modules["autoencoder"](batch["sample"])
        return {"mse": mse(output.sample, batch["sample"])} | self.penalties(output.latents)

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns error plus penalties, each alone, and the mean activation of the code."""
        output = self.modules["autoencoder"](batch["sample"])
        terms = {"mse": mse(output.sample, batch["sample"])} | self.penalties(output.latents)
        return {"loss": sum(terms.values()), **terms, "activation": output.latents.float().mean()}

    def penalties(self, latents: torch.Tensor) -> Losses:
        """Returns the weighted penalties on codes (B, L)."""
        terms = {}
        if self.l1_weight:
            terms["l1"] = self.l1_weight * latents.float().abs().sum(1).mean()
        if self.kl_weight:
            parts = latents.float().split(self.part_size)
            divergences = [len(part) * bernoulli_kl(self.target, part.mean(0)).sum() for part in parts]
            terms["sparsity"] = self.kl_weight * sum(divergences) / len(latents)
        return terms


class LayerwiseReconstruction(Objective):
    """Trains one layer of a stack as an autoencoder of what the layers beneath give, which stay as they are (Bengio et
    al. 2006, greedy layer-wise training).

    Args:
        autoencoder: called as `autoencoder(sample, layer=k)`, gives `sample` and `target`; has `layers`.
        layer: k, from 0.
    """

    def __init__(self, autoencoder: nn.Module, layer: int):
        count = len(getattr(autoencoder, "layers", ()))
        if not count:
            raise ValueError(f"`autoencoder` must be a stack of `layers`, got {type(autoencoder).__name__}.")
        if not 0 <= layer < count:
            raise ValueError(f"`layer` must lie in 0..{count - 1}, got {layer}.")
        self.modules = {"autoencoder": autoencoder}
        self.phases = (Phase(f"autoencoder.layers.{layer}", self.layer_loss),)
        self.layer = layer

    def layer_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the mean squared error of the layer's reconstruction."""
        output = self.modules["autoencoder"](batch["sample"], layer=self.layer)
        return {"layer_mse": F.mse_loss(output.sample.float(), output.target.float())}


def mse(sample: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns the mean squared difference of images in [-1, 1], in units of pixels in [0, 1]."""
    return F.mse_loss(sample.float(), other.float()) / 4


def bernoulli_kl(p: float, q: torch.Tensor) -> torch.Tensor:
    """Returns KL(p || q) of two coins, elementwise (Eq. 17-2); q is kept off 0 and 1 by Keras's 1e-7."""
    q = q.clamp(1e-7, 1 - 1e-7)
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
