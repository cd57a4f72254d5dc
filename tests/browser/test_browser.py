"""What a page shows in a real browser is what PyTorch makes of the same latents; nothing else is asked for."""

import base64
import functools
import http.server
import json
import shutil
import threading
import time
from pathlib import Path

import diffusers.schedulers.scheduling_lcm as lcm
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from scipy.stats import binomtest

import genhub
from genhub.browser.runtime import FILES, VERSION
from genhub.browser.runtime import runtime as fetch_runtime
from genhub.commands.page import blind

PUBLISHED = Path(genhub.__file__).parents[1] / "model_cards"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
REFUSED = {"linear-ae-pca", "pretrained-classifier", "text-to-image"}  # points, a classifier, a text encoder
NAMES = sorted(path.parent.name for path in PUBLISHED.glob("*/model_index.json"))
LEVELS = 1 / 255  # a pixel may round otherwise
READ = """
const context = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
const toText = (data) => btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""));
return Array.from(document.querySelectorAll(arguments[0]), (c) => [c.height, c.width, toText(context(c))]);
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and its driver"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


class Page:
    """A page that is open in a browser, and the panel of its model."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(address)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition, seconds=120):
        end = time.monotonic() + seconds
        while not self.run(f"return {condition}"):
            problem = self.run("const s = document.getElementById('status'); return s.className && s.textContent")
            assert not problem, problem
            assert time.monotonic() < end, condition
            time.sleep(0.05)

    def wait_until_done(self):
        self.wait("document.querySelector('#panel').getAttribute('aria-busy') === 'false'")

    def press(self, text):
        by_text = "xpath", f"//main//button[normalize-space()={text!r}]"
        self.browser.find_element(*by_text).click()
        self.wait_until_done()

    def has(self, text):
        return bool(self.browser.find_elements("xpath", f"//main//button[normalize-space()={text!r}]"))

    def slide(self, title, value):
        script = (
            "const input = document.querySelector(`input[aria-label^='${arguments[0]}']`); if (!input) return false;"
        )
        script += "input.value = arguments[1]; input.dispatchEvent(new Event('input')); return true;"
        found = self.run(script, title, value)
        self.wait_until_done()
        return found

    def state(self, name):
        value = self.run(f"const v = document.querySelector('#panel').state.{name}; return v && v.length ? [...v] : v")
        return torch.tensor(value) if isinstance(value, list) else value

    def images(self, selector=".images canvas"):
        """Returns what canvases show, (N, H, W, 3) in [0, 1]."""
        read = self.run(READ, selector)
        pixels = [np.frombuffer(base64.b64decode(data), np.uint8).reshape(h, w, 4) for h, w, data in read]
        return np.stack(pixels)[..., :3] / 255

    def drag(self, selector, start, *path):
        from selenium.webdriver import ActionChains

        target = self.browser.find_element("css selector", selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", target)
        width, height = target.rect["width"], target.rect["height"]
        chain = ActionChains(self.browser, duration=20)
        offsets = [(round((x - 0.5) * width), round((y - 0.5) * height)) for x, y in (start, *path)]
        chain.move_to_element_with_offset(target, *offsets[0]).click_and_hold()
        for x, y in offsets[1:]:
            chain.move_to_element_with_offset(target, x, y)
        chain.release().perform()
        self.wait_until_done()

    def keys(self, selector, *keys):
        self.browser.find_element("css selector", selector).send_keys(*keys)
        self.wait_until_done()

    def check_quiet(self):
        """The console has no error, and every request was one to this page."""
        assert [entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"] == []
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        assert sent
        assert [url for url in sent if not url.startswith((self.address, "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def runtime():
    """The folder of ONNX Runtime Web, fetched once into this clone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENHUB_CACHE", str(PUBLISHED.parent / ".cache"))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        try:
            fetch_runtime()
        except ValueError as error:
            pytest.skip(f"needs the npm registry once: {error}")
    return PUBLISHED.parent / f".cache/onnxruntime-web-{VERSION}"


@pytest.fixture
def serve(browser):
    servers = []

    def open_page(folder):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return Page(browser, f"http://127.0.0.1:{server.server_port}/")

    yield open_page
    for server in servers:
        server.shutdown()
        server.server_close()


def assert_shown(shown, images):
    """Canvases show images (N, H, W, C) in [0, 1]."""
    images = np.broadcast_to(images, shown.shape)  # grey -> red, green and blue
    assert np.abs(shown - images).max() <= 1.5 * LEVELS


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
    assert_shown(page.images(".results > canvas"), pipeline.decode(latents[None], output_type="np", **labels).images)
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


@pytest.mark.parametrize("name", NAMES)
def test_a_published_model_runs_in_the_browser_as_in_pytorch(name, runtime, serve, tmp_path, monkeypatch):
    folder = tmp_path / "site"
    if name in REFUSED:
        with pytest.raises(ValueError, match="cannot run on a page"):
            genhub.page([str(PUBLISHED / name)], folder, runtime)
        assert not folder.exists()
        return
    genhub.page([str(PUBLISHED / name)], folder, runtime)
    assert {file.name for file in (folder / "runtime").iterdir()} == {*FILES, "ABOUT.txt"}

    page = serve(folder)
    page.folder = folder
    page.wait(f"document.querySelector('#panel').dataset.ready === {name!r}")
    page.wait_until_done()
    pipeline = genhub.AutoPipeline.from_pretrained(str(PUBLISHED / name))

    assert page.run("return document.querySelector('#panel').state.milliseconds") < 2000
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


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_a_phone(width, runtime, serve, tmp_path):
    names = ("gan", "conv-vae", "hashing-ae")
    page = serve(genhub.page([str(PUBLISHED / name) for name in names], tmp_path / "site", runtime))
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for name in names:
            page.wait(f"""document.querySelector("[data-model='{name}']")""")
            page.browser.find_element("css selector", f"[data-model='{name}']").click()
            page.wait(f"document.querySelector('#panel').dataset.ready === {name!r}")
            assert page.run("return document.documentElement.scrollWidth") <= width
            unnamed = "return [...document.querySelectorAll('canvas')].filter((c) => !c.ariaLabel).length"
            assert page.run(unnamed) == 0
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
