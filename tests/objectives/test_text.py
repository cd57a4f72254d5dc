"""Noise prediction from captions: what the networks are given, and which of them are trained."""

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from tiny_pipelines import tiny_stable_diffusion
from torch.testing import assert_close

from genhub.data import Images
from genhub.objectives import NoisePrediction, Step, TextNoisePrediction
from genhub.training.trainable import trainable_parameters
from genhub.utils.randomness import BatchRandom

IDS = torch.tensor([[0, 3, 1], [0, 2, 1], [0, 1, 1]])


def parts():
    pipe = tiny_stable_diffusion()
    return pipe.unet, pipe.text_encoder


def loss(objective, ids, x_0):
    batch = {"sample": x_0, "input_ids": ids}
    step = Step(0, 0.0, BatchRandom("test", rows=range(len(ids)), total=len(ids)))
    return objective.denoising_loss(batch, step)["loss"]


def latents(unet):
    size, channels = unet.config.sample_size, unet.config.in_channels
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_that_of_the_network_given_the_encoded_captions():
    unet, encoder = parts()
    x_0, scheduler = latents(unet), DDPMScheduler()

    class Given(torch.nn.Module):
        config = unet.config

        def forward(self, sample, timestep):
            return unet(sample, timestep, encoder(IDS)[0])

    plain = NoisePrediction(Given(), scheduler, loss="mse", timesteps="stratified")
    plain.num_class_embeds = None

    assert_close(loss(TextNoisePrediction(unet, encoder, scheduler), IDS, x_0), loss(plain, IDS, x_0))


def test_captions_make_a_difference_and_both_networks_get_gradients():
    unet, encoder = parts()
    objective, x_0 = TextNoisePrediction(unet, encoder, DDPMScheduler()), latents(unet)

    value = loss(objective, IDS, x_0)
    value.backward()

    assert value != loss(objective, IDS.flip(0), x_0)
    trained = trainable_parameters(objective.phases[0], objective)
    assert {*map(id, trained)} == {id(p) for part in (unet, encoder) for p in part.parameters()}
    assert encoder.get_input_embeddings().weight.grad[IDS.unique()].abs().sum() > 0


def test_a_frozen_encoder_is_not_trained():
    unet, encoder = parts()
    objective = TextNoisePrediction(unet, encoder.requires_grad_(False), DDPMScheduler())

    trained = trainable_parameters(objective.phases[0], objective)

    assert {*map(id, trained)} == {id(p) for p in unet.parameters()}


def test_an_encoder_of_another_width_is_refused():
    _, encoder = parts()
    unet = UNet2DConditionModel(
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=encoder.config.hidden_size + 1,
    )

    with pytest.raises(ValueError, match=r"`components.unet.cross_attention_dim` must be the text encoder's"):
        TextNoisePrediction(unet, encoder, DDPMScheduler())


def test_data_without_captions_are_refused():
    objective = TextNoisePrediction(*parts(), DDPMScheduler())

    with pytest.raises(ValueError, match=r"`data.captions` must be set"):
        objective.check_labels(Images(torch.zeros(2, 1, 8, 8).byte()))
