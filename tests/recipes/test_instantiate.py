"""A class and its arguments, as a recipe names them: what planned recipes need can be written and built."""

import pytest
import torch
import transformers
from diffusers import ModelMixin, SchedulerMixin
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from genhub.recipes.instantiate import Spec
from genhub.recipes.yaml import read_yaml

KINDS = (ModelMixin, SchedulerMixin, transformers.PreTrainedModel)
TEXT_ENCODER = """{class: transformers.CLIPTextModel, vocab_size: 16, hidden_size: 8, intermediate_size: 16,
                   num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 7}"""
COMPONENTS = [
    "{class: diffusers.AutoencoderKL, block_out_channels: [8], norm_num_groups: 4}",
    """{class: diffusers.AutoencoderKL, block_out_channels: [8, 16], norm_num_groups: 4, scaling_factor: 1,
        down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D], latents_mean: [0, 0.5, 0, 0],
        up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D], in_channels: 1, out_channels: 1}""",
    """{class: diffusers.AutoencoderKL, block_out_channels: [8, 8, 8], norm_num_groups: 4,
        down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D],
        up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D], mid_block_add_attention: false}""",
    """{class: diffusers.UNet2DModel, sample_size: [8, 16], block_out_channels: [8, 16], norm_num_groups: 4,
        down_block_types: [DownBlock2D, AttnDownBlock2D], up_block_types: [AttnUpBlock2D, UpBlock2D],
        attention_head_dim: 4}""",
    """{class: diffusers.UNet2DConditionModel, sample_size: 8, block_out_channels: [8, 16], norm_num_groups: 4,
        down_block_types: [CrossAttnDownBlock2D, DownBlock2D], up_block_types: [UpBlock2D, CrossAttnUpBlock2D],
        attention_head_dim: [2, 4], layers_per_block: [1, 2], cross_attention_dim: [8, 8],
        transformer_layers_per_block: [1, 1]}""",
    """{class: diffusers.DiTTransformer2DModel, num_attention_heads: 2, attention_head_dim: 4, in_channels: 4,
        num_layers: 1, sample_size: 8, num_embeds_ada_norm: 11, norm_num_groups: 4}""",
    "{class: diffusers.DDPMScheduler, trained_betas: [0.1, 0.2], variance_type: fixed_large, clip_sample: false}",
    "{class: diffusers.DDIMScheduler, beta_schedule: scaled_linear, timestep_spacing: trailing}",
    "{class: diffusers.EulerDiscreteScheduler, use_karras_sigmas: true, sigma_max: 80}",
    "{class: diffusers.EulerAncestralDiscreteScheduler, beta_end: 0.1}",
    "{class: diffusers.HeunDiscreteScheduler, use_karras_sigmas: true}",
    "{class: diffusers.FlowMatchEulerDiscreteScheduler, shift: 3, use_dynamic_shifting: false}",
    "{class: diffusers.LCMScheduler, original_inference_steps: 50, timestep_scaling: 10}",
    "{class: diffusers.DPMSolverMultistepScheduler, solver_order: 3, algorithm_type: sde-dpmsolver++}",
    "{class: diffusers.UniPCMultistepScheduler, solver_order: 2, disable_corrector: [0]}",
    "{class: diffusers.EDMDPMSolverMultistepScheduler, sigma_min: 0.002, rho: 7}",
    TEXT_ENCODER,
    "{class: transformers.T5EncoderModel, vocab_size: 16, d_model: 8, d_kv: 4, d_ff: 8, num_layers: 1, num_heads: 2}",
]
OPTIMIZERS = [
    "{class: torch.optim.AdamW, lr: 1e-3, betas: [0, 0.99], weight_decay: 0}",
    "{class: torch.optim.Muon, lr: 1e-3, ns_coefficients: [3.4445, -4.7750, 2.0315]}",
    "{class: torch.optim.NAdam, lr: 1e-3, momentum_decay: 4e-3}",
    "{class: torch.optim.RMSprop, alpha: 0.9, eps: 1e-7, momentum: 0}",
    "{class: torch.optim.Adam, betas: [0.0, 0.99], fused: null}",
    "{class: torch.optim.SGD, lr: 1, nesterov: true, momentum: 0.9}",
]
SCHEDULES = [
    "{class: torch.optim.lr_scheduler.OneCycleLR, max_lr: 0.1, total_steps: 10, anneal_strategy: cos}",
    "{class: torch.optim.lr_scheduler.MultiStepLR, milestones: [2, 4]}",
    "{class: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: 10, eta_min: 0}",
    "{class: diffusers.optimization.get_cosine_schedule_with_warmup, num_warmup_steps: 1, num_training_steps: 10}",
    '{class: diffusers.optimization.get_piecewise_constant_schedule, step_rules: "1:10,0.1"}',
]


@pytest.mark.parametrize("text", COMPONENTS, ids=lambda text: text.split(",")[0])
def test_a_component_of_diffusers_or_transformers_can_be_written_in_yaml(text):
    entry = read_yaml(text)

    component = Spec("part", entry, KINDS).require().build()

    assert type(component).__name__ == entry.pop("class").split(".")[-1]
    config = component.config if isinstance(component.config, dict) else component.config.to_dict()
    for name, value in entry.items():
        assert config[name] == (tuple(value) if isinstance(config[name], tuple) else value)


@pytest.mark.parametrize("text", OPTIMIZERS)
def test_an_optimizer_can_be_written_in_yaml(text):
    entry = read_yaml(text)

    optimizer = (
        Spec("part", entry, (Optimizer,), given=("params",)).require().build(nn.Linear(2, 2, False).parameters())
    )

    assert type(optimizer).__name__ == entry["class"].split(".")[-1]


@pytest.mark.parametrize("text", SCHEDULES)
def test_a_schedule_can_be_written_in_yaml(text):
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)

    schedule = Spec("part", read_yaml(text), (LRScheduler,), given=("optimizer",)).require().build(optimizer)

    assert isinstance(schedule, LRScheduler)


def test_a_text_encoder_is_the_one_that_its_config_gives():
    entry = read_yaml(TEXT_ENCODER)
    arguments = {name: value for name, value in entry.items() if name != "class"}

    torch.manual_seed(0)
    built = Spec("part", entry, KINDS).build()
    torch.manual_seed(0)
    known = transformers.CLIPTextModel(transformers.CLIPTextConfig(**arguments))

    assert built.config.to_dict() == known.config.to_dict()
    torch.testing.assert_close(built.state_dict(), known.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hiden_size": 8}, "no `part.hiden_size` .did you mean 'hidden_size'"),
        ({"hidden_size": "8"}, "`part.hidden_size` must be a whole number, got '8'"),
        ({"hidden_size": 9}, "(?s)`part`.*hidden size .9. is not a multiple"),
        ({"attn_implementation": "user/kernel"}, "no `part.attn_implementation`"),
        ({"auto_map": {"AutoModel": "user/repo--code.Model"}}, "no `part.auto_map`"),
        (
            {"class": "transformers.CLIPModel", "text_config": {"attn_implementation": "user/kernel"}},
            "one flat config",
        ),
        ({"class": "transformers.PreTrainedModel"}, "must be a model with one flat config"),
        ({"class": "transformers.RagModel", "question_encoder": {"model_type": "bert"}}, "one flat config"),
    ],
)
def test_a_text_encoder_takes_what_its_config_takes_and_no_code(changes, message):
    entry = read_yaml(TEXT_ENCODER) | changes

    with pytest.raises(ValueError, match=message):
        Spec("part", entry, KINDS).build()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (5, "`part` must name a `class` and its arguments, got 5"),
        ({"lr": 1}, "`part` must name a `class`"),
        ({"class": 5}, "`part` must name a `class`"),
        ({"class": "diffusers.UNet2DModel", "layers": 1}, "no `part.layers` .did you mean 'layers_per_block'"),
        ({"class": "diffusers.UNet2DModel", "dropout": "0.1"}, "`part.dropout` must be a number, got '0.1'"),
        ({"class": "diffusers.UNet2DModel", "up_block_types": ["Nothing"]}, "`part`"),
    ],
)
def test_a_mistake_is_refused_with_the_section(entry, message):
    with pytest.raises(ValueError, match=message):
        Spec("part", entry, KINDS).build()


def test_what_is_given_is_not_the_recipes_to_set_and_what_the_recipe_sets_comes_first():
    entry = {"class": "diffusers.DDPMScheduler", "beta_end": 0.5}
    spec = Spec("part", entry, KINDS, given=("beta_start", "unet"))

    built = spec.build(beta_start=0.25, beta_end=0.75, unet=None)

    assert (built.config.beta_start, built.config.beta_end, spec.given) == (0.25, 0.5, ("beta_start",))
    assert [spec.lacks(name) for name in ("beta_end", "clip_sample", "unet")] == [False, True, False]
    with pytest.raises(ValueError, match="no `part.beta_start`"):
        Spec("part", entry | {"beta_start": 0.1}, KINDS, given=("beta_start",))


def test_what_is_required_and_missing_is_named():
    spec = Spec("part", {"class": "torch.optim.lr_scheduler.StepLR"}, (LRScheduler,), given=("optimizer",))

    with pytest.raises(ValueError, match="`part` must set step_size: torch.optim.lr_scheduler.StepLR requires it"):
        spec.require()
    assert spec.require(("step_size",)) is spec
