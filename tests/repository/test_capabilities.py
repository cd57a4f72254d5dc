"""What a pipeline can do is what its class declares, and which classes it knows is what its config and network say."""

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from tiny import tiny_model
from tiny_pipelines import PIPELINES, tiny_stable_diffusion
from torch.testing import assert_close

import genhub
from genhub.repository.capabilities import Capabilities, call_arguments, capabilities_of, is_conditional


def diffusion(variant, num_classes=None):
    network = tiny_model("PatchUNet2DModel", variant)  # a conditional one has four classes
    return genhub.CosineDDPMPipeline(network, genhub.CosineDDPMScheduler(), num_classes=num_classes)


@pytest.mark.parametrize(
    ("pipeline", "num_classes", "has_null_class"),
    [
        (diffusion("plain"), None, False),
        (diffusion("conditional"), 4, False),
        (diffusion("conditional", 4), 4, False),
        (diffusion("conditional", 3), 3, True),
        (PIPELINES["GANPipeline"].make(), None, False),
        (PIPELINES["GANPipeline, classes"].make(), 4, False),
        (PIPELINES["VAEPipeline, classes"].make(), 4, False),
        (PIPELINES["ImageClassificationPipeline"].make(), None, False),
        (tiny_stable_diffusion(), None, False),
        (DDPMPipeline(tiny_model("UNet2DModel", num_class_embeds=4), DDPMScheduler()), None, False),
    ],
)
def test_the_null_class_is_none_of_the_classes(pipeline, num_classes, has_null_class):
    capabilities = capabilities_of(pipeline)

    assert (capabilities.num_classes, capabilities.has_null_class) == (num_classes, has_null_class)
    assert ("class_labels" in capabilities.inputs) is is_conditional(pipeline) is (num_classes is not None)


def test_a_class_declares_what_its_instances_may_take():
    assert capabilities_of(genhub.CosineDDPMPipeline) == Capabilities(
        tasks=frozenset({"generate", "outpaint"}),
        inputs=frozenset({"class_labels", "image", "mask_image"}),
        sampling_arguments=frozenset(
            {"guidance_interval", "guidance_scale", "height", "jump_length", "jump_n_sample", "num_inference_steps"}
            | {"operator", "strength", "timesteps", "width"}
        ),
    )
    assert capabilities_of(genhub.AutoencoderPipeline).tasks == {"reconstruct", "denoise", "encode", "hash"}
    assert not capabilities_of(genhub.AutoencoderPipeline).can("generate")
    assert capabilities_of(DDPMPipeline).can("generate")


@pytest.mark.parametrize(
    ("name", "variant", "options", "output"),
    [
        ("DenseAutoencoder", "plain", {}, "images"),
        ("DenseAutoencoder", "linear", {"clip_sample": False}, "points"),
    ],
)
def test_the_output_of_an_autoencoder_is_images_or_points(name, variant, options, output):
    pipeline = genhub.AutoencoderPipeline(tiny_model(name, variant), **options)

    assert capabilities_of(pipeline).output == output
    assert capabilities_of(PIPELINES["ImageClassificationPipeline"].make()).output == "labels"


@pytest.mark.parametrize(("variant", "can_hash"), [("plain", False), ("sigmoid code", True)])
def test_an_autoencoder_hashes_if_its_code_is_made_of_sigmoids(variant, can_hash):
    pipeline = genhub.AutoencoderPipeline(tiny_model("DenseAutoencoder", variant))

    assert capabilities_of(pipeline).can("hash") is can_hash


def test_a_subclass_of_a_known_pipeline_can_do_the_same_and_an_unknown_one_nothing():
    class Ours(DDPMPipeline):
        pass

    assert capabilities_of(Ours) == capabilities_of(DDPMPipeline)
    assert capabilities_of(genhub.DiffusionPipeline) == Capabilities()


def test_a_pipeline_is_asked_for_a_number_for_classes_or_for_prompts():
    plain, conditional, text = diffusion("plain"), diffusion("conditional"), tiny_stable_diffusion()

    assert call_arguments(plain, 3) == {"batch_size": 3}
    assert call_arguments(conditional, 2, [1, 0]) == {"batch_size": 2, "class_labels": [1, 0]}
    assert call_arguments(text, 2, prompts=["a", "b"]) == {"prompt": ["a", "b"]}
    assert call_arguments(text, 2) == {"prompt": "", "num_images_per_prompt": 2}


def test_a_text_encoder_is_run_once_for_each_prompt_of_a_call():
    pipe, encoded = tiny_stable_diffusion(), []
    pipe.text_encoder.register_forward_pre_hook(lambda module, inputs: encoded.append(len(inputs[0])))
    few_steps = {"num_inference_steps": 3, "output_type": "latent"}

    pipe(**call_arguments(pipe, 4, prompts=["a"] * 4), **few_steps, guidance_scale=1.0)
    assert encoded == [1]
    pipe(**call_arguments(pipe, 3, prompts=["a", "b", "a"]), **few_steps, guidance_scale=1.0)
    assert encoded == [1, 3]
    pipe(**call_arguments(pipe, 4, prompts=["a"] * 4), **few_steps, guidance_scale=2.0)
    assert encoded == [1, 3, 1, 1]  # and the empty one


def test_images_of_one_prompt_are_those_of_a_list_of_copies():
    pipe = tiny_stable_diffusion()
    options = {"num_inference_steps": 2, "output_type": "pt"}

    def images(**prompts):
        generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
        return pipe(**prompts, **options, generator=generators).images

    assert_close(images(**call_arguments(pipe, 3, prompts=["a bag"] * 3)), images(prompt=["a bag"] * 3))
