"""Figures of diffusion: what they show is what the pipeline computes, in grey and in colour."""

import io

import pytest
import torch
from diffusers import ConfigMixin, DDPMScheduler, EulerDiscreteScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from PIL import Image
from torch.testing import assert_close

from genhub import CosineDDPMPipeline, CosineDDPMScheduler, figure, recipes
from genhub.data import to_model_range
from genhub.evaluation.sampling import sample
from genhub.figures.diffusion import (
    Trajectory,
    animate,
    draw_strip,
    evenly,
    load_diffusion,
    record_trajectory,
    schedule_panels,
    to_pixels,
)
from genhub.figures.subject import Subject
from genhub.objectives.noising import signal_and_noise
from genhub.repository.capabilities import capabilities_of


class Memory(ModelMixin, ConfigMixin):
    """The perfect denoiser of three images, one of each class, which predicts the velocity."""

    @register_to_config
    def __init__(self, in_channels=1, sample_size=4, num_class_embeds=3):
        super().__init__()
        shape = (num_class_embeds, in_channels, sample_size, sample_size)
        self.images = torch.nn.Parameter(torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.5)

    def forward(self, sample, timestep, class_labels):
        alpha_bar, x_0 = CosineDDPMScheduler().alphas_cumprod[int(timestep)], self.images[class_labels]
        eps = (sample - alpha_bar**0.5 * x_0) / (1 - alpha_bar) ** 0.5
        return UNet2DOutput(sample=alpha_bar**0.5 * eps - (1 - alpha_bar) ** 0.5 * x_0)


@pytest.fixture
def subject(repos):
    return load_diffusion(str(repos("ddpm-quick")))


def of_memory(channels: int, scheduler=CosineDDPMScheduler) -> Subject:
    """A pipeline whose network is the perfect denoiser of three images, one of each class."""
    config = CosineDDPMScheduler(prediction_type="v_prediction", timestep_spacing="trailing").config
    pipe = CosineDDPMPipeline(Memory(channels), scheduler.from_config(config))
    pipe.set_progress_bar_config(disable=True)
    return Subject(pipe, capabilities_of(pipe), recipes.load("ddpm-quick", {"data.source": "/nowhere"}))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scheduler", [CosineDDPMScheduler, EulerDiscreteScheduler])
def test_a_network_that_knows_three_images_predicts_them_from_the_start_in_turn(channels, scheduler):
    subject = of_memory(channels, scheduler)

    found = record_trajectory(subject, 4, seed=0, steps=6)

    images = subject.pipeline.unet.images[[0, 1, 2, 0]]
    assert found.labels == [0, 1, 2, 0]
    assert found.samples.shape == (7, 4, channels, 4, 4)
    assert_close(found.predictions, images.expand(6, -1, -1, -1, -1), rtol=0, atol=5e-3)
    assert_close(found.samples[-1], images, rtol=0, atol=5e-3)
    assert 0.7 < found.samples[0].std() / subject.pipeline.scheduler.init_noise_sigma < 1.3


def test_the_last_sample_is_the_image_that_generate_makes(subject):
    found = record_trajectory(subject, 3, seed=5, steps=4)

    assert_close(to_pixels(found.samples[-1]), sample(subject.pipeline, 3, 5, arguments={"num_inference_steps": 4}))
    assert found.timesteps == [19, 14, 9, 4]
    assert found.captions() == ["t = 19", "t = 14", "t = 9", "t = 4", "image"]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_tiles_of_a_strip_are_what_the_callback_saw(channels, drawing):
    subject = of_memory(channels)
    found = record_trajectory(subject, 2, seed=0, steps=30)

    picture = Image.open(io.BytesIO(draw_strip(subject, found, "title")))

    rows, chosen = drawing["image_rows"]["rows"], evenly(30, 10)
    assert picture.mode == "RGB"
    assert drawing["image_rows"]["names"] == ["0, x_t", "predicted x_0", "1, x_t", "predicted x_0"]
    assert drawing["image_rows"]["captions"][-1][-2:] == [f"t = {found.timesteps[-1]:.0f}", "image"]
    for index in range(2):
        assert_close(rows[2 * index], to_pixels(found.samples[[*chosen, 30], index]))
        assert_close(rows[2 * index + 1], to_pixels(found.predictions[chosen, index]))


def test_an_animation_shows_every_step_and_ends_with_the_images(drawing):
    found = record_trajectory(of_memory(3), 2, seed=0, steps=5)

    movie = Image.open(io.BytesIO(animate(found, "title")))

    assert (movie.format, movie.n_frames) == ("GIF", 6)
    assert drawing["image_rows"]["title"] == "title\nimage"
    assert_close(drawing["image_rows"]["rows"][0], to_pixels(found.samples[-1]))


def test_a_long_trajectory_is_shown_in_few_frames():
    frames = Trajectory([0.0] * 200, torch.zeros(201, 1, 1, 2, 2), torch.zeros(200, 1, 1, 2, 2), None)

    assert len(evenly(201, 60)) == 60
    assert Image.open(io.BytesIO(animate(frames, "title"))).n_frames <= 60  # equal frames are joined


def test_the_name_of_the_file_says_whether_it_moves(repos, tmp_path):
    for name, kind in (("x.png", "PNG"), ("x.gif", "GIF"), ("y.GIF", "GIF")):
        assert Image.open(figure("trajectory", str(repos("ddpm-quick")), str(tmp_path / name))).format == kind


def test_a_row_of_the_forward_process_goes_from_an_image_to_noise(repos, tmp_path, drawing, held_out):
    figure("forward-process", str(repos("ddpm-quick")), str(tmp_path / "x.png"), count=2)

    rows, scheduler = drawing["image_rows"]["rows"], load_diffusion(str(repos("ddpm-quick"))).pipeline.scheduler
    assert drawing["image_rows"]["captions"][-1] == ["image", *(f"t = {t}" for t in evenly(20, 10))]
    for row, image in zip(rows, held_out.images, strict=False):
        assert_close(row[0], image / 255)
        assert_close(row[1], image / 255, rtol=0, atol=0.5)
    ends = [row[-1] for row in rows]
    assert 0.4 < ends[0].mean() < 0.6
    assert float(scheduler.alphas_cumprod[-1]) < 1e-4


def test_noise_is_added_as_the_scheduler_does():
    scheduler, x_0 = DDPMScheduler(), to_model_range(torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4))
    eps, timesteps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 500, 999])

    alpha, sigma = signal_and_noise(scheduler.alphas_cumprod, timesteps, like=x_0)
    found = alpha * x_0 + sigma * eps  # as in `forward-process`

    assert_close(found, scheduler.add_noise(x_0.expand(3, -1, -1, -1), eps.expand(3, -1, -1, -1), timesteps))


def test_the_curves_of_the_schedule_are_the_schedulers_own(repos, tmp_path, drawing):
    own = CosineDDPMScheduler(num_train_timesteps=50)

    signal, noise = schedule_panels({"ours": own, "linear": DDPMScheduler()})

    assert_close(noise.lines[0].y, own.betas.tolist())
    assert_close(signal.lines[0].y, own.alphas_cumprod.tolist())
    assert noise.lines[0].x[-1] == signal.lines[1].x[-1] == 1
    assert (noise.lines[1].y[0], noise.lines[1].y[-1]) == pytest.approx((1e-4, 0.02))  # Ho et al. 2020, Sec. 4
    assert [line.name for line in signal.lines] == ["ours, T = 50", "linear, T = 1,000"]
    figure("noise-schedule", str(repos("ddpm-quick")), str(tmp_path / "x.png"))
    assert len(drawing["chart"]["panels"]) == 2
