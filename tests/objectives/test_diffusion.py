"""The objective of denoising diffusion against its equations: the network's inputs and its targets."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.models.unets.unet_2d import UNet2DOutput
from scipy import stats
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


def timesteps(total, count, index=0, rows=None, kind="stratified"):
    """Returns the timesteps of `rows` of a batch of `count` images, of 0..total-1."""
    objective = NoisePrediction(Network(), CosineDDPMScheduler(total), timesteps=kind)
    random = BatchRandom("test", index, rows=range(count) if rows is None else rows, total=count)
    return objective.draw_timesteps(Step(index, 0.0, random))


@pytest.mark.parametrize(("total", "count"), [(4000, 64), (100, 20), (10, 4), (10, 50), (7, 7), (5, 1)])
def test_stratified_timesteps_meet_each_equal_part_once(total, count):
    for index in range(20):
        drawn = timesteps(total, count, index).sort().values

        part = torch.arange(count)
        assert (drawn >= part * total // count).all()
        assert (drawn <= ((part + 1) * total - 1) // count).all()
    assert not torch.equal(timesteps(4000, 64, 0), timesteps(4000, 64, 1))


@pytest.mark.parametrize(("total", "count"), [(10, 4), (10, 50), (7, 3)])
def test_stratified_timesteps_of_an_image_are_uniform_and_reach_both_ends(total, count):
    drawn = torch.stack([timesteps(total, count, index) for index in range(2000)])  # (2000, B)

    for image in drawn.T[:: max(1, count // 4)]:
        assert stats.chisquare(torch.bincount(image, minlength=total).numpy()).pvalue > 1e-4
    assert len(torch.bincount(drawn.flatten())) == total


def test_the_last_number_of_the_last_part_is_the_last_timestep():
    last = SimpleNamespace(total=64, permutation=lambda: torch.tensor([63]), randint=lambda n: torch.tensor([n - 1]))
    objective = NoisePrediction(Network(), CosineDDPMScheduler(4000), timesteps="stratified")

    assert objective.draw_timesteps(SimpleNamespace(random=last)).item() == 3999


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("kind", ["uniform", "stratified"])
def test_the_timesteps_of_a_batch_are_those_of_its_parts(kind, parts):
    rows = [range(start, start + 16 // parts) for start in range(0, 16, 16 // parts)]

    drawn = [timesteps(4000, 16, rows=part, kind=kind) for part in rows]

    assert torch.equal(torch.cat(drawn), timesteps(4000, 16, kind=kind))


@pytest.mark.parametrize("kind", ["mse", "huber", "mae"])
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_a_perfect_network_has_no_loss(prediction_type, kind):
    x_0, scheduler = images(64), CosineDDPMScheduler(prediction_type=prediction_type)
    perfect = Network(lambda x_t, t: targets(scheduler, x_0, x_t, t)[prediction_type])

    assert loss(perfect, {"sample": x_0}, scheduler=scheduler, loss=kind) < (1e-4 if kind == "mae" else 1e-8)


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
    assert loss(network, **arguments, loss="mae").item() == pytest.approx(abs(error))


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
        (None, {"loss": "l1"}, "`loss` must be one of huber, mse, mae, got 'l1'"),
        (None, {"timesteps": "even"}, "`timesteps` must be one of uniform, stratified, got 'even'"),
        (11, {"label_dropout": 1.0}, r"`label_dropout` must lie in \[0, 1\), got 1.0"),
        (11, {"label_dropout": -0.1}, r"`label_dropout` must lie in \[0, 1\), got -0.1"),
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
