"""Reconstruction from a narrow, sparse, noisy or shallow code. Errors are those of pixels in [0, 1]."""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import ModelMixin

from genhub.objectives.objective import Batch, Losses, Objective, Phase, Step


class Reconstruction(Objective):
    """Mean squared error, of pixels in [0, 1], between images and their reconstructions, optionally from corrupted
    images (denoising autoencoders: Vincent et al. 2008).

    Args:
        autoencoder: called as `autoencoder(sample)`, or with `noise` (B, K) for `code_noise`; returns `sample`.
        mask: probability of setting a pixel to 0; the others are divided by 1 - `mask`, as in Keras's Dropout.
        noise: standard deviation of Gaussian noise on pixels in [0, 1].
        code_noise: standard deviation of Gaussian noise on the input of the code layer, which drives a sigmoid code
            to 0 and 1 (Salakhutdinov & Hinton 2008, semantic hashing).
        patch_size: above 1, `mask` applies to squares of this side (He et al. 2021, arXiv 2111.06377, Sec. 3), and
            the other pixels are not divided.
    """

    def __init__(
        self,
        autoencoder: ModelMixin,
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
        self.code_inputs = autoencoder.config["hidden_sizes"][-1] if code_noise else 0

    def reconstruction_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the error of reconstructions of the corrupted images, against the clean ones."""
        inputs = {"noise": self.code_noise * step.random.randn(self.code_inputs)} if self.code_noise else {}
        sample = self.corrupt(batch["sample"], step)
        return {"mse": mse(self.modules["autoencoder"](sample, **inputs).sample, batch["sample"])}

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns the error on clean images and, if training corrupts them, on corrupted ones."""
        sample = batch["sample"]
        losses = {"loss": mse(self.modules["autoencoder"](sample).sample, sample)}
        if self.mask or self.noise:
            corrupted = self.corrupt(sample, step)
            losses["mse_corrupted"] = mse(self.modules["autoencoder"](corrupted).sample, sample)
        return losses

    def corrupt(self, sample: torch.Tensor, step: Step) -> torch.Tensor:
        """Masks images (B, C, H, W) in [-1, 1] and adds noise; the result may exceed that range."""
        if self.mask:
            sample = self.mask_pixels(sample, step)
        if self.noise:
            sample = sample + 2 * self.noise * step.random.randn(*sample.shape[1:])
        return sample

    @property
    def corruption(self) -> str:
        """The corruption in words, "" if there is none."""
        words = []
        if self.mask and self.patch_size > 1:
            words.append(
                f"each patch of {self.patch_size} x {self.patch_size} pixels lost with probability {self.mask:g}"
            )
        elif self.mask:
            words.append(f"each pixel lost with probability {self.mask:g}, the others divided by {1 - self.mask:g}")
        if self.noise:
            words.append(f"Gaussian noise of standard deviation {self.noise:g}")
        return " and ".join(words)

    def mask_pixels(self, sample: torch.Tensor, step: Step) -> torch.Tensor:
        """Sets random pixels, or patches in all channels, of images (B, C, H, W) to black (-1)."""
        channels, height, width = sample.shape[1:]
        side = self.patch_size
        if side == 1:
            return (step.random.rand(channels, height, width) >= self.mask) * (sample + 1) / (1 - self.mask) - 1
        rows, columns = math.ceil(height / side), math.ceil(width / side)
        is_kept = step.random.rand(1, rows, columns) >= self.mask  # (B, 1, H / P, W / P)
        is_kept = is_kept.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :height, :width]  # (B, 1, H, W)
        return is_kept * (sample + 1) - 1


class SparseReconstruction(Reconstruction):
    """Reconstruction with a penalty on active codes (Géron, *Hands-On Machine Learning*, 3rd ed., ch. 17, Sparse
    Autoencoders).

    Args:
        l1_weight, l2_weight: of the sum of the code's absolute values, and of its squares, averaged over images.
        kl_weight: of the Kullback-Leibler divergence between `target` and the mean activation of a unit, summed over
            units (Eq. 17-2). Keras divides a penalty by the batch size: its 5e-3 in batches of 32 is 1.5625e-4 here.
        squared_weight: of the squared difference between the two in its place, to compare with.
        target: desired mean activation, for `kl_weight` and `squared_weight`.
        part_size: number of images over which activations are averaged, in training and in validation, so that the
            penalty means the same in both; processes average over their own images.
    """

    def __init__(
        self,
        autoencoder: ModelMixin,
        l1_weight: float = 0.0,
        kl_weight: float = 0.0,
        target: float = 0.1,
        part_size: int = 32,
        l2_weight: float = 0.0,
        squared_weight: float = 0.0,
    ):
        super().__init__(autoencoder)
        weights = {"l1_weight": l1_weight, "l2_weight": l2_weight}
        weights |= {"kl_weight": kl_weight, "squared_weight": squared_weight}
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"`{name}` must be at least 0 and finite, got {weight}.")
        if not 0 < target < 1:
            raise ValueError(f"`target` must lie in (0, 1), got {target}.")
        if part_size < 1:
            raise ValueError(f"`part_size` must be at least 1, got {part_size}.")
        if kl_weight and autoencoder.config.get("latent_activation") != "sigmoid":
            raise ValueError("`kl_weight` must be 0 unless the model's `latent_activation` is sigmoid.")
        self.weights, self.target, self.part_size = weights, target, part_size

    def reconstruction_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the reconstruction error and the weighted penalties."""
        output = self.modules["autoencoder"](batch["sample"])
        return {"mse": mse(output.sample, batch["sample"])} | self.penalties(output.latents)

    def validate(self, batch: Batch, step: Step) -> Losses:
        """Returns the error plus penalties, each of them, and the mean activation of the code."""
        output = self.modules["autoencoder"](batch["sample"])
        losses = {"mse": mse(output.sample, batch["sample"])} | self.penalties(output.latents)
        return {
            "loss": cast("torch.Tensor", sum(losses.values())),
            **losses,
            "activation": output.latents.float().mean(),
        }

    def penalties(self, latents: torch.Tensor) -> Losses:
        """Returns the weighted penalties on codes (B, L)."""
        codes, losses = latents.float(), {}
        for name, size in (("l1", codes.abs()), ("l2", codes.square())):
            if weight := self.weights[f"{name}_weight"]:
                losses[name] = weight * size.sum(1).mean()
        for name, weight_of, distance in (
            ("sparsity", "kl", bernoulli_kl),
            ("squared", "squared", squared_difference),
        ):
            if weight := self.weights[f"{weight_of}_weight"]:
                parts = [len(part) * distance(self.target, part.mean(0)).sum() for part in codes.split(self.part_size)]
                losses[name] = weight * sum(parts) / len(codes)
        return losses


class LayerwiseReconstruction(Objective):
    """Trains one layer of a stack as an autoencoder of the output of the frozen layers below (Bengio et al. 2006,
    greedy layer-wise training), optionally from a corrupted input of that layer (Vincent et al. 2010, stacked
    denoising autoencoders, Sec. 3.5).

    Args:
        autoencoder: called as `autoencoder(sample, layer=k)`, for `mask` also with `mask` (B, K); returns `sample` and
            `target`; has `layers`, whose `encoder` has K `in_features`.
        layer: k, from 0.
        mask: probability of setting an input of the layer to 0; the others are divided by 1 - `mask`, as in Keras's
            Dropout.
    """

    def __init__(self, autoencoder: ModelMixin, layer: int, mask: float = 0.0):
        if not 0 <= mask < 1:
            raise ValueError(f"`mask` must lie in [0, 1), got {mask}.")
        count = len(getattr(autoencoder, "layers", ()))
        if not count:
            raise ValueError(f"`autoencoder` must be a stack of `layers`, got {type(autoencoder).__name__}.")
        if not 0 <= layer < count:
            raise ValueError(f"`layer` must lie in 0..{count - 1}, got {layer}.")
        self.modules = {"autoencoder": autoencoder}
        self.phases = (Phase(f"autoencoder.layers.{layer}", self.layer_loss),)
        self.layer, self.mask = layer, mask
        self.inputs = autoencoder.layers[layer].encoder.in_features if mask else 0

    def layer_loss(self, batch: Batch, step: Step) -> Losses:
        """Returns the mean squared error of the layer's reconstruction."""
        inputs: dict[str, Any] = {"layer": self.layer}
        if self.mask:
            inputs["mask"] = (step.random.rand(self.inputs) >= self.mask) / (1 - self.mask)
        output = self.modules["autoencoder"](batch["sample"], **inputs)
        return {"layer_mse": F.mse_loss(output.sample.float(), output.target.float())}


def mse(sample: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns the mean squared error between images in [-1, 1], for pixels in [0, 1]."""
    return F.mse_loss(sample.float(), other.float()) / 4


def bernoulli_kl(p: float, q: torch.Tensor) -> torch.Tensor:
    """Returns KL(p || q) of two Bernoulli distributions, elementwise (Eq. 17-2); q is clamped by Keras's 1e-7."""
    q = q.clamp(1e-7, 1 - 1e-7)
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def squared_difference(p: float, q: torch.Tensor) -> torch.Tensor:
    """Returns (q - p)^2, elementwise."""
    return (q - p).square()
