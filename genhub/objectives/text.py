"""Noise prediction from a text, with its encoder trained jointly (Rombach et al. 2022, arXiv 2112.10752, Sec. 3.3)."""

from typing import Any

import torch
from diffusers import ModelMixin
from torch import nn

from genhub.objectives.diffusion import NoisePrediction, NoiseSchedule
from genhub.objectives.objective import Batch, Phase, Step


class TextConditioned(nn.Module):
    """A denoising network that reads tokens."""

    def __init__(self, unet: ModelMixin, text_encoder: nn.Module):
        super().__init__()
        self.unet, self.text_encoder, self.config = unet, text_encoder, unet.config

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, input_ids: torch.Tensor) -> Any:
        """Returns the network's output for tokens (B, T)."""
        states = self.text_encoder(input_ids).last_hidden_state
        return self.unet(sample=sample, timestep=timestep, encoder_hidden_states=states)


class TextNoisePrediction(NoisePrediction):
    """Predicts the noise, or the target of the scheduler's `prediction_type`, from the caption of each image.

    A frozen text encoder is not trained.

    Args:
        unet: `UNet2DConditionModel`, whose `cross_attention_dim` is the `hidden_size` of the text encoder.
        text_encoder: a model of transformers that returns `last_hidden_state`, such as `CLIPTextModel`.
        tokenizer: of the captions.
        scheduler, loss, timesteps: as in `NoisePrediction`.
        caption_dropout: probability of replacing a caption by the empty one, which guidance leads away from (Ho &
            Salimans 2022, arXiv 2207.12598, Algorithm 1).
    """

    def __init__(
        self,
        unet: ModelMixin,
        text_encoder: nn.Module,
        tokenizer: Any,
        scheduler: NoiseSchedule,
        loss: str = "mse",
        timesteps: str = "stratified",
        caption_dropout: float = 0.1,
    ):
        super().__init__(unet, scheduler, loss=loss, timesteps=timesteps)
        if not 0 <= caption_dropout < 1:
            raise ValueError(f"`caption_dropout` must lie in [0, 1), got {caption_dropout}.")
        config: Any = text_encoder.config
        width, taken = config.hidden_size, unet.config.get("cross_attention_dim")
        if taken != width:
            raise ValueError(
                f"`components.unet.cross_attention_dim` must be the text encoder's `hidden_size`, {width}, got "
                f"{taken}."
            )
        self.modules = {"unet": TextConditioned(unet, text_encoder)}
        is_trained = any(parameter.requires_grad for parameter in text_encoder.parameters())
        parts = ("unet", "text_encoder") if is_trained else ("unet",)
        self.phases = (Phase("unet", self.denoising_loss, submodules=parts),)
        self.caption_dropout = caption_dropout
        self.empty = torch.tensor(tokenizer("", padding="max_length", max_length=tokenizer.model_max_length).input_ids)

    def check_labels(self, images) -> None:
        """Requires captions.

        Raises:
            ValueError: the data have none.
        """
        super().check_labels(images)
        if images.input_ids is None:
            raise ValueError("`data.captions` must be set: the network reads a caption of each image.")

    def predict(self, x_t: torch.Tensor, timesteps: torch.Tensor, batch: Batch, step: Step) -> torch.Tensor:
        """Returns the network's prediction (B, C, H, W), with captions dropped at random."""
        input_ids = self.drop_captions(batch["input_ids"], step)
        return self.modules["unet"](sample=x_t, timestep=timesteps, input_ids=input_ids).sample.float()

    def drop_captions(self, input_ids: torch.Tensor, step: Step) -> torch.Tensor:
        """Replaces captions (B, T) by the empty one with probability `caption_dropout`."""
        is_dropped = step.random.rand() < self.caption_dropout  # (B,)
        return torch.where(is_dropped[:, None], self.empty.to(input_ids.device), input_ids)
