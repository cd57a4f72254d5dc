"""What a page shows in a real browser is what PyTorch makes of the same latents; nothing else is asked for."""

import base64
import json

import diffusers.schedulers.scheduling_lcm as lcm
import numpy as np
import pytest
import torch
from pages import PUBLISHED, assert_shown
from scipy.stats import binomtest

import genhub
from genhub.browser.runtime import FILES
from genhub.commands.page import blind
from genhub.repository.format import RepositoryError


def class_of(name):
    stored = json.loads((PUBLISHED / name / "model_index.json").read_text())["_class_name"]
    return stored if isinstance(stored, str) else stored[-1]  # [module, class]


NAMES = sorted(path.parent.name for path in PUBLISHED.glob("*/model_index.json"))
WITHOUT_PAGE = {"BoltzmannPipeline", "ImageClassificationPipeline", "StableDiffusionPipeline"}
REFUSED = {name for name in NAMES if class_of(name) in WITHOUT_PAGE} | {"linear-ae-pca"}  # of points
pytestmark = pytest.mark.slow


def shape_of(network):
    size = network.config["sample_size"]
    return (network.config["in_channels"], *((size, size) if isinstance(size, int) else size))


def check_gan(page, pipeline):
    labels = {"class_labels": 1} if page.has("Trouser") else {}
    truncation = {"truncation": 0.5} if page.slide("Truncation", 0.5) else {}
    if labels:
        page.press("Trouser")
    if pipeline.has_styles:
        noise = page.state("noise")[None]
        pipeline._noise = lambda count, generator: noise.expand(count, -1)  # that of the page
    latents = page.state("latents").view(-1, pipeline.generator.config["latent_channels"])
    assert_shown(page.images(), pipeline(latents=latents, output_type="np", **labels, **truncation).images)
    page.press("Interpolation")
    if truncation:
        page.slide("Truncation", 1)
    if pipeline.has_styles:
        noise = page.state("noise")[None]
        pipeline._noise = lambda count, generator: noise.expand(count, -1)
    latents = page.state("latents").view(-1, pipeline.generator.config["latent_channels"])
    between = pipeline.interpolate(latents[:1], latents[-1:], len(latents), output_type="np", **labels)
    assert_shown(page.images(), between.images)
    if pipeline.has_styles:
        page.press("Style mixing")
        noise = page.state("noise")[None]
        rows, columns = page.state("latents").view(2, 3, -1)
        assert_shown(page.images(), pipeline.mix(rows, columns, layers=(0, 2), output_type="np").images)


def check_diffusion(page, pipeline, monkeypatch):
    arguments = {}
    if page.has("Dress"):
        page.press("Dress")
        arguments["class_labels"] = 3
    if page.slide("Guidance", 2):
        arguments["guidance_scale"] = 2.0
    shape = (-1, pipeline.unet.config["in_channels"], *[pipeline.unet.config["sample_size"]] * 2)
    latents, seen = page.state("latents").view(shape), []

    def call(**more):
        draws = iter(
            [
                torch.tensor(d).view(shape)
                for d in page.run("return document.querySelector('#panel').state.draws.map((d) => d && [...d])")
                if d
            ]
        )
        monkeypatch.setattr(lcm, "randn_tensor", lambda *a, **k: next(draws))  # the noise that the page drew
        return pipeline(batch_size=len(latents), latents=latents, output_type="np", **arguments, **more).images

    def see(pipeline, step, t, tensors):
        seen.append(tensors["pred_original_sample"])
        return {}

    names = ("pred_original_sample",)
    images = call(callback_on_step_end=see, callback_on_step_end_tensor_inputs=names)
    assert_shown(page.images(), images)
    page.press("Predicted x_0")
    decoded = seen[-1] if pipeline.vae is None else pipeline._decode(seen[-1])
    assert_shown(page.images(), ((decoded + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).detach().numpy())
    page.press("Noisy image x_t")
    if pipeline.vae is None:
        page.drag(".brush", (0.3, 0.3), (0.5, 0.5), (0.7, 0.5))
        page.press("Repaint")
        mask = page.state("mask").view(1, *shape[1:])[:, :1].float()
        assert 0 < mask.mean() < 1
        image = (page.state("image").view(1, *shape[1:]) + 1) / 2
        shown = page.images()
        assert_shown(shown, call(image=image, mask_image=mask))
        known = mask[0, 0].numpy() == 0
        assert_shown(shown[:, known], np.broadcast_to(image[0].permute(1, 2, 0).numpy()[known], shown[:, known].shape))


def check_vae(page, pipeline):
    labels = {"class_labels": 1} if page.has("Trouser") else {}
    if labels:
        page.press("Trouser")
    page.drag(".pad", (0.5, 0.5), (0.7, 0.3))
    dragged = page.state("latents")
    assert dragged[0] > 0.5
    assert dragged[1] < -0.5
    page.keys(".pad", "\ue014")  # the right arrow
    latents = page.state("latents")
    assert torch.allclose(latents - dragged, torch.eye(len(latents))[0] / 4, atol=1e-5)
    assert_shown(page.images(".view canvas"), pipeline.decode(latents[None], output_type="np", **labels).images)
    page.drag(".brush", (0.2, 0.2), (0.8, 0.8))
    drawn = (page.state("input").view(1, *shape_of(pipeline.vae)) + 1) / 2
    rebuilt = pipeline.reconstruct(drawn, output_type="np", **labels).images
    assert_shown(page.images(".row canvas.shown"), rebuilt)


def check_autoencoder(page, pipeline):
    page.drag(".brush", (0.2, 0.2), (0.8, 0.8))
    page.slide("Noise", 0.5)
    image = (page.state("input").view(1, *shape_of(pipeline.autoencoder)) + 1) / 2
    clean, noisy, output = page.images(".row canvas")
    assert np.abs(clean - noisy).max() > 0.5
    assert_shown(output[None], pipeline.denoise(image, output_type="np").images)
    if not page.browser.find_elements("css selector", ".images canvas"):
        return
    stored = json.loads((page.folder / "examples.json").read_text())
    examples = torch.frombuffer(bytearray(base64.b64decode(stored["pixels"])), dtype=torch.uint8)
    examples = examples.view(-1, 1, *stored["shape"][1:]).float() / 255
    distances = page.state("distances").double()
    codes, query = pipeline.encode(examples).double(), pipeline.encode(image.clamp(0, 1)).double()
    if "hash" in pipeline.tasks:
        codes, query = codes.round(), query.round()
    expected = (codes - query).square().sum(1).sort().values[: len(distances)]
    assert torch.allclose(distances, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_a_page_cannot_run_is_refused_by_name(name, build, tmp_path):
    with pytest.raises(RepositoryError, match=f"{name} cannot run on a page"):
        build(name)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("name", sorted({*NAMES} - REFUSED))
def test_a_published_model_runs_in_the_browser_as_in_pytorch(name, build, serve, monkeypatch):
    folder = build(name)
    assert {file.name for file in (folder / "runtime").iterdir()} == {*FILES, "ABOUT.txt"}
    page = serve(folder)
    page.folder = folder
    page.wait_for(name)
    pipeline = genhub.AutoPipeline.from_pretrained(str(PUBLISHED / name))

    family = page.run("return fetch('models.json').then((r) => r.json()).then((m) => m[0].family)")
    check = {"gan": check_gan, "vae": check_vae, "autoencoder": check_autoencoder}.get(family)
    if check is None:
        check_diffusion(page, pipeline, monkeypatch)
    else:
        check(page, pipeline)
    page.check_quiet()


def test_the_blind_test_counts_right_answers(serve, tmp_path):
    page = serve(blind("sample", str(PUBLISHED / "gan"), tmp_path / "quiz"))
    page.wait("document.querySelector('#panel canvas')")
    real = json.loads((tmp_path / "quiz/pairs.json").read_text())["real"]

    for index, side in enumerate(real):
        chosen = side if index < 15 else 1 - side
        page.browser.find_elements("css selector", "main button")[chosen].click()

    data = page.run("return {...document.querySelector('#panel').dataset}")
    low, high = map(float, data["interval"].split())
    assert data["right"] == "15"
    assert (low, high) == pytest.approx(proportion_interval(15, 20), abs=1e-4)
    page.check_quiet()


def proportion_interval(right, count):
    return binomtest(right, count).proportion_ci(method="wilson")
