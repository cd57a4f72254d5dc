"""Noise prediction from captions: what the networks are given, and which of them are trained."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from tiny_pipelines import tiny_stable_diffusion
from torch.testing import assert_close

from genhub.data import Images, tokenize
from genhub.objectives import NoisePrediction, Step, TextNoisePrediction
from genhub.training.trainable import trainable_parameters
from genhub.utils.randomness import BatchRandom

IDS = F.pad(torch.tensor([[0, 3, 1], [0, 2, 1], [0, 1, 1]]), (0, 13), value=1)  # padded, to the 16 of the tokenizer


def parts():
    pipe = tiny_stable_diffusion()
    return pipe.unet, pipe.text_encoder, pipe.tokenizer


def objective_of(unet, text_encoder, tokenizer, **arguments):
    return TextNoisePrediction(unet, text_encoder, tokenizer, DDPMScheduler(), **arguments)


def loss(objective, ids, x_0):
    batch = {"sample": x_0, "input_ids": ids}
    step = Step(0, 0.0, BatchRandom("test", rows=range(len(ids)), total=len(ids)))
    return objective.denoising_loss(batch, step)["loss"]


def latents(unet):
    size, channels = unet.config.sample_size, unet.config.in_channels
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_that_of_the_network_given_the_encoded_captions():
    unet, encoder, tokenizer = parts()
    x_0, scheduler = latents(unet), DDPMScheduler()

    class Given(torch.nn.Module):
        config = unet.config

        def forward(self, sample, timestep):
            return unet(sample, timestep, encoder(IDS)[0])

    plain = NoisePrediction(Given(), scheduler, loss="mse", timesteps="stratified")
    plain.num_class_embeds = None

    objective = objective_of(unet, encoder, tokenizer, caption_dropout=0.0)
    assert_close(loss(objective, IDS, x_0), loss(plain, IDS, x_0))


def test_captions_are_dropped_at_the_stated_rate_to_the_tokens_that_the_pipeline_gives_an_empty_prompt():
    pipe = tiny_stable_diffusion()
    objective = objective_of(*parts(), caption_dropout=0.3)
    empty = tokenize(pipe.tokenizer, [""])[0]
    ids = empty.flip(0).expand(4000, -1)

    dropped = objective.drop_captions(ids, Step(0, 0.0, BatchRandom("test", rows=range(4000), total=4000)))

    is_empty = (dropped == empty).all(1)
    assert abs(is_empty.float().mean() - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5
    assert (dropped[~is_empty] == ids[0]).all()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_rate_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"`caption_dropout` must lie in \[0, 1\)"):
        objective_of(*parts(), caption_dropout=share)


def test_captions_make_a_difference_and_both_networks_get_gradients():
    unet, encoder, tokenizer = parts()
    objective, x_0 = objective_of(unet, encoder, tokenizer, caption_dropout=0.0), latents(unet)

    value = loss(objective, IDS, x_0)
    value.backward()

    assert value != loss(objective, IDS.flip(0), x_0)
    trained = trainable_parameters(objective.phases[0], objective)
    assert {*map(id, trained)} == {id(p) for part in (unet, encoder) for p in part.parameters()}
    assert encoder.get_input_embeddings().weight.grad[IDS.unique()].abs().sum() > 0


def test_a_frozen_encoder_is_not_trained():
    unet, encoder, tokenizer = parts()
    objective = objective_of(unet, encoder.requires_grad_(False), tokenizer)

    trained = trainable_parameters(objective.phases[0], objective)

    assert {*map(id, trained)} == {id(p) for p in unet.parameters()}


def test_an_encoder_of_another_width_is_refused():
    _, encoder, tokenizer = parts()
    unet = UNet2DConditionModel(
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=encoder.config.hidden_size + 1,
    )

    with pytest.raises(ValueError, match=r"`components.unet.cross_attention_dim` must be the text encoder's"):
        objective_of(unet, encoder, tokenizer)


def test_data_without_captions_are_refused():
    objective = objective_of(*parts())

    with pytest.raises(ValueError, match=r"`data.captions` must be set"):
        objective.check_labels(Images(torch.zeros(2, 1, 8, 8).byte()))
