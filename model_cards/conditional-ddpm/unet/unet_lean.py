"""A lean convolutional U-Net, for diffusion models of small images that train in minutes on a CPU.

The architecture keeps what such a run can use of the U-Net of Ho et al. (2020, arXiv 2006.11239, App. B), and spends
its arithmetic on dense 3 x 3 convolutions, which run at the full rate of any processor:

- *Patches.* Each p x p patch of pixels becomes p^2 channels of one position (Luhman & Luhman 2022, arXiv 2207.04316).
- *Blocks.* Layer normalisation over channels, scaled and shifted by the noise level and the class (Perez et al. 2017,
  arXiv 1709.07871; Peebles & Xie 2022, arXiv 2212.09748, Sec. 3.2), 3 x 3 convolution, SiLU, 3 x 3 convolution, added
  to the input. The second convolution starts at 0, so that each block starts as the identity.
- *Levels.* A 2 x 2 convolution of stride 2 halves the resolution, its transpose doubles it. Skip connections are
  projected and *added*, not concatenated, so that no convolution meets twice the channels.
- *No attention.* At 14 x 14 and 7 x 7 positions 3 x 3 convolutions see the whole image.
- *Noise levels.* Sines and cosines of ln sigma, sigma = sqrt((1 - alpha_bar) / alpha_bar), not of the timestep, whose
  meaning depends on the schedule.
- *Preconditioning* (Karras et al. 2022, arXiv 2206.00364, Sec. 5, for a variance-preserving process and data of any
  mean). With mean m and standard deviation s of the pixels, alpha^2 = alpha_bar, the network F sees data of variance 1
  and predicts a target of variance 1:

      D^2 = alpha^2 s^2 + 1 - alpha^2,    z = (x_t - alpha m) / D
      x_0 = m + (alpha s^2 / D) z - (s sqrt(1 - alpha^2) / D) F(z, ln sigma)
      v   = (alpha x_t - x_0) / sqrt(1 - alpha^2)
          = sqrt(1 - alpha^2) (alpha (1 - s^2) z / D - m) + (s / D) F

  so that v of Salimans & Ho (2022, arXiv 2202.00512) is well conditioned at both ends of the schedule.
"""

from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, DDPMScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn


class NoiseLevelEmbedding(nn.Module):
    """Maps ln sigma (B,) to an embedding (B, E): waves of 16 frequencies from 1/4 to 16, then two layers."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear_1 = nn.Linear(32, channels)
        self.linear_2 = nn.Linear(channels, channels)

    def forward(self, log_sigma: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        angles = log_sigma[:, None] * torch.logspace(-2, 4, 16, base=2, device=log_sigma.device)  # (B, 16)
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        return self.linear_2(F.silu(self.linear_1(waves.to(dtype))))


class LeanBlock(nn.Module):
    """A residual block (B, C, H, W) -> (B, C, H, W), modulated by an embedding (B, E)."""

    def __init__(self, channels: int, embedding_channels: int):
        super().__init__()
        self.modulation = nn.Linear(embedding_channels, 2 * channels)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        scale, shift = self.modulation(embedding)[:, None, None].chunk(2, dim=-1)  # (B, 1, 1, C) each
        branch = layer_norm(hidden)  # (B, H, W, C)
        branch = torch.addcmul(shift, branch, 1 + scale).permute(0, 3, 1, 2)
        return hidden + self.conv_2(F.silu(self.conv_1(branch)))


def layer_norm(hidden: torch.Tensor) -> torch.Tensor:
    """Normalises the channels of each position; (B, C, H, W) -> (B, H, W, C), a view in channels-last memory."""
    return F.layer_norm(hidden.permute(0, 2, 3, 1), hidden.shape[1:2])


class LeanUNet2DModel(ModelMixin, ConfigMixin):
    """Predicts v from a noisy image (B, C, H, W), its timestep and its class.

    Args:
        sample_size: height and width; divisible by `patch_size` times 2 for each level but the first.
        patch_size: p.
        block_out_channels: channels of each level.
        layers_per_block: residual blocks of each level, on the way down and again on the way up; the coarsest level
            has one more in the middle.
        embedding_channels: of the noise level and the class.
        num_class_embeds: number of classes, with the null class if there is one; None for an unconditional network.
        data_mean, data_std: of the pixels in [-1, 1], or of the latents, over all channels.
        num_train_timesteps, beta_schedule: the scheduler's, as in `diffusers.DDPMScheduler`; they map timesteps to
            noise levels.
        prediction_type: the scheduler's, "v_prediction".

    Raises:
        ValueError: a size that does not fit the levels, or a `data_std` that is not above 0.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("LeanBlock",)
    _supports_group_offloading = False  # its hooks see blocks in the order of their list, and the way up goes back
    takes_class_mixtures = True

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        patch_size: int = 2,
        block_out_channels: tuple[int, ...] = (64, 96),
        layers_per_block: tuple[int, ...] = (1, 2),
        embedding_channels: int = 256,
        num_class_embeds: int | None = None,
        data_mean: float = 0.0,
        data_std: float = 0.5,
        num_train_timesteps: int = 4000,
        beta_schedule: str = "squaredcos_cap_v2",
        prediction_type: str = "v_prediction",
    ):
        super().__init__()
        self._check_config()
        names: Any = {"num_train_timesteps": num_train_timesteps, "beta_schedule": beta_schedule}
        schedule = DDPMScheduler(**names)
        self.alphas_cumprod = schedule.alphas_cumprod  # (T,); no buffer, so that it stays float32

        self.gradient_checkpointing = False
        self.noise_level = NoiseLevelEmbedding(embedding_channels)
        self.class_embedding = nn.Embedding(num_class_embeds, embedding_channels) if num_class_embeds else None

        widths, pixels = block_out_channels, in_channels * patch_size**2
        levels = [*zip(widths, layers_per_block, strict=True)]
        self.conv_in = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(self._make_blocks(width, count) for width, count in levels)
        self.downsamplers = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.mid_block = LeanBlock(widths[-1], embedding_channels)
        self.skips = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for width in widths)
        self.up_blocks = nn.ModuleList(self._make_blocks(width, count) for width, count in levels)
        self.upsamplers = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.conv_out = nn.Conv2d(widths[0], pixels, 3, padding=1)
        self._initialise()

    def _check_config(self):
        """Checks the arguments of the constructor."""
        config, levels = self.config, len(self.config["block_out_channels"])
        patch_size, sample_size = config["patch_size"], config["sample_size"]
        if patch_size < 1:
            raise ValueError(f"`patch_size` must be at least 1, got {patch_size}.")
        if len(config["layers_per_block"]) != levels:
            got = list(config["layers_per_block"])
            raise ValueError(f"`layers_per_block` must have one number for each of {levels} levels, got {got}.")
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        coarsest = patch_size * 2 ** (levels - 1)
        if min(height, width) < 1 or height % coarsest or width % coarsest:
            raise ValueError(
                f"`sample_size` must be divisible by {coarsest} (patches, then levels), got {sample_size}."
            )
        if config["prediction_type"] != "v_prediction":
            raise ValueError(f"`prediction_type` must be v_prediction, got {config['prediction_type']!r}.")
        if not 0 < config["data_std"] < float("inf"):
            raise ValueError(f"`data_std` must be above 0, got {config['data_std']}.")

    def _make_blocks(self, channels: int, count: int) -> nn.ModuleList:
        return nn.ModuleList(LeanBlock(channels, self.config["embedding_channels"]) for _ in range(count))

    def _initialise(self):
        """Starts every block, and the prediction, at 0."""
        last = [self.conv_out, *(part.conv_2 for part in self.modules() if isinstance(part, LeanBlock))]
        for parameter in nn.ModuleList(last).parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        class_labels: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """Predicts v at `timestep`, a scalar or (B,), of classes (B,) or of mixtures of them, (B, `num_class_embeds`)
        weights.

        Raises:
            ValueError: `class_labels` are missing, or given to an unconditional network.
        """
        if (class_labels is None) != (self.class_embedding is None):
            raise ValueError(
                f"`class_labels` must be {'unset' if self.class_embedding is None else 'given'}: "
                f"`num_class_embeds` is {self.config['num_class_embeds']}."
            )
        self.alphas_cumprod = self.alphas_cumprod.to(sample.device)
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        alpha_bar = self.alphas_cumprod[timesteps.long()][:, None, None, None]
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        mean, std = self.config["data_mean"], self.config["data_std"]
        deviation = (alpha_bar * std**2 + sigma**2).sqrt()  # D

        z = (sample - alpha * mean) / deviation
        embedding = self.noise_level((sigma / alpha).log().flatten(), sample.dtype)
        if class_labels is not None:
            embedding = embedding + self._embed(class_labels)
        prediction = self._denoise(z.to(sample.dtype), F.silu(embedding))
        v = sigma * (alpha * (1 - std**2) / deviation * z - mean) + std / deviation * prediction

        v = v.to(sample.dtype)
        return UNet2DOutput(sample=v) if return_dict else (v,)

    def _embed(self, class_labels: torch.Tensor) -> torch.Tensor:
        """Embeds classes (B,), or mixtures of them, (B, `num_class_embeds`) weights."""
        assert self.class_embedding is not None
        if not class_labels.is_floating_point():
            return self.class_embedding(class_labels)
        classes = torch.arange(class_labels.shape[1], device=class_labels.device)
        return class_labels @ self.class_embedding(classes)

    def _denoise(self, z: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Returns F(z) for z of variance 1, both (B, C, H, W)."""
        patch_size = self.config["patch_size"]
        hidden = self.conv_in(F.pixel_unshuffle(z, patch_size))  # (B, C_1, H / p, W / p)
        skips = []
        for level, blocks in enumerate(self.down_blocks):
            if level:
                hidden = self.downsamplers[level - 1](hidden)  # half the height and width
            for block in blocks.children():
                hidden = self._run(block, hidden, embedding)
            skips.append(hidden)
        hidden = self._run(self.mid_block, hidden, embedding)
        for level in reversed(range(len(skips))):
            hidden = hidden + self.skips[level](skips[level])
            for block in self.up_blocks[level].children():
                hidden = self._run(block, hidden, embedding)
            if level:
                hidden = self.upsamplers[level - 1](hidden)  # twice the height and width
        hidden = layer_norm(hidden).permute(0, 3, 1, 2)
        return F.pixel_shuffle(self.conv_out(hidden), patch_size)

    def _run(self, block: nn.Module, hidden: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return cast(Any, self)._gradient_checkpointing_func(block, hidden, embedding)
        return block(hidden, embedding)
