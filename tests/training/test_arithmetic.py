"""How a device computes: bf16 only where it is computed in, and said in the card."""

import pytest
import torch

import genhub
from genhub.training.arithmetic import best_precision

CAPABILITIES = [
    ({"avx512_bf16": True}, "bf16"),
    ({"amx_bf16": True, "avx512_bf16": False}, "bf16"),
    ({"architecture": "aarch64", "bf16": True}, "bf16"),
    ({"avx512_f": True, "avx512_bf16": False, "amx_tile": True}, "no"),
    ({}, "no"),
]


@pytest.mark.parametrize(("found", "precision"), CAPABILITIES)
def test_a_processor_computes_in_bf16_if_it_has_instructions_for_it(monkeypatch, found, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)

    assert best_precision(torch.device("cpu")) == precision


def test_an_older_pytorch_that_does_not_know_its_processor_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)

    assert best_precision(torch.device("cpu")) == "no"


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "no")])
def test_a_gpu_that_only_emulates_bf16_computes_in_float32(monkeypatch, native, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)

    assert best_precision(torch.device("cuda")) == precision


def test_what_a_processor_can_says_nothing_about_another_device(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True}, raising=False)

    assert best_precision(torch.device("mps")) == "no"


@pytest.mark.parametrize(("found", "said"), [({"avx512_bf16": True}, "bf16"), ({}, "float32")])
def test_the_card_says_in_which_arithmetic_a_run_was_made(monkeypatch, tmp_path, tiny, found, said):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    tiny |= {"training.mixed_precision": "auto", "training.max_steps": 1}

    folder = genhub.train("ddpm-quick", tmp_path / "run", overrides=tiny)

    assert f"| precision | {said} |" in (folder / "README.md").read_text()
