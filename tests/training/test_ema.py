"""The moving average of weights, against that of diffusers."""

import copy

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from genhub.training.ema import MovingAverage


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(module: nn.Module, steps: int):
    """Yields after each of some steps that move weights and running statistics."""
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        module(torch.randn(8, 3, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()
        yield


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_it_is_that_of_diffusers_to_the_bit(decay):
    module = network()
    theirs, average = EMAModel(module.parameters(), decay=decay, foreach=True), MovingAverage(module, decay)

    for _ in train(module, 30):
        theirs.step(module.parameters())
        average.update()

    ours = [average.averaged[name] for name, _ in module.named_parameters()]
    assert all(torch.equal(one, two) for one, two in zip(ours, theirs.shadow_params, strict=True))


def test_running_statistics_are_averaged_and_named_buffers_copied():
    module = network()
    module.not_averaged = ("1.running_mean",)
    average = MovingAverage(module, 0.9)

    for _ in train(module, 5):
        average.update()
    average.swap()
    own = {name: buffer.clone() for name, buffer in module.named_buffers()}
    average.swap()

    assert torch.equal(own["1.running_mean"], module[1].running_mean)
    assert not torch.equal(own["1.running_var"], module[1].running_var)
    assert own["1.num_batches_tracked"] == 5


def test_a_frozen_module_is_averaged_too():
    module = network().requires_grad_(False)
    average = MovingAverage(module, 0.9)
    average.update()  # takes the first weights as they are
    module[0].weight += 1
    before = average.averaged["0.weight"].clone()

    average.update()

    torch.testing.assert_close(average.averaged["0.weight"], before + (1 - 2 / 11) * 1)


def test_swapped_twice_nothing_has_changed():
    module = network()
    average = MovingAverage(module, 0.9)
    for _ in train(module, 3):
        average.update()
    before = copy.deepcopy(module.state_dict()), copy.deepcopy(average.state_dict())

    average.swap()
    swapped = copy.deepcopy(module.state_dict())
    average.swap()

    torch.testing.assert_close((module.state_dict(), average.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(swapped["0.weight"], before[1]["averaged"]["0.weight"])


def test_called_it_computes_with_the_averaged_weights():
    module = network().eval()
    average, x = MovingAverage(module, 0.9), torch.randn(2, 3)
    for _ in train(module.train(), 3):
        average.update()
    module.eval()

    called = average(x)
    average.swap()

    assert torch.equal(called, module(x))


def test_a_saved_average_goes_on_as_if_it_had_not_been_saved():
    module = network()
    whole, resumed = MovingAverage(module, 0.9), None
    for step, _ in enumerate(train(module, 6)):
        whole.update()
        if step == 2:
            resumed = MovingAverage(network(), 0.9)
            resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
            resumed.module = module
        elif step > 2:
            resumed.update()

    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_call_moves_no_statistics():
    module = network()
    average = MovingAverage(module, 0.9)
    before = copy.deepcopy((module.state_dict(), average.state_dict()))

    average(torch.randn(8, 3))

    torch.testing.assert_close((module.state_dict(), average.state_dict()), before, rtol=0, atol=0)
