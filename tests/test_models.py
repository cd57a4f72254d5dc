"""The contract of every public model, and what each of them promises beyond it."""

import json
import shutil

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from accelerate.utils import convert_to_fp32
from diffusers import ModelMixin, UNet2DModel
from diffusers.models.upsampling import Upsample2D
from tiny import MODELS, model_class, tiny_inputs, tiny_model
from torch.testing import assert_close

import genhub

PUBLIC = [
    name
    for name in genhub.__all__
    if isinstance(found := getattr(genhub, name), type) and issubclass(found, ModelMixin) and found is not ModelMixin
]
every_model = pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name in PUBLIC if name in MODELS for variant in MODELS[name].variants]
)

plain_models_and_slow_variants = pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param(name, variant, marks=[] if variant == "plain" else pytest.mark.slow)
        for name in PUBLIC
        if name in MODELS
        for variant in MODELS[name].variants
    ],
)


def plain(config) -> dict:
    """A config as JSON has it."""
    return json.loads(json.dumps({key: value for key, value in config.items() if not key.startswith("_")}))


def to(inputs, dtype):
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_model_has_an_entry_in_tiny(name):
    assert name in MODELS, f"give {name} an entry in tests/tiny.py"


@every_model
def test_a_config_written_as_json_builds_the_same_architecture(name, variant):
    model = tiny_model(name, variant)

    again = model_class(name).from_config(json.loads(model.to_json_string()))

    assert plain(again.config) == plain(model.config)
    assert plain(again.config).items() >= (MODELS[name].arguments | MODELS[name].variants[variant]).items()
    shapes = [{key: value.shape for key, value in m.state_dict().items()} for m in (model, again)]
    assert shapes[0] == shapes[1]


@every_model
def test_what_is_saved_is_loaded_bit_for_bit_from_safetensors(name, variant, tmp_path):
    model = tiny_model(name, variant)
    inputs = tiny_inputs(name, model)

    model.save_pretrained(tmp_path)
    loaded = model_class(name).from_pretrained(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert_close(loaded(**inputs).to_tuple(), model(**inputs).to_tuple(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name in MODELS])
def test_a_pickle_is_not_read(name, tmp_path):
    tiny_model(name).save_pretrained(tmp_path, safe_serialization=False)

    with pytest.raises(OSError, match="no file named diffusion_pytorch_model.safetensors"):
        model_class(name).from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="`use_safetensors` must be true"):
        model_class(name).from_pretrained(tmp_path, use_safetensors=False)


@plain_models_and_slow_variants
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
def test_a_model_is_loaded_in_half_precision(name, variant, dtype, low_cpu_mem_usage, tmp_path):
    model = tiny_model(name, variant)
    model.save_pretrained(tmp_path)

    loaded = model_class(name).from_pretrained(tmp_path, dtype=dtype, low_cpu_mem_usage=low_cpu_mem_usage)

    assert_close(loaded.state_dict(), model.to(dtype).state_dict(), rtol=0, atol=0)


@every_model
def test_the_output_is_named_or_a_tuple_of_the_same(name, variant):
    model = tiny_model(name, variant)
    inputs = tiny_inputs(name, model)

    named, unnamed = model(**inputs), model(**inputs, return_dict=False)

    assert type(unnamed) is tuple
    assert_close(unnamed, named.to_tuple(), rtol=0, atol=0)


@every_model
def test_accelerate_can_rebuild_the_output_under_mixed_precision(name, variant):
    model = tiny_model(name, variant)
    output = model(**tiny_inputs(name, model))
    halved = type(output)({key: value.bfloat16() for key, value in output.items()})

    rebuilt = convert_to_fp32(halved)

    assert type(rebuilt) is type(output)
    assert {key: value.dtype for key, value in rebuilt.items()} == dict.fromkeys(output, torch.float32)


@every_model
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_output_has_the_promised_shapes(name, variant, batch_size):
    model = tiny_model(name, variant)

    output = model(**tiny_inputs(name, model, batch_size))

    assert {key: tuple(output[key].shape) for key in output} == MODELS[name].shapes(model.config, batch_size)


@every_model
def test_a_gradient_reaches_every_parameter(name, variant):
    model = tiny_model(name, variant).train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and not parameter.any():  # a layer that starts at 0 passes no gradient on
                parameter.normal_()

    sum(field.square().sum() for field in model(**tiny_inputs(name, model)).to_tuple()).backward()

    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    layers = {key: list(layer.parameters(recurse=False)) for key, layer in model.named_modules()}
    # A layer, not a parameter: attention does not depend on the bias of its keys
    assert [key for key, ps in layers.items() if ps and not any(p.grad.any() for p in ps)] == []


@every_model
def test_the_output_follows_the_dtype(name, variant):
    model = tiny_model(name, variant)
    inputs = tiny_inputs(name, model)
    exact = model(**inputs).to_tuple()

    model = model.to(torch.bfloat16)
    rounded = model(**to(inputs, torch.bfloat16)).to_tuple()

    assert {value.dtype for value in (*model.parameters(), *rounded)} == {torch.bfloat16} == {model.dtype}
    for one, other in zip(exact, rounded, strict=True):
        assert (one - other).abs().max() < 0.1 * one.abs().max() + 2**-8  # half a step of bf16 in [1, 2]: 2 p - 1


@every_model
def test_a_batch_of_two_is_two_batches_of_one_unless_a_model_says_that_it_looks_at_its_batch(name, variant):
    model = tiny_model(name, variant)
    model.train(getattr(model, "has_batch_statistics", False))  # batch normalisation looks in training alone
    inputs = tiny_inputs(name, model, batch_size=2)

    both = model(**inputs).to_tuple()

    for place in range(2):
        alone = model(**{key: value[place : place + 1] for key, value in inputs.items()}).to_tuple()
        part = tuple(field[place : place + 1] for field in both)
        if getattr(model, "has_batch_statistics", False):
            assert not torch.allclose(part[0], alone[0], rtol=1e-4, atol=1e-5)
        else:
            assert_close(part, alone, rtol=1e-4, atol=1e-5)


@every_model
@pytest.mark.parametrize("training", [True, False])
def test_calling_a_model_changes_neither_it_nor_the_global_random_state(name, variant, training):
    model = tiny_model(name, variant).train(training)
    inputs = tiny_inputs(name, model)
    watched = dict(model.named_parameters()) if training else model.state_dict()  # running statistics may run
    before, state = {key: value.clone() for key, value in watched.items()}, torch.get_rng_state()

    first, second = model(**inputs).to_tuple(), model(**inputs).to_tuple()

    assert_close(first, second, rtol=0, atol=0)
    assert_close({key: value.detach() for key, value in watched.items()}, before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


@plain_models_and_slow_variants
def test_a_model_can_be_exported_for_batches_of_any_size(name, variant):
    """Not strict, so values that decide which way the code goes are refused; graph breaks are the next test's."""
    model = tiny_model(name, variant)
    has_upsampling = any(isinstance(layer, Upsample2D) for layer in model.modules())  # which copies a batch of 64
    batch = torch.export.Dim("batch", min=2, max=63 if has_upsampling else 4096)
    inputs, larger = (tiny_inputs(name, model, batch_size) for batch_size in (3, 60))

    shapes = {key: {0: batch} for key in inputs}
    program = torch.export.export(model, (), inputs, dynamic_shapes=shapes, strict=False)

    assert_close(program.module()(**larger).to_tuple(), model(**larger).to_tuple(), rtol=1e-4, atol=1e-5)


def compiled(model, backend):
    torch.compiler.reset()
    return torch.compile(model, fullgraph=True, backend=backend)


@plain_models_and_slow_variants
def test_a_model_compiles_into_one_graph_as_it_is_trained(name, variant):
    model = tiny_model(name, variant).train()
    inputs = tiny_inputs(name, model)

    with torch._dynamo.config.patch(allow_rnn=True):  # an LSTM is one node of the graph
        traced = compiled(model, "eager")(**inputs)

    assert_close(traced.to_tuple(), model(**inputs).to_tuple(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_what_is_compiled_computes_the_same():
    model = tiny_model("ConvVAE").train()
    inputs = tiny_inputs("ConvVAE", model)

    fused = compiled(model, "inductor")(**inputs)

    assert_close(fused.to_tuple(), model(**inputs).to_tuple(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [(name, *case) for name in PUBLIC if name in MODELS for case in MODELS[name].refused],
)
def test_bad_arguments_are_refused_by_name_and_value(name, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(name, **changes)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [[8, 8], [8, 16], [16, 8]])
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_the_patch_unet_is_a_unet_on_patches_whose_pixels_are_channels(patch, size, channels):
    model = tiny_model("PatchUNet2DModel", patch_size=patch, sample_size=size, in_channels=channels)
    inputs, p = tiny_inputs("PatchUNet2DModel", model), patch
    arguments = {key: value for key, value in plain(model.config).items() if key != "patch_size"}
    small = {"sample_size": [side // p for side in size], "in_channels": channels * p**2}
    unet = UNet2DModel(**arguments | small, out_channels=channels * p**2)
    unet.load_state_dict(model.unet.state_dict())

    patches = inputs["sample"].reshape(2, channels, size[0] // p, p, size[1] // p, p).permute(0, 1, 3, 5, 2, 4)
    patches = unet(patches.flatten(1, 3), inputs["timestep"]).sample  # (B, C p p, H / p, W / p)
    patches = patches.reshape(2, channels, p, p, size[0] // p, size[1] // p)

    expected = patches.permute(0, 1, 4, 2, 5, 3).reshape(inputs["sample"].shape)
    assert_close(model(**inputs).sample, expected, rtol=0, atol=1e-6)


def test_a_conditional_unet_sees_the_class_and_asks_for_it():
    model = tiny_model("PatchUNet2DModel", "conditional")
    inputs = tiny_inputs("PatchUNet2DModel", model)

    other = model(**inputs | {"class_labels": (inputs["class_labels"] + 1) % 4}).sample

    assert not torch.allclose(model(**inputs).sample, other, atol=1e-3)
    with pytest.raises(ValueError, match="class_labels"):
        model(inputs["sample"], inputs["timestep"])


@every_model
def test_what_pipelines_call_tells_accelerate_so_that_weights_can_stay_elsewhere(name, variant):
    model = tiny_model(name, variant)
    calls = []

    class Remembering(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            calls.append(module)
            return args, kwargs

    inputs = tiny_inputs(name, model)
    add_hook_to_module(model, Remembering())
    if hasattr(model, "encode"):
        labels = {key: value for key, value in inputs.items() if key == "class_labels"}
        codes = model.encode(inputs["sample"], **labels)
        model.decode(codes[0] if isinstance(codes, tuple) else codes, **labels)
    elif hasattr(model, "map"):
        styles = model.map(inputs["latents"])
        model.synthesize(styles[:, None].expand(-1, model.num_layers, -1))
    else:
        model(**inputs)

    assert calls == [model] * (2 if hasattr(model, "encode") or hasattr(model, "map") else 1)
