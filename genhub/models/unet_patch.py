"""A U-Net on patches of pixels (Luhman & Luhman 2022, *Improving Diffusion Model Efficiency Through Patching*, arXiv
2207.04316, Sec. 3).

Each p x p patch becomes p^2 channels of one position, so the network computes on 1 / p^2 of the positions. Pixels are
only rearranged: noise, noise levels and prediction targets are those of the full image. Departure from the paper: no
convolution before the patches.
"""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput


class PatchUNet2DModel(ModelMixin, ConfigMixin):
    """Maps a noisy image (B, C, H, W) and its timestep to a prediction of its shape, by a `UNet2DModel` on patches.

    Args:
        patch_size: p; `sample_size` divided by it must halve once per level but the last.
        num_class_embeds: number of classes, with the null class if there is one; None for an unconditional network.
        other arguments: those of `diffusers.UNet2DModel`.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("UNet2DModel",)
    _group_offload_block_modules = ("unet",)

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 28,
        in_channels: int = 1,
        patch_size: int = 2,
        block_out_channels: tuple[int, ...] = (64, 128),
        down_block_types: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D"),
        up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block: int = 2,
        attention_head_dim: int = 8,
        norm_num_groups: int = 32,
        num_class_embeds: int | None = None,
    ):
        super().__init__()
        if patch_size < 1:
            raise ValueError(f"`patch_size` must be at least 1, got {patch_size}.")
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        coarsest = patch_size * 2 ** (len(block_out_channels) - 1)
        if min(height, width) < 1 or height % coarsest or width % coarsest:
            raise ValueError(
                f"`sample_size` must be divisible by {coarsest} (patches, then levels), got {sample_size}."
            )
        attending = [c for c, kind in zip(block_out_channels, down_block_types, strict=False) if "Attn" in kind]
        narrowest = min([*attending, block_out_channels[-1]])  # the middle block has attention too
        if not 1 <= attention_head_dim <= narrowest:
            raise ValueError(f"`attention_head_dim` must lie between 1 and {narrowest}, got {attention_head_dim}.")
        self.unet = UNet2DModel(
            sample_size=(height // patch_size, width // patch_size),
            in_channels=in_channels * patch_size**2,
            out_channels=in_channels * patch_size**2,
            block_out_channels=block_out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            layers_per_block=layers_per_block,
            attention_head_dim=attention_head_dim,
            norm_num_groups=norm_num_groups,
            num_class_embeds=num_class_embeds,
        )

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        class_labels: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """Predicts the target of the scheduler's `prediction_type` at `timestep` (scalar or (B,))."""
        patches = F.pixel_unshuffle(sample, self.config["patch_size"])  # (B, C p^2, H / p, W / p)
        patches = self.unet(patches, timestep, class_labels).sample
        sample = F.pixel_shuffle(patches, self.config["patch_size"])  # (B, C, H, W)
        return UNet2DOutput(sample=sample) if return_dict else (sample,)
