"""Contrastive divergence: its gradient beside that of the likelihood, and what a machine of a net is trained on."""

import itertools

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_model
from torch.testing import assert_close

import genhub
from genhub import DeepBeliefNet, recipes
from genhub.objectives import ContrastiveDivergence, Step
from genhub.utils.randomness import BatchRandom

STATES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))  # (16, 4), of 2 x 2 pixels
BARS = torch.tensor([[0.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])  # 4 of them


def machine_of(hidden=3, scale=1.0, seed=0):
    model, generator = DeepBeliefNet((2, 2), 1, (), hidden), torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return model


def images_of(visible):
    return {"sample": (2 * visible - 1).view(-1, 1, 2, 2)}


def step_of(index=0, total=8, rows=None):
    return Step(index, 0.0, BatchRandom("test", index, rows=rows or range(total), total=total))


def log_likelihood(model, visible):
    """Mean of log p(v) = -F(v) - log Z, by the sum over all visible states."""
    (layer,) = model.layers
    return (-layer.free_energy(visible) - torch.logsumexp(-layer.free_energy(STATES), 0)).mean()


def gradients(model, loss):
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, [*model.parameters()])])


@pytest.mark.parametrize("start", ["model", "images"])
def test_the_gradient_after_long_chains_is_that_of_the_likelihood(start):
    model, count = machine_of(), 40_000
    objective = ContrastiveDivergence(model, gibbs_steps=1 if start == "model" else 20)
    visible = BARS.repeat(count // 4, 1)
    chains = None
    if start == "model":  # exact draws of v, then of h: a chain that has run for ever
        p = (-model.layers[0].free_energy(STATES)).softmax(0)
        generator = torch.Generator().manual_seed(0)
        mean = model.layers[0].hidden_mean(STATES[p.multinomial(count, replacement=True, generator=generator)])
        chains = (torch.rand(mean.shape, generator=generator) < mean).float()
    output = objective._run(images_of(visible), step_of(total=count), chains)

    found = gradients(model, (output.free_energy - output.fantasy_free_energy).mean())

    exact = gradients(model, -log_likelihood(model, BARS))
    assert (found - exact).abs().max() < 4 * 0.5 / count**0.5  # each number is a mean of values in [0, 1]
    assert exact.abs().max() > 0.1


@pytest.mark.parametrize("arguments", [{}, {"is_persistent": True}])
def test_training_raises_the_likelihood(arguments):
    model = machine_of(hidden=6, scale=0.3)
    objective, optimizer = ContrastiveDivergence(model, **arguments), torch.optim.SGD(model.parameters(), 0.2)
    before, batch = log_likelihood(model, BARS).item(), images_of(BARS.repeat(25, 1))

    for index in range(400):
        optimizer.zero_grad()
        sum(objective.divergence_loss(batch, step_of(index, 100)).values()).backward()
        optimizer.step()

    assert before < -2.5
    assert log_likelihood(model, BARS) > -2.2  # at best -log 4


def test_no_gradient_flows_through_the_chain():
    model = machine_of()
    batch, objective = images_of(BARS[1:2].repeat(8, 1)), ContrastiveDivergence(model)

    output = objective._run(batch, step_of(), None)

    (layer,) = model.layers
    assert not output.latents.requires_grad
    assert not output.sample.requires_grad
    assert_close(output.free_energy, layer.free_energy(BARS[1:2].repeat(8, 1)))


def test_a_machine_is_trained_on_hidden_states_of_those_below_and_alone():
    model, count = tiny_model("DeepBeliefNet", "deep"), 20_000
    batch = {"sample": torch.rand(1, 1, 8, 8).round().expand(count, -1, -1, -1) * 2 - 1}
    objective = ContrastiveDivergence(model, layer=1)
    ((phase,),) = (objective.phases,)

    output = objective._run(batch, step_of(total=count), None)
    (output.free_energy - output.fantasy_free_energy).mean().backward()

    mean = model.layers[0].hidden_mean((batch["sample"][:1].flatten(1) + 1) / 2)[0]
    assert set(output.target.unique().tolist()) == {0.0, 1.0}
    assert_close(output.target.mean(0), mean, rtol=0, atol=4 * 0.5 / count**0.5)
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert phase.trains == "machine.layers.1"
    assert moved == {name for name, _ in model.named_parameters() if name.startswith("layers.1.")}


def test_a_stage_of_the_recipe_leaves_other_machines_alone(tmp_path, tiny):
    kept = {key: value for key, value in tiny.items() if key.startswith(("data.", "training."))}
    stage = recipes.load("deep-belief-net").sections["stages"][1] | {"training": {}}

    weights = []
    for steps in (1, 3):
        changes = {"stages": [stage], "components.machine.hidden_sizes": [16], "training.max_steps": steps}
        repo = genhub.train("deep-belief-net", tmp_path / str(steps), overrides=kept | changes)
        weights.append(load_file(repo / "machine/diffusion_pytorch_model.safetensors"))

    same = {name for name in weights[0] if torch.equal(weights[0][name], weights[1][name])}
    assert same == {name for name in weights[0] if name.startswith("layers.0.")}
    assert len(weights[0]) == 2 * len(same) == 6


def test_persistent_chains_go_on_row_by_row_also_on_two_processes_and_after_a_resume():
    batch, model = images_of(BARS.repeat(2, 1)), machine_of()
    whole, parts, resumed = (ContrastiveDivergence(model, is_persistent=True) for _ in range(3))

    for index in range(3):
        whole.divergence_loss(batch, step_of(index))
        for rows in (range(4), range(4, 8)):
            parts.divergence_loss({"sample": batch["sample"][: len(rows)]}, step_of(index, rows=rows))
    resumed.load_state_dict({"chains": whole.chains.clone()})
    last = [each.divergence_loss(batch, step_of(3))["contrastive_divergence"] for each in (whole, resumed)]
    parts.divergence_loss(batch, step_of(3))

    assert torch.equal(whole.chains, parts.chains)
    assert torch.equal(last[0], last[1])
    fresh = ContrastiveDivergence(model, is_persistent=True).divergence_loss(batch, step_of(3))
    assert not torch.equal(fresh["contrastive_divergence"], last[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 1}, r"`layer` must lie in 0\.\.0, got 1"),
        ({"layer": -1}, r"`layer` must lie in 0\.\.0, got -1"),
        ({"gibbs_steps": 0}, "`gibbs_steps` must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveDivergence(machine_of(), **arguments)
