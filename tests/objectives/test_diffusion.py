"""The objective of denoising diffusion against its equations: the network's inputs and its targets."""

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.models.unets.unet_2d import UNet2DOutput
from tiny import tiny_model
from torch import nn
from torch.testing import assert_close

from genhub.objectives import NoisePrediction, Step
from genhub.schedulers.scheduling_cosine_ddpm import CosineDDPMScheduler
from genhub.utils.randomness import BatchRandom

PREDICTIONS = ("epsilon", "v_prediction", "sample")


class Network(nn.Module):
    """Returns `answer(x_t, t)`, zeros by default, and remembers its inputs. Its third argument is not the label."""

    def __init__(self, answer=lambda x_t, t: torch.zeros_like(x_t), num_class_embeds=None):
        super().__init__()
        self.answer, self.config = answer, {"num_class_embeds": num_class_embeds}

    def forward(self, sample, timestep, encoder_hidden_states=None, class_labels=None):
        assert encoder_hidden_states is None
        self.inputs = sample, timestep, class_labels
        return UNet2DOutput(self.answer(sample, timestep))


def loss(network, batch, index=0, rows=None, scheduler=None, **arguments):
    """Returns the loss of `rows`, all by default, of a global batch at step `index`."""
    total = len(batch["sample"])
    rows = range(total) if rows is None else rows
    own = {key: value[rows.start : rows.stop] for key, value in batch.items()}
    objective = NoisePrediction(network, scheduler or CosineDDPMScheduler(), **arguments)
    terms = objective.denoising_loss(own, Step(index, 0.0, BatchRandom("test", index, rows=rows, total=total)))
    assert terms.keys() == {"loss"}
    return terms["loss"]


def images(count, *shape):
    return torch.rand(count, *shape or (1, 4, 4), generator=torch.Generator().manual_seed(0)) * 2 - 1


def targets(scheduler, x_0, x_t, t):
    """What to predict for x_0 that became x_t, in float64 (Eq. 17-6; Salimans & Ho 2022, Sec. 4)."""
    a = scheduler.alphas_cumprod.double()[t].view(-1, 1, 1, 1)
    epsilon = (x_t - a.sqrt() * x_0) / (1 - a).sqrt()
    return {"epsilon": epsilon, "v_prediction": a.sqrt() * epsilon - (1 - a).sqrt() * x_0, "sample": x_0}


@pytest.mark.parametrize("make", [CosineDDPMScheduler, DDPMScheduler])
def test_the_network_sees_standard_noise_at_uniform_levels(make):
    network, x_0, scheduler = Network(), images(20_000, 1, 2, 2), make(num_train_timesteps=100)

    loss(network, {"sample": x_0}, scheduler=scheduler)

    x_t, t, _ = network.inputs
    epsilon = targets(scheduler, x_0, x_t, t)["epsilon"]
    assert abs(epsilon.mean()) < 0.02
    assert abs(epsilon.var() - 1) < 0.02
    assert (torch.bincount(t, minlength=100) - torch.full((100,), 200)).abs().max() < 5 * 200**0.5


@pytest.mark.parametrize("kind", ["mse", "huber"])
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_a_perfect_network_has_no_loss(prediction_type, kind):
    x_0, scheduler = images(64), CosineDDPMScheduler(prediction_type=prediction_type)
    perfect = Network(lambda x_t, t: targets(scheduler, x_0, x_t, t)[prediction_type])

    assert loss(perfect, {"sample": x_0}, scheduler=scheduler, loss=kind) < 1e-8


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_a_silent_network_loses_the_mean_square_of_the_target(prediction_type):
    x_0, scheduler, silent = images(64), CosineDDPMScheduler(prediction_type=prediction_type), Network()

    lost = loss(silent, {"sample": x_0}, scheduler=scheduler, loss="mse")

    target = targets(scheduler, x_0, *silent.inputs[:2])[prediction_type]
    assert_close(lost, target.square().mean().float(), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("error", "huber"), [(0.0, 0.0), (0.5, 0.125), (-1.0, 0.5), (3.0, 2.5), (-10.0, 9.5)])
def test_huber_is_half_the_square_up_to_one_and_a_line_beyond(error, huber):
    network = Network(lambda x_t, t: torch.full_like(x_t, error))
    arguments = {
        "batch": {"sample": torch.zeros(4, 1, 4, 4)},
        "scheduler": CosineDDPMScheduler(10, prediction_type="sample"),
    }

    assert loss(network, **arguments).item() == pytest.approx(huber)  # the default
    assert loss(network, **arguments, loss="mse").item() == pytest.approx(error**2)


def test_the_loss_of_a_batch_is_the_mean_of_the_losses_of_its_parts():
    network, batch = tiny_model("PatchUNet2DModel"), {"sample": images(8, 1, 8, 8)}

    parts = [loss(network, batch, rows=rows) for rows in (range(4), range(4, 8))]

    assert_close(sum(parts) / 2, loss(network, batch))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_label_dropout_puts_the_last_class_in_place_of_its_share_of_labels(share):
    count, network = 10_000, Network(num_class_embeds=11)
    batch = {"sample": torch.zeros(count, 1, 1, 1), "labels": torch.arange(count) % 10}

    loss(network, batch, label_dropout=share)

    dropped = network.inputs[2] == 10
    assert torch.equal(network.inputs[2][~dropped], batch["labels"][~dropped])
    assert abs(dropped.float().mean() - share) <= 4 * (share * (1 - share) / count) ** 0.5


def test_every_step_has_other_noise_other_levels_and_drops_other_labels():
    network, batch = Network(num_class_embeds=2), {"sample": images(99), "labels": torch.zeros(99, dtype=int)}

    inputs = [(loss(network, batch, index, label_dropout=0.5), network.inputs)[1] for index in (0, 1, 0)]

    assert [torch.equal(*pair) for pair in zip(inputs[0], inputs[1], strict=True)] == [False] * 3
    assert [torch.equal(*pair) for pair in zip(inputs[0], inputs[2], strict=True)] == [True] * 3


def test_an_unconditional_network_is_told_no_class():
    network = Network()

    loss(network, {"sample": images(3), "labels": torch.arange(3)})

    assert network.inputs[2] is None


@pytest.mark.parametrize(
    ("prediction_type", "variant"), [("epsilon", "plain"), ("v_prediction", "plain"), ("sample", "conditional")]
)
def test_a_few_steps_on_eight_images_lower_the_loss(prediction_type, variant):
    network, scheduler = tiny_model("PatchUNet2DModel", variant), CosineDDPMScheduler(prediction_type=prediction_type)
    batch = {"sample": images(8, 1, 8, 8), "labels": torch.arange(8) % 4}
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)

    losses = []
    for index in range(60):
        losses.append(loss(network, batch, index, scheduler=scheduler))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()

    assert sum(losses[-15:]) < 0.85 * sum(losses[:15])


@pytest.mark.parametrize(
    ("num_class_embeds", "arguments", "message"),
    [
        (None, {"loss": "l1"}, "`loss` must be one of huber, mse, got 'l1'"),
        (11, {"label_dropout": 1.0}, r"`label_dropout` must lie in \[0, 1\), got 1.0"),
        (11, {"label_dropout": -0.1}, r"`label_dropout` must lie in \[0, 1\), got -0.1"),
        (None, {"label_dropout": 0.1}, "`label_dropout` must be 0 for a network without `num_class_embeds`"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(num_class_embeds, arguments, message):
    with pytest.raises(ValueError, match=message):
        NoisePrediction(Network(num_class_embeds=num_class_embeds), CosineDDPMScheduler(), **arguments)


@pytest.mark.parametrize(
    ("scheduler", "got"),
    [(DDPMScheduler(prediction_type="velocity"), "'velocity'"), (FlowMatchEulerDiscreteScheduler(), "None")],
)
def test_a_scheduler_of_another_prediction_type_is_refused(scheduler, got):
    with pytest.raises(ValueError, match=f"`scheduler.prediction_type` must be one of epsilon, .*, got {got}"):
        NoisePrediction(Network(), scheduler)
