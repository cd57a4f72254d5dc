"""The state of a run: named parts, saved and loaded by the same lines."""

import pytest
import torch
from torch import nn

from genhub.training.state import FrozenState, Progress, State, training_state


def test_what_is_saved_is_what_is_loaded():
    torch.manual_seed(0)
    modules, progress = {"a": nn.Linear(2, 3), "b": nn.Linear(1, 1)}, Progress()
    progress.advance(8, "cpu")
    saved = training_state(progress, modules=modules, scaler=None).state_dict()

    fresh = {"a": nn.Linear(2, 3), "b": nn.Linear(1, 1)}
    other = training_state(Progress(), modules=fresh)
    other.load_state_dict(saved)

    assert other["progress"] == progress
    assert all(torch.equal(fresh[name].weight, modules[name].weight) for name in modules)


def test_a_part_may_be_a_state_itself():
    inner = Progress()
    state = State(outer=State(inner=inner))

    state.load_state_dict({"outer": {"inner": {"step": 5}}})

    assert inner.step == 5


def test_frozen_weights_stay_out_and_others_are_refused():
    module = nn.Linear(2, 2)
    saved = State(vae=FrozenState("vae", module)).state_dict()

    assert not any(isinstance(value, torch.Tensor) for value in saved["vae"].values())
    State(vae=FrozenState("vae", module)).load_state_dict(saved)
    with torch.no_grad():
        module.weight += 1e-6
    with pytest.raises(ValueError, match="The frozen component vae is another one"):
        State(vae=FrozenState("vae", module)).load_state_dict(saved)
