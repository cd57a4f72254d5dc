"""Muon against singular values, `torch.optim.Muon` and `torch.optim.AdamW`; a learning rate that follows a share."""

import copy

import pytest
import torch
from tiny import tiny_inputs, tiny_model
from torch import nn
from torch.testing import assert_close

from genhub import LinearDecay, Muon
from genhub.training.optimizers import COEFFICIENTS, orthogonalise

STEPS = 5


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quintic(values):
    """What the iteration does to singular values, in double precision."""
    a, b, c = COEFFICIENTS
    values = values.double() / values.double().norm(dim=-1, keepdim=True)
    for _ in range(STEPS):
        values = a * values + b * values**3 + c * values**5
    return values


def network(*, seed=0):
    """A matrix, a convolution, convolutions from and to pixels, an embedding, and vectors."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {"conv": nn.Conv2d(32, 48, 3), "linear": nn.Linear(40, 32), "embedding": nn.Embedding(11, 32)}
        return nn.ModuleDict(parts | {"first": nn.Conv2d(4, 32, 3), "last": nn.Conv2d(32, 4, 3)})


def fill_gradients(module, index):
    for number, parameter in enumerate(module.parameters()):
        parameter.grad = random(*parameter.shape, seed=100 * index + number)


def train(module, optimizer, *indices):
    for index in indices:
        fill_gradients(module, index)
        optimizer.step()


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 48, 32), (2, 32, 288), (5, 64, 36), (1, 1, 8)])
def test_singular_values_become_about_1_and_singular_vectors_stay(shape):
    matrices = random(*shape)
    u, values, vt = torch.linalg.svd(matrices.double(), full_matrices=False)

    made = orthogonalise(matrices, STEPS)

    assert_close(made, (u @ torch.diag_embed(quintic(values)) @ vt).float(), rtol=0, atol=1e-4)
    if min(shape[1:]) < max(shape[1:]):  # a square one has singular values next to 0, which 5 iterations leave small
        found = torch.linalg.svdvals(made)
        assert found.min() > 0.65
        assert found.max() < 1.25


def test_the_size_of_a_matrix_does_not_matter():
    matrices = random(2, 32, 48)

    assert_close(orthogonalise(1e-3 * matrices), orthogonalise(matrices), rtol=1e-2, atol=1e-4)
    assert not orthogonalise(torch.zeros(1, 3, 4)).any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_moves_as_its_flattened_matrix_does(layout):
    start = random(32, 36, 3, 3)
    convolution = nn.Parameter(start.clone().to(memory_format=layout))
    matrix = nn.Parameter(start.flatten(1).clone())
    optimizers = [Muon([parameter], lr=0.1, weight_decay=0.1) for parameter in (convolution, matrix)]

    for index in range(3):
        convolution.grad = random(32, 36, 3, 3, seed=index).to(memory_format=layout)
        matrix.grad = convolution.grad.flatten(1)
        for optimizer in optimizers:
            optimizer.step()

    assert_close(convolution.flatten(1), matrix)  # columns in the order of memory, so to rounding
    assert convolution.is_contiguous(memory_format=layout)


def test_matrices_of_one_shape_move_as_each_would_alone():
    together = [nn.Parameter(random(32, 48, seed=seed)) for seed in range(3)]
    alone = copy.deepcopy(together)
    optimizers = [Muon(together), *(Muon([parameter]) for parameter in alone)]

    for index in range(3):
        for seed, pair in enumerate(zip(together, alone, strict=True)):
            for parameter in pair:
                parameter.grad = random(32, 48, seed=10 * index + seed)
        for optimizer in optimizers:
            optimizer.step()

    assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="a newer PyTorch has it")
@pytest.mark.parametrize("shape", [(64, 32), (32, 96)])
def test_a_matrix_moves_as_under_the_muon_of_pytorch(shape):
    start = random(*shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    shared = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    optimizers = [
        (ours, Muon([ours], **shared, ns_steps=STEPS)),
        (theirs, torch.optim.Muon([theirs], **shared, ns_steps=STEPS, adjust_lr_fn="match_rms_adamw")),
    ]

    for index in range(4):
        for parameter, optimizer in optimizers:
            parameter.grad = random(*shape, seed=index + 1)
            optimizer.step()

    assert (ours - theirs).norm() < 0.02 * (theirs - start).norm()  # theirs iterates in bf16


def test_an_update_is_as_large_as_one_of_adamw():
    parameter = nn.Parameter(torch.zeros(64, 288))
    optimizer = Muon([parameter], lr=0.01)

    parameter.grad = random(64, 288)
    optimizer.step()

    assert 0.15 < parameter.square().mean().sqrt() / 0.01 < 0.25


def test_what_is_no_large_matrix_moves_as_under_adamw_bit_for_bit():
    ours, theirs = network(), network()
    others = [p for name, p in theirs.named_parameters() if name not in ("conv.weight", "linear.weight")]
    muon = Muon(ours.parameters(), adamw_lr=0.02, adamw_betas=(0.8, 0.95), weight_decay=0.1)
    adamw = torch.optim.AdamW(others, lr=0.02, betas=(0.8, 0.95), weight_decay=0.1, fused=True)

    for index in range(4):
        train(ours, muon, index)
        train(theirs, adamw, index)

    same = {name for name, p in ours.named_parameters() if torch.equal(p, theirs.get_parameter(name))}
    assert {name for name, _ in ours.named_parameters()} - same == {"conv.weight", "linear.weight"}


def test_linear_layers_are_left_to_adamw_if_told_so():
    ours = network()
    convolutions = [parameter for parameter in ours.parameters() if parameter.ndim == 4]

    orthogonal, others = Muon(ours.parameters(), min_channels=1, linear=False).param_groups

    assert {*map(id, orthogonal["params"])} == {*map(id, convolutions)}
    assert any(parameter.ndim == 2 for parameter in others["params"])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_state_that_is_saved_and_loaded_goes_on_in_the_same_bits(tmp_path, layout):
    whole = network().to(memory_format=layout)
    optimizer = Muon(whole.parameters())
    train(whole, optimizer, 0, 1, 2)
    torch.save([whole.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    train(whole, optimizer, 3, 4)

    again = network(seed=1).to(memory_format=layout)
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(weights)
    resumed = Muon(again.parameters(), lr=1.0, momentum=0.5)  # what was saved replaces these
    resumed.load_state_dict(state)
    train(again, resumed, 3, 4)

    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), again.parameters(), strict=True))


def test_the_count_of_steps_is_loaded_to_the_device_of_its_parameter():
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = Muon([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()

    elsewhere = Muon([nn.Parameter(torch.zeros(3, device="meta"))])
    elsewhere.load_state_dict(optimizer.state_dict())

    (state,) = elsewhere.state.values()
    assert {name: tensor.device.type for name, tensor in state.items()} == dict.fromkeys(state, "meta")


def test_a_parameter_without_a_gradient_stays_and_has_no_state():
    module = network()
    before, optimizer = copy.deepcopy(module), Muon(module.parameters())
    for part in (module["conv"], module["first"]):
        part.weight.grad = torch.ones_like(part.weight)

    optimizer.step()

    moved = {name for name, p in module.named_parameters() if not torch.equal(p, before.get_parameter(name))}
    assert moved == {"conv.weight", "first.weight"}
    assert len(optimizer.state) == 2


def test_a_closure_is_called_with_gradients_and_its_loss_returned():
    parameter = nn.Parameter(random(32, 32))
    optimizer = Muon([parameter])

    def closure():
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == random(32, 32).square().sum()
    assert not torch.equal(parameter, random(32, 32))


def test_a_network_learns():
    model = tiny_model("LeanUNet2DModel").train()
    optimizer = Muon(model.parameters(), lr=0.05, adamw_lr=0.01, min_channels=4)
    inputs = tiny_inputs("LeanUNet2DModel", model)
    assert {group["orthogonal"] for group in optimizer.param_groups} == {True, False}

    losses = []
    for _ in range(40):
        loss = (model(**inputs).sample - inputs["sample"].roll(1, -1)).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "`lr` must be at least 0, got -1.0"),
        ({"adamw_lr": -1.0}, "`adamw_lr` must be at least 0, got -1.0"),
        ({"weight_decay": -0.1}, "`weight_decay` must be at least 0, got -0.1"),
        ({"momentum": 1.0}, r"`momentum` must lie in \[0, 1\), got 1.0"),
        ({"adamw_betas": (0.9, 1.0)}, r"`adamw_betas` must lie in \[0, 1\), got \(0.9, 1.0\)"),
        ({"ns_steps": 0}, "`ns_steps` must be at least 1, got 0"),
    ],
)
def test_bad_arguments_of_muon_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Muon(network().parameters(), **arguments)


def decayed(warmup):
    module = network()
    optimizer = Muon(module.parameters(), lr=0.5, adamw_lr=0.02)
    return optimizer, LinearDecay(optimizer, warmup)


@pytest.mark.parametrize(
    ("warmup", "share", "factor"),
    [
        *(
            (0.1, 0.0, 0.0),
            (0.1, 0.05, 0.5 * 0.95),
            (0.1, 0.1, 0.9),
            (0.1, 0.5, 0.5),
            (0.1, 0.9, 0.1),
            (0.1, 1.0, 0.0),
        ),
        *((0.0, 0.0, 1.0), (0.0, 0.5, 0.5), (0.0, 1.0, 0.0)),
    ],
)
def test_the_rates_of_all_groups_rise_for_the_warmup_then_fall_to_0(warmup, share, factor):
    optimizer, schedule = decayed(warmup)

    for other in (0.3, share):  # what came before does not matter
        schedule.move_to(other)

    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5 * factor, 0.02 * factor])
    assert schedule.get_last_lr() == [group["lr"] for group in optimizer.param_groups]


def test_a_rate_stays_until_the_share_changes_however_many_steps_are_taken():
    optimizer, schedule = decayed(0.1)
    schedule.move_to(0.4)

    for _ in range(3):
        optimizer.step()
        schedule.step()

    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * 0.6)


def test_a_schedule_that_is_saved_and_loaded_is_at_the_same_share():
    (optimizer, schedule), (fresh, again) = decayed(0.1), decayed(0.2)
    schedule.move_to(0.4)

    fresh.load_state_dict(optimizer.state_dict())
    again.load_state_dict(schedule.state_dict())
    fresh.step()
    again.step()

    assert [group["lr"] for group in fresh.param_groups] == [group["lr"] for group in optimizer.param_groups]
    assert again.warmup == 0.1


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warmup_that_is_no_share_is_refused(warmup):
    with pytest.raises(ValueError, match=rf"`warmup` must lie in \[0, 1\), got {warmup}"):
        decayed(warmup)
