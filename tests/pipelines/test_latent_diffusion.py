"""Diffusion in the latents of an autoencoder: what is decoded, and what is encoded."""

import inspect

import pytest
import torch
from denoisers import sample
from diffusers import AutoencoderKL, LCMScheduler
from tiny import tiny_model
from tiny_pipelines import tiny_stable_diffusion
from torch.testing import assert_close

from genhub import AutoPipeline, CosineDDPMPipeline, CosineDDPMScheduler
from genhub.evaluation.sampling import set_scheduler
from genhub.repository.capabilities import capabilities_of
from genhub.repository.save import save_repo

FACTORS = {"scaling_factor": 0.8, "shift_factor": 0.1}


def autoencoder(latent_channels=1, **changes) -> AutoencoderKL:
    """Halves images of three channels once."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    sizes = {"latent_channels": latent_channels, "block_out_channels": [8, 8], "norm_num_groups": 2}
    return AutoencoderKL(**blocks, **sizes, layers_per_block=1, **FACTORS | changes).eval()


def latent_pipeline(scheduler=None) -> CosineDDPMPipeline:
    scheduler = CosineDDPMScheduler(clip_sample=False) if scheduler is None else scheduler
    pipe = CosineDDPMPipeline(tiny_model("PatchUNet2DModel", "conditional"), scheduler, 4, 3, vae=autoencoder())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def images(count=2, size=16):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_images_are_the_decoded_latents_of_the_last_step():
    pipe, seen = latent_pipeline(), []

    def remember(pipeline, step, timestep, tensors):
        seen.append(tensors["latents"])
        return tensors

    made = sample(pipe, 0, class_labels=[0, 1], callback_on_step_end=remember)

    assert seen[-1].shape == (2, 1, 8, 8)
    with torch.no_grad():
        decoded = pipe.vae.decode(seen[-1] / 0.8 + 0.1).sample
    assert_close(made, (decoded / 2 + 0.5).clamp(0, 1))


def test_latents_are_returned_if_they_are_asked_for():
    pipe = latent_pipeline()

    latents = sample(pipe, 0, class_labels=[0, 1], output_type="latent")

    with torch.no_grad():
        decoded = pipe.vae.decode(latents / 0.8 + 0.1).sample
    assert_close(sample(pipe, 0, class_labels=[0, 1]), (decoded / 2 + 0.5).clamp(0, 1))
    with pytest.raises(ValueError, match="`output_type` must be pil, np or pt, got 'latent'"):
        CosineDDPMPipeline(pipe.unet, CosineDDPMScheduler(), 4, 3)(class_labels=0, output_type="latent")


def test_with_a_generator_for_each_image_a_batch_is_its_images_one_by_one():
    pipe = latent_pipeline()

    together = sample(pipe, 3, 4, class_labels=[0, 2], guidance_scale=2.0)

    alone = [sample(pipe, seed, class_labels=label, guidance_scale=2.0) for seed, label in ((3, 0), (4, 2))]
    assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def test_a_reconstruction_decodes_the_mode_of_the_posterior():
    pipe = latent_pipeline()

    copies = pipe.reconstruct(images(), output_type="pt").images

    with torch.no_grad():
        expected = pipe.vae.decode(pipe.vae.encode(2 * images() - 1).latent_dist.mode()).sample
    assert_close(copies, (expected / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=1e-5)


def test_editing_starts_from_the_latents_of_the_image():
    pipe, seen = latent_pipeline(), []
    pipe.unet.forward = lambda sample, t, **_: (seen.append(sample), type("Output", (), {"sample": 0 * sample}))[1]

    pipe(image=images(), class_labels=[0, 1], strength=1e-9, num_inference_steps=4000, latents=torch.zeros(2, 1, 8, 8))

    with torch.no_grad():
        latents = (pipe.vae.encode(2 * images() - 1).latent_dist.mode() - 0.1) * 0.8
    assert_close(seen[0], latents, atol=1e-3, rtol=1e-3)  # alpha_bar_0 is not quite 1


def test_height_and_width_are_of_the_image():
    assert sample(latent_pipeline(), 0, class_labels=[0], height=32).shape == (1, 3, 32, 16)
    with pytest.raises(ValueError, match="`height` and `width` must be divisible by"):
        sample(latent_pipeline(), 0, class_labels=[0], height=33)


@pytest.mark.parametrize("arguments", [{"mask_image": torch.ones(2, 1, 16, 16)}, {"operator": "greyscale"}])
def test_pixels_cannot_be_kept(arguments):
    with pytest.raises(ValueError, match="`mask_image` and `operator` must be unset"):
        latent_pipeline()(image=images(), class_labels=[0, 1], **arguments)


def test_it_reconstructs_and_a_pipeline_of_pixels_does_not():
    pixels = CosineDDPMPipeline(tiny_model("PatchUNet2DModel", "conditional"), CosineDDPMScheduler(), 4, 3)

    capabilities = capabilities_of(latent_pipeline())
    assert capabilities.tasks == {"generate", "reconstruct"}
    assert "mask_image" not in capabilities.inputs
    assert not {"operator", "jump_length", "jump_n_sample"} & capabilities.sampling_arguments
    assert "reconstruct" not in capabilities_of(pixels).tasks
    with pytest.raises(ValueError, match="`reconstruct` needs a pipeline with a `vae`"):
        pixels.reconstruct(images())


def test_an_autoencoder_of_other_channels_is_refused():
    scheduler = CosineDDPMScheduler(clip_sample=False)

    with pytest.raises(ValueError, match="`vae` must have the `latent_channels` that `unet` takes, 1, got 4"):
        CosineDDPMPipeline(tiny_model("PatchUNet2DModel", "conditional"), scheduler, 4, 3, vae=autoencoder(4))


def test_a_saved_pipeline_makes_the_same_images(tmp_path):
    pipe = latent_pipeline(LCMScheduler.from_config(CosineDDPMScheduler().config, clip_sample=False))

    save_repo(pipe, tmp_path / "repo")
    again = AutoPipeline.from_pretrained(tmp_path / "repo")

    assert again.vae.config["shift_factor"] == 0.1
    assert torch.equal(sample(pipe, 0, class_labels=[0, 1]), sample(again, 0, class_labels=[0, 1]))


@pytest.mark.parametrize("make", [latent_pipeline, tiny_stable_diffusion])
@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler", "CosineDDPMScheduler"])
def test_no_scheduler_clips_latents(make, name):
    pipe = make()
    if name == "CosineDDPMScheduler":
        pipe.scheduler = CosineDDPMScheduler(clip_sample=False)

    set_scheduler(pipe, name)

    assert not pipe.scheduler.config.get("clip_sample")
    for option in {"clip_sample", "thresholding"} & {*inspect.signature(type(pipe.scheduler)).parameters}:
        with pytest.raises(ValueError, match=f"`scheduler.{option}` must be false: latents have no range"):
            set_scheduler(pipe, name, {option: True})


def test_a_scheduler_that_clips_is_refused_with_an_autoencoder():
    with pytest.raises(ValueError, match="`scheduler.clip_sample` must be false"):
        latent_pipeline(CosineDDPMScheduler())
