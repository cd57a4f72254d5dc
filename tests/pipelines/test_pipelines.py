"""The contract of a pipeline, for every public class: outputs, generators, dtype, round trip, capabilities, errors."""

import inspect

import numpy as np
import pytest
import torch
from diffusers.pipelines import pipeline_utils
from PIL import Image
from tiny_pipelines import OF_GENHUB, OF_GENHUB_OR_LATENT, PIPELINES, call, tensor
from torch.testing import assert_close

import genhub
from genhub.repository.capabilities import call_arguments, capabilities_of

GENERATING = [name for name, tiny in PIPELINES.items() if "image" not in tiny.arguments]
OF_IMAGES = [name for name in PIPELINES if "Classification" not in name]
every_pipeline = pytest.mark.parametrize("name", PIPELINES)
every_generating = pytest.mark.parametrize("name", GENERATING)


def one_by_one(name):
    """The arguments of a call for each of the two images."""
    arguments = PIPELINES[name].arguments
    listed = [key for key in ("class_labels", "prompt") if key in arguments]
    single = {"batch_size": 1} if "batch_size" in arguments else {}
    return [arguments | single | {key: arguments[key][place : place + 1] for key in listed} for place in range(2)]


def test_every_public_pipeline_is_in_the_table():
    public = {name for name in genhub.__all__ if name.endswith("Pipeline")} - {"AutoPipeline", "DiffusionPipeline"}

    assert {type(tiny.make()).__name__ for tiny in OF_GENHUB.values()} == public


@every_pipeline
def test_the_output_is_named_or_a_tuple_of_the_same(name):
    pipe, arguments = PIPELINES[name].make(), PIPELINES[name].arguments

    named, unnamed = (call(pipe, arguments, return_dict=return_dict) for return_dict in (True, False))

    assert type(unnamed) is tuple
    assert [type(part) for part in unnamed][: len(named)] == [type(part) for part in named.values()]
    for first, second in zip(named.values(), unnamed, strict=False):
        assert np.array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize("name", OF_IMAGES)
def test_an_image_is_the_same_in_every_output_type(name):
    pipe, arguments = PIPELINES[name].make(), PIPELINES[name].arguments

    pt, np_, pil = (call(pipe, arguments, output_type=output_type).images for output_type in ("pt", "np", "pil"))

    assert (pt.ndim, pt.dtype, pt.requires_grad) == (4, torch.float32, False)
    assert 0 <= pt.min() < pt.max() <= 1
    np.testing.assert_array_equal(np_, pt.permute(0, 2, 3, 1).numpy())
    for image, pixels in zip(pil, np_, strict=True):
        assert isinstance(image, Image.Image)
        assert image.mode == {1: "L", 3: "RGB"}[pt.shape[1]]
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), (pixels * 255).round())


@every_generating
def test_a_generator_gives_the_same_image_and_another_one_another(name):
    pipe, arguments, state = PIPELINES[name].make(), PIPELINES[name].arguments, torch.get_rng_state()

    first, again, other = (tensor(pipe, arguments, seeds) for seeds in ((0, 1), (0, 1), (0, 2)))

    assert torch.equal(first, again)
    assert torch.equal(first[0], other[0])
    assert not torch.allclose(first[1], other[1], atol=1e-3)
    assert torch.equal(torch.get_rng_state(), state)


@every_generating
def test_with_a_generator_for_each_image_a_batch_is_its_images_one_by_one(name):
    pipe = PIPELINES[name].make()

    together = tensor(pipe, PIPELINES[name].arguments)

    alone = [tensor(pipe, arguments, (seed,)) for seed, arguments in enumerate(one_by_one(name))]
    assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", OF_GENHUB)
def test_in_bf16_a_pipeline_gives_nearly_the_same_in_float32(name):
    pipe, arguments = PIPELINES[name].make(), PIPELINES[name].arguments
    exact = tensor(pipe, arguments)

    rounded = tensor(pipe.to(torch.bfloat16), arguments)

    assert (pipe.dtype, rounded.dtype) == (torch.bfloat16, torch.float32)
    assert torch.isfinite(rounded).all()
    assert 0 < (rounded - exact).abs().mean() < 0.05


@pytest.mark.parametrize("name", [name for name in OF_GENHUB if name in GENERATING])
def test_a_seed_means_the_same_images_in_half_precision(name):
    pipe = PIPELINES[name].make()
    pipe.set_progress_bar_config(disable=True)
    classes = capabilities_of(pipe).num_classes
    labels = None if classes is None else [place % classes for place in range(25)]
    arguments = call_arguments(pipe, 25, labels)  # 100 latents: a multiple of 16 would be drawn alike

    exact, other = (
        pipe(**arguments, generator=torch.Generator().manual_seed(seed), output_type="pt") for seed in (0, 1)
    )
    rounded = pipe.to(torch.float16)(**arguments, generator=torch.Generator().manual_seed(0), output_type="pt")

    distance = (rounded.images - exact.images).abs().mean()
    assert distance < 0.1 * (other.images - exact.images).abs().mean()


@pytest.mark.parametrize("name", OF_GENHUB)
def test_a_pipeline_saved_by_diffusers_is_loaded_in_eval_mode_and_makes_the_same(name, tmp_path):
    pipe, arguments = PIPELINES[name].make(), PIPELINES[name].arguments

    pipe.save_pretrained(tmp_path)
    loaded = type(pipe).from_pretrained(tmp_path)

    assert not any(part.training for part in loaded.components.values() if isinstance(part, torch.nn.Module))
    assert {key: type(part) for key, part in loaded.components.items()} == {
        key: type(part) for key, part in pipe.components.items()
    }
    changed = {key for key in pipe.config if key[0] != "_" and pipe.config[key] != loaded.config[key]}
    assert changed == set()
    assert torch.equal(tensor(loaded, arguments), tensor(pipe, arguments))


@pytest.mark.parametrize("name", OF_GENHUB_OR_LATENT)
def test_from_pipe_makes_a_pipeline_of_the_same_parts_and_config(name):
    pipe = OF_GENHUB_OR_LATENT[name].make().to(torch.bfloat16)

    again = type(pipe).from_pipe(pipe)

    assert again is not pipe
    assert all(again.components[key] is part for key, part in pipe.components.items())
    assert dict(again.config) == dict(pipe.config)
    assert again.dtype == torch.bfloat16


@pytest.mark.parametrize("name", OF_GENHUB_OR_LATENT)
@pytest.mark.parametrize("groups", [{"offload_type": "leaf_level"}, {"num_blocks_per_group": 2}])
def test_a_pipeline_offloaded_in_groups_makes_the_same_or_refuses(name, groups, tmp_path):
    pipe, arguments = OF_GENHUB_OR_LATENT[name].make(), OF_GENHUB_OR_LATENT[name].arguments
    exact, groups = tensor(pipe, arguments), groups | {"offload_to_disk_path": str(tmp_path)}
    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    if not all(network._supports_group_offloading for network in networks):
        with pytest.raises(ValueError, match="does not support group offloading|`offload_to_disk_path` must be unset"):
            pipe.enable_group_offload("cpu", **groups)
        return

    pipe.enable_group_offload("cpu", **groups)

    assert torch.equal(tensor(pipe, arguments), exact)


WORK = {  # what runs a network besides the call, of every pipeline
    "AutoencoderPipeline, colour": {
        "encode": lambda pipe, image: pipe.encode(image),
        "decode": lambda pipe, image: pipe.decode(pipe.encode(image)),
        "denoise": lambda pipe, image: pipe.denoise(image),
    },
    "BoltzmannPipeline": {
        "encode": lambda pipe, image: pipe.encode(image),
        "reconstruct": lambda pipe, image: pipe.reconstruct(image),
    },
    "CosineDDPMPipeline": {
        "interpolate": lambda pipe, image: pipe.interpolate(image[:1], image[1:]),
        "outpaint": lambda pipe, image: pipe.outpaint(image, left=8),
    },
    "CosineDDPMPipeline, latents": {"reconstruct": lambda pipe, image: pipe.reconstruct(image.repeat(1, 1, 2, 2))},
    "GANPipeline": {
        "interpolate": lambda pipe, image: pipe.interpolate(torch.zeros(1, 4), torch.ones(1, 4)),
        "arithmetic": lambda pipe, image: pipe.arithmetic(*torch.eye(4)[:3, None]),
        "project": lambda pipe, image: pipe.project(image, num_steps=2, num_starts=2),
    },
    "GANPipeline, styles": {"mix": lambda pipe, image: pipe.mix(torch.zeros(1, 4), torch.ones(1, 4))},
    "VAEPipeline": {
        "encode": lambda pipe, image: pipe.encode(image),
        "reconstruct": lambda pipe, image: pipe.reconstruct(image),
        "manifold": lambda pipe, image: pipe.manifold(4),
    },
}


@pytest.mark.parametrize(
    ("name", "work"),
    [(name, None) for name in OF_GENHUB_OR_LATENT] + [(name, work) for name, works in WORK.items() for work in works],
)
def test_whatever_runs_a_network_puts_it_back_where_it_was_offloaded(name, work):
    pipe, arguments = OF_GENHUB_OR_LATENT[name].make(), OF_GENHUB_OR_LATENT[name].arguments
    pipe.set_progress_bar_config(disable=True)
    pipe.enable_model_cpu_offload(device="cpu")
    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    hooks = {part._hf_hook for part in networks}

    if work is None:
        call(pipe, arguments)
    else:
        channels = 1 if name in ("BoltzmannPipeline", "GANPipeline", "VAEPipeline") else 3
        WORK[name][work](pipe, torch.linspace(0, 1, 2 * channels * 64).reshape(2, channels, 8, 8))

    assert hooks.isdisjoint(part._hf_hook for part in networks)  # new ones: each waits for its next call


@pytest.mark.parametrize("name", [name for name in OF_GENHUB if name in GENERATING])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"batch_size": -1}, "`batch_size` must be at least 1, got -1"),
        ({"batch_size": 3, "generator": [torch.Generator()] * 2}, "`generator` must be one generator or 3 .*, got 2"),
        ({"output_type": "latent"}, "`output_type` must be pil, np or pt, got 'latent'"),
        ({"class_labels": [0, -1]}, r"`class_labels` must be (unset|integers in 0\.\.[23], got \[0, -1\])"),
        ({"class_labels": [0, 4]}, r"`class_labels` must be (unset|integers in 0\.\.[23], got \[0, 4\])"),
        ({"class_labels": 1.5}, r"`class_labels` must be (unset|integers in 0\.\.[23], got \[1.5\])"),
        ({"class_labels": [0, 1], "batch_size": 3}, "`class_labels` must (be unset|hold 1 or 3 entries, got 2)"),
    ],
)
def test_a_bad_argument_is_refused_before_the_network_is_called(name, arguments, message):
    pipe, seen = PIPELINES[name].make(), []
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            for module in part.modules():
                module.register_forward_pre_hook(lambda *args: seen.append(args))
    given = {key: value for key, value in PIPELINES[name].arguments.items() if key in ("class_labels", "truncation")}
    takes_all = arguments.keys() <= inspect.signature(type(pipe).__call__).parameters.keys()

    error, says = (ValueError, message) if takes_all else (TypeError, "unexpected keyword argument 'class_labels'")
    with pytest.raises(error, match=says):
        pipe(**given | arguments)

    assert seen == []


@pytest.mark.parametrize("name", [name for name in OF_GENHUB if name not in GENERATING])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image - 1, r"`image` must lie in \[0, 1\], got -1.0 to 0.0"),
        (lambda image: image + 1, r"`image` must lie in \[0, 1\], got 1.0 to 2.0"),
        (lambda image: image + torch.nan, "`image` must be finite floats, got torch.float32"),
        (lambda image: image * torch.inf, "`image` must be finite floats, got torch.float32"),
        (lambda image: (255 * image).byte(), "`image` must be finite floats, got torch.uint8"),
        (lambda image: image.repeat(1, 4, 1, 1), r"`image` must be .* = \(N, [13], 8, 8\), got \(2, (4|12), 8, 8\)"),
        (lambda image: image[:0], "`image` must hold at least one image, got none"),
        (lambda image: "image.png", "Input is in incorrect format"),  # diffusers' own words
    ],
)
def test_a_bad_image_is_refused_before_the_network_is_called(name, change, message):
    pipe, seen, shape = PIPELINES[name].make(), [], PIPELINES[name].arguments["image"]
    pipe.network.register_forward_pre_hook(lambda *args: seen.append(args))

    with pytest.raises(ValueError, match=message):
        pipe(change(torch.linspace(0, 1, int(np.prod(shape))).reshape(shape)))

    assert seen == []


@pytest.mark.parametrize("name", [name for name in OF_IMAGES if name in OF_GENHUB])
@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_images_that_are_not_finite_are_refused(name, output_type):
    pipe = PIPELINES[name].make()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                torch.nn.init.constant_(parameter, torch.nan)

    with pytest.raises(ValueError, match="The images must be finite, got 2 of 2 with NaN or infinity"):
        call(pipe, PIPELINES[name].arguments, output_type=output_type)


# What it declares is true.


@every_pipeline
def test_a_task_is_a_call_or_a_method(name):
    pipe = PIPELINES[name].make()
    declared = capabilities_of(pipe)

    assert declared.tasks
    assert declared.tasks <= capabilities_of(type(pipe)).tasks
    assert [task for task in declared.tasks - {"generate", "classify"} if not callable(getattr(pipe, task))] == []
    assert declared.can("generate") is (name in GENERATING)


@every_pipeline
def test_an_input_and_a_sampling_argument_are_parameters_of_the_call(name):
    pipe = PIPELINES[name].make()
    declared = capabilities_of(pipe)
    parameters = inspect.signature(type(pipe).__call__).parameters

    assert (declared.inputs & {"image", "prompt"}) | declared.sampling_arguments <= parameters.keys()
    assert ("prompt" in declared.inputs) is ("prompt" in parameters)
    assert ("class_labels" in declared.inputs) is (declared.num_classes is not None)


@pytest.mark.parametrize("name", [name for name in OF_GENHUB if name in GENERATING])
def test_every_further_parameter_of_a_call_is_declared(name):
    pipe = PIPELINES[name].make()
    common = {"batch_size", "class_labels", "generator", "latents", "output_type", "return_dict", "self"}
    common |= {"callback_on_step_end", "callback_on_step_end_tensor_inputs"}
    declared = capabilities_of(pipe)

    parameters = inspect.signature(type(pipe).__call__).parameters.keys() - common
    assert parameters - declared.inputs == declared.sampling_arguments


@pytest.mark.parametrize("name", OF_GENHUB_OR_LATENT)
def test_a_pipeline_that_steps_calls_back_after_each_step_with_its_tensors(name):
    pipe, arguments = OF_GENHUB_OR_LATENT[name].make(), OF_GENHUB_OR_LATENT[name].arguments
    if "num_inference_steps" not in inspect.signature(type(pipe).__call__).parameters:
        return
    seen, inputs = [], list(pipe._callback_tensor_inputs)

    def remember(pipeline, step, timestep, tensors):
        seen.append((step, sorted(tensors)))
        return {"latents": 0 * tensors["latents"]}

    images = call(
        pipe,
        arguments,
        output_type="pt",
        callback_on_step_end=remember,
        callback_on_step_end_tensor_inputs=inputs,
    ).images

    assert seen == [(step, sorted(inputs)) for step in range(4)]
    if pipe.components.get("vae") is None:
        assert torch.equal(images, torch.full_like(images, 0.5))


@pytest.mark.parametrize("name", OF_GENHUB)
def test_diffusers_understands_the_annotations_of_a_constructor(name, monkeypatch):
    said = []
    monkeypatch.setattr(pipeline_utils.logger, "warning", said.append)

    type(PIPELINES[name].make())._get_signature_types()

    assert said == []


@every_generating
def test_by_its_capabilities_any_pipeline_is_asked_for_images_of_every_class(name):
    pipe = PIPELINES[name].make()
    declared = capabilities_of(pipe)
    labels = None if declared.num_classes is None else [place % declared.num_classes for place in range(5)]
    steps = {"num_inference_steps": 2} if "num_inference_steps" in declared.sampling_arguments else {}
    size = {key: 16 for key in ("height", "width") if key in declared.sampling_arguments}
    pipe.set_progress_bar_config(disable=True)

    images = pipe(**call_arguments(pipe, 5, labels), **steps, **size, output_type="pt").images

    assert len(images) == 5
    assert images.ndim == 4


@every_generating
def test_a_wrapped_call_changes_no_capability(name, monkeypatch):
    pipe = PIPELINES[name].make()
    expected = capabilities_of(pipe)

    monkeypatch.setattr(type(pipe), "__call__", lambda *args, **kwargs: None)

    assert capabilities_of(pipe) == expected


def test_a_method_that_a_model_cannot_do_is_no_task_of_its_pipeline():
    tied, hashing = (tiny.make() for tiny in (OF_GENHUB["AutoencoderPipeline"], OF_GENHUB["GANPipeline, styles"]))

    assert not capabilities_of(tied).can("hash")
    assert capabilities_of(hashing).can("mix")
    assert not capabilities_of(OF_GENHUB["GANPipeline"].make()).can("mix")
