"""What diffusers and accelerate do to any model - offload, cast or spread it - is exact for each of ours, or refused
in a line."""

import accelerate
import pytest
import torch
from test_models import PUBLIC
from tiny import MODELS, tiny_inputs, tiny_model
from tiny_pipelines import lively
from torch import nn
from torch.testing import assert_close

GROUPS = {
    "blocks": {"offload_type": "block_level", "num_blocks_per_group": 1},
    "pairs of blocks": {"offload_type": "block_level", "num_blocks_per_group": 2},
    "leaves": {"offload_type": "leaf_level"},
}


OTHER_LAYERS = ("plain", "conditional", "tied")  # other variants have the same layers, of other sizes
models_of_all_layers = pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param(name, variant, marks=[] if variant in OTHER_LAYERS else pytest.mark.slow)
        for name in PUBLIC
        if name in MODELS
        for variant in MODELS[name].variants
    ],
)


def lively_model(name, variant):
    return lively(tiny_model(name, variant)).requires_grad_(False)


def calls_of(model, inputs):
    """What pipelines call of a model, its forward and its methods, each with arguments."""
    calls = [lambda m: m(**inputs).to_tuple()]
    if hasattr(model, "encode"):
        labels = {key: value for key, value in inputs.items() if key == "class_labels"}
        codes = model.encode(inputs["sample"], **labels)
        codes = codes[0] if isinstance(codes, tuple) else codes
        calls += [lambda m: m.encode(inputs["sample"], **labels), lambda m: m.decode(codes, **labels)]
    if hasattr(model, "map"):
        styles = model.map(inputs["latents"])[:, None].expand(-1, model.num_layers, -1)
        calls += [lambda m: m.map(inputs["latents"]), lambda m: m.synthesize(styles)]
    return calls


@models_of_all_layers
@pytest.mark.parametrize("groups", GROUPS)
def test_a_model_offloaded_in_groups_computes_the_same_or_refuses(name, variant, groups, tmp_path):
    model = lively_model(name, variant)

    for number, call in enumerate(calls_of(model, tiny_inputs(name, model))):
        offloaded, arguments = (
            lively_model(name, variant),
            GROUPS[groups] | {"offload_to_disk_path": tmp_path / f"{number}"},
        )
        if not offloaded._supports_group_offloading:
            with pytest.raises(ValueError, match=f"{name} does not support group offloading"):
                offloaded.enable_group_offload("cpu", **arguments)
            return
        offloaded.enable_group_offload("cpu", **arguments)
        for tensor in offloaded.state_dict().values():  # now on the disk
            tensor.zero_()
        # weights read from a file may lie unaligned, and a product of them round otherwise
        assert_close(call(offloaded), call(model), rtol=1e-6, atol=1e-7)


@models_of_all_layers
def test_a_model_whose_layers_are_offloaded_one_by_one_computes_the_same(name, variant):
    model = lively_model(name, variant)

    for call in calls_of(model, tiny_inputs(name, model)):
        offloaded = accelerate.cpu_offload(
            lively_model(name, variant), "cpu", offload_buffers=len(model._parameters) > 0
        )  # as `enable_sequential_cpu_offload` does
        assert_close(call(offloaded), call(model), rtol=0, atol=0)


@models_of_all_layers
def test_a_model_whose_weights_are_stored_in_bf16_computes_with_these_or_refuses(name, variant):
    model, rounded = lively_model(name, variant), lively_model(name, variant)
    if any(isinstance(layer, nn.LSTM) for layer in model.modules()):  # which diffusers does not cast
        with pytest.raises(ValueError, match=f"{name} does not support layerwise casting"):
            model.enable_layerwise_casting(torch.bfloat16, torch.float32)
        return

    model.enable_layerwise_casting(torch.bfloat16, torch.float32)

    layers = {key: layer for key, layer in model.named_modules() if hasattr(layer, "weight") and "norm" not in key}
    stored = {key: layer.weight.dtype for key, layer in layers.items() if not isinstance(layer, nn.BatchNorm2d)}
    assert {*stored.values()} == {torch.bfloat16}
    rounded.load_state_dict(model.state_dict())
    for call in calls_of(rounded, tiny_inputs(name, model)):
        assert_close(call(model), call(rounded), rtol=0, atol=0)


@models_of_all_layers
def test_a_model_spread_over_memory_and_disk_computes_the_same(name, variant, tmp_path):
    model = lively_model(name, variant)
    model.save_pretrained(tmp_path)
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    places = {"max_memory": {"cpu": size * 2 // 3}, "offload_folder": tmp_path / "offloaded"}

    spread = type(model).from_pretrained(tmp_path, device_map="auto", **places)

    assert "disk" in spread.hf_device_map.values()
    for call in calls_of(model, tiny_inputs(name, model)):
        assert_close(call(spread), call(model), rtol=1e-4, atol=1e-5)  # memory is aligned otherwise


@models_of_all_layers
def test_gradient_checkpointing_changes_no_gradient_or_is_refused(name, variant):
    model, recomputing = (lively(tiny_model(name, variant)).train() for _ in range(2))
    if not model._supports_gradient_checkpointing:
        with pytest.raises(ValueError, match=f"{name} does not support gradient checkpointing"):
            recomputing.enable_gradient_checkpointing()
        return

    recomputing.enable_gradient_checkpointing()

    assert recomputing.is_gradient_checkpointing
    for network in (model, recomputing):
        network(**tiny_inputs(name, network)).sample.square().sum().backward()
    gradients = [{key: p.grad for key, p in network.named_parameters()} for network in (model, recomputing)]
    assert_close(*gradients, rtol=0, atol=0)
