"""Editing by denoising: what is known is kept, what is unknown comes from the network, whatever the scheduler."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from denoisers import Memory, every_scheduler, generators, pipeline, rows_seen, sample, tiny_pipeline
from diffusers import EDMEulerScheduler
from PIL import Image
from tiny import tiny_model
from torch.testing import assert_close

from genhub import CosineDDPMPipeline

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers


def bytes_image(seed=0, size=8, channels=1):
    """Random bytes as an image (1, C, H, W) in [0, 1]."""
    return torch.randint(0, 256, (1, channels, size, size), generator=generators(seed)[0]) / 255


def left_half(size=8):
    """A mask (1, 1, H, W), white on its left half."""
    return (torch.arange(size) < size // 2).float().expand(1, 1, size, size)


@every_scheduler
def test_an_image_starts_with_the_noise_of_its_strength_and_the_network_sees_unit_noise(scheduler):
    memory = Memory(in_channels=3, sample_size=16)
    pipe = pipeline(memory, scheduler)
    data = pipe.unet.images / 2 + 0.5

    images = sample(pipe, 0, image=data, strength=0.5, batch_size=2, num_inference_steps=12)

    assert len(memory.seen) == len(pipe.scheduler.timesteps) - 12 // 2 * pipe.scheduler.order
    assert memory.seen == pytest.approx([1.0] * len(memory.seen), abs=0.1)
    assert_close(images, data.expand(2, -1, -1, -1), rtol=0, atol=5e-3)


@every_scheduler
def test_strength_1_is_generation_from_noise_bit_for_bit(scheduler):
    pipe = tiny_pipeline(scheduler=scheduler)

    assert torch.equal(sample(pipe, 0, image=bytes_image(), strength=1.0), sample(pipe, 0))


def test_a_weaker_edit_takes_fewer_steps_and_stays_nearer_to_the_image():
    pipe, image = tiny_pipeline(), bytes_image()
    seen, distances = rows_seen(pipe), []

    for strength, calls in ((0.1, 1), (0.3, 3), (0.5, 5), (1.0, 10)):
        seen.clear()
        distances.append((sample(pipe, 0, image=image, strength=strength, num_inference_steps=10) - image).norm())
        assert len(seen) == calls
    assert distances == sorted(distances)


def test_an_image_alone_is_edited_at_the_strength_of_diffusers():
    pipe, image = tiny_pipeline(), bytes_image()

    assert torch.equal(sample(pipe, 0, image=image), sample(pipe, 0, image=image, strength=0.8))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@every_scheduler
def test_known_pixels_are_kept_bit_for_bit_and_the_others_come_from_the_network(scheduler, prediction_type):
    pipe = pipeline(Memory(sample_size=8, prediction_type=prediction_type), scheduler, prediction_type=prediction_type)
    image, mask = bytes_image(), left_half()

    (made,) = pipe(
        image=Image.fromarray((image[0, 0] * 255).byte().numpy()),
        mask_image=Image.fromarray((mask[0, 0] * 255).byte().numpy()),
        generator=generators(0)[0],
        num_inference_steps=12,
    ).images

    made = torch.from_numpy(np.array(made))
    assert torch.equal(made[:, 4:], (image[0, 0, :, 4:] * 255).byte())
    assert_close(made[:, :4] / 255, (pipe.unet.images / 2 + 0.5)[0, 0, :, :4], rtol=0, atol=0.01)


@every_scheduler
def test_resampling_repeats_its_steps_and_the_network_still_sees_unit_noise(scheduler):
    memory = Memory(in_channels=3, sample_size=16)
    pipe = pipeline(memory, scheduler)
    data = pipe.unet.images / 2 + 0.5

    images = sample(
        pipe, 0, image=data, mask_image=left_half(16), jump_length=2, jump_n_sample=3, num_inference_steps=8
    )

    assert len(memory.seen) == 3 * len(pipe.scheduler.timesteps)
    assert memory.seen == pytest.approx([1.0] * len(memory.seen), abs=0.15)
    assert_close(images, data, rtol=0, atol=5e-3)


def test_resampling_once_is_none():
    pipe, arguments = tiny_pipeline(), {"image": bytes_image(), "mask_image": left_half()}

    once = sample(pipe, 0, **arguments, jump_length=2, jump_n_sample=1)

    assert torch.equal(once, sample(pipe, 0, **arguments))
    assert not torch.allclose(once, sample(pipe, 0, **arguments, jump_length=2, jump_n_sample=2), atol=1e-3)


@pytest.mark.parametrize("factor", [2, 4, 8])
@every_scheduler
def test_an_enlarged_image_has_the_means_that_were_given(scheduler, factor):
    pipe, small = tiny_pipeline(scheduler=scheduler), bytes_image(size=8 // factor)

    images = sample(pipe, 0, image=small, operator="downsampling", batch_size=3)

    assert images.shape == (3, 1, 8, 8)
    assert_close(F.avg_pool2d(images, factor), small.expand(3, -1, -1, -1), rtol=0, atol=1e-6)
    assert images.std(0).mean() > 0.01  # the rest is made


def test_a_coloured_image_has_the_luminance_that_was_given():
    pipe, grey = pipeline(Memory(in_channels=3, sample_size=8)), bytes_image()

    images = sample(pipe, 0, image=grey, operator="greyscale")
    (made,) = pipe(image=grey, operator="greyscale", generator=generators(0)[0]).images

    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert_close((weights * images).sum(1, keepdim=True), grey, rtol=0, atol=1e-6)
    assert_close(torch.from_numpy(np.array(made.convert("L"))) / 255, grey[0, 0], rtol=0, atol=1.1 / 255)
    colours = images - images.mean(1, keepdim=True)
    data = pipe.unet.images / 2
    assert torch.corrcoef(torch.stack([colours.flatten(), (data - data.mean(1, keepdim=True)).flatten()]))[0, 1] > 0.8


def test_what_the_network_knows_already_is_not_changed_by_a_measurement_of_it():
    pipe = pipeline(Memory(in_channels=3, sample_size=8))
    data = pipe.unet.images / 2 + 0.5

    for operator, image in (
        ("downsampling", F.avg_pool2d(data, 2)),
        ("greyscale", (torch.tensor([0.299, 0.587, 0.114])[:, None, None] * data).sum(1, keepdim=True)),
    ):
        assert_close(sample(pipe, 0, image=image.detach(), operator=operator), data, rtol=0, atol=5e-3)


def test_a_wider_canvas_keeps_the_image_where_it_was_put():
    pipe, image = tiny_pipeline(), bytes_image()

    images = pipe.outpaint(
        image, left=4, right=8, bottom=4, generator=generators(0)[0], output_type="pt", batch_size=2
    ).images

    assert images.shape == (2, 1, 12, 20)
    assert torch.equal((images[..., :8, 4:12] * 255).round(), (image.expand(2, -1, -1, -1) * 255).round())
    assert images[..., :, 12:].std() > 0.01


def test_interpolation_goes_from_one_edited_image_to_the_other():
    pipe, (first, second) = tiny_pipeline(), (bytes_image(0), bytes_image(1))
    noise = torch.randn(1, 1, 8, 8, generator=generators(0)[0])

    images = pipe.interpolate(first, second, 5, 0.5, generators(0)[0], output_type="pt").images

    assert len(images) == 5
    for image, end in ((images[:1], first), (images[-1:], second)):
        generator = generators(0)[0]
        torch.randn(1, 1, 8, 8, generator=generator)  # the noise
        again = pipe(image=end, strength=0.5, latents=noise, generator=generator, output_type="pt").images
        assert_close(image, again)
    to_first = [(image - images[0]).norm().item() for image in images]
    assert to_first == sorted(to_first)


@every_scheduler
def test_what_is_interpolated_from_noise_alone_is_one_image(scheduler):
    pipe = tiny_pipeline(scheduler=scheduler)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = pipe.interpolate(bytes_image(0), bytes_image(1), 3, strength=1.0, output_type="pt").images
        torch.manual_seed(0)
        again = pipe.interpolate(bytes_image(0), bytes_image(1), 3, strength=1.0, output_type="pt").images

    assert_close(images, images[:1].expand_as(images), rtol=0, atol=1e-5)
    assert torch.equal(images, again)


def test_a_small_image_is_enlarged_from_its_noisy_form():
    small = bytes_image(size=4)

    images = sample(tiny_pipeline(), 0, image=small, operator="downsampling", strength=0.5)

    assert_close(F.avg_pool2d(images, 2), small, rtol=0, atol=1e-6)


def test_known_pixels_need_a_scheduler_that_says_what_x_0_a_prediction_means():
    pipe = CosineDDPMPipeline(tiny_model("PatchUNet2DModel"), EDMEulerScheduler())

    for known in ({"mask_image": left_half()}, {"operator": "downsampling"}):
        image = bytes_image(size=4) if "operator" in known else bytes_image()
        with pytest.raises(ValueError, match="needs a scheduler with `alphas_cumprod`, got EDMEulerScheduler"):
            pipe(image=image, **known)


def test_with_a_generator_for_each_image_a_batch_of_edits_is_its_edits_one_by_one():
    pipe, image = tiny_pipeline(), torch.cat([bytes_image(0), bytes_image(1)])
    arguments = {"mask_image": left_half(), "jump_n_sample": 2}

    together = sample(pipe, 3, 4, image=image, **arguments)

    alone = [sample(pipe, seed, image=image[i : i + 1], **arguments) for i, seed in enumerate((3, 4))]
    assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 0.5}, "`strength` must be 1 without an `image`, got 0.5"),
        ({"image": bytes_image(), "strength": 0.0}, r"`strength` must lie in \(0, 1\], got 0.0"),
        ({"image": bytes_image(), "strength": 1.5}, r"`strength` must lie in \(0, 1\], got 1.5"),
        ({"image": bytes_image(size=7)}, r"`image` must be 8 x 8 pixels, got \(7, 7\)"),
        ({"image": []}, "`image` must hold at least one image, got none"),
        ({"image": 2 * bytes_image()}, r"`image` must be floats \(N, 1, H, W\) in \[0, 1\], got .* to 1.99"),
        ({"image": bytes_image(channels=3)}, r"`image` must be floats \(N, 1, H, W\) .*, got \(1, 3, 8, 8\)"),
        ({"image": bytes_image().repeat(2, 1, 1, 1), "batch_size": 3}, "`image` must hold 1 or 3 images, got 2"),
        ({"mask_image": left_half()}, "`image` must be given with `mask_image` or `operator`"),
        (
            {"image": bytes_image(), "mask_image": left_half(6)},
            r"`mask_image` must be one mask .*, 8 x 8, got \(1, 1, 6, 6\)",
        ),
        ({"image": bytes_image(), "mask_image": left_half(), "operator": "downsampling"}, "at most one of"),
        ({"image": bytes_image(), "operator": "blur"}, "`operator` must be downsampling or greyscale, got 'blur'"),
        ({"image": bytes_image(), "operator": "downsampling"}, "`image` must be a whole part of 8 x 8 .*, got .*8, 8"),
        ({"image": bytes_image(size=3), "operator": "downsampling"}, "`image` must be a whole part of 8 x 8"),
        (
            {"image": bytes_image(), "operator": "greyscale"},
            "`operator` greyscale needs a network of 3 channels, got 1",
        ),
        (
            {"image": bytes_image(), "jump_n_sample": 2},
            "`jump_n_sample` must be 1 without a mask or an operator, got 2",
        ),
        (
            {"image": bytes_image(), "mask_image": left_half(), "jump_length": 0},
            "`jump_length` must be at least 1, got 0",
        ),
        ({"height": 9}, r"`height` and `width` must be divisible by 4, got \(9, 8\)"),
    ],
)
def test_a_bad_edit_is_refused_before_the_network_is_called(arguments, message):
    pipe = tiny_pipeline()
    seen = rows_seen(pipe)

    with pytest.raises(ValueError, match=message):
        pipe(**arguments)

    assert seen == []


def test_an_edit_of_nothing_is_refused():
    pipe = tiny_pipeline()

    with pytest.raises(ValueError, match="`num_images` must be at least 2, got 1"):
        pipe.interpolate(bytes_image(), bytes_image(), num_images=1)
    with pytest.raises(ValueError, match="`first` and `second` must be one image each"):
        pipe.interpolate(bytes_image(), bytes_image(size=4))
    with pytest.raises(ValueError, match="must be at least 0, got .*-1"):
        pipe.outpaint(bytes_image(), left=-1)
