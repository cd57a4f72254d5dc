"""A demo by Gradio in a real browser: each tab is pressed, and shows what PyTorch makes."""

import io
import time
import urllib.request

import numpy as np
import pytest
import torch
from pages import PUBLISHED, assert_shown, requests_of
from PIL import Image

import genhub
from genhub.browser import app
from genhub.browser.write import examples

pytestmark = pytest.mark.slow
SOURCES = "return [...document.querySelectorAll(\"[role='tabpanel']\")].filter((panel) => panel.checkVisibility())"
SOURCES += (
    ".flatMap((panel) => [...panel.querySelectorAll('.grid-container img, .preview img')].map((image) => image.src))"
)


class Demo:
    """A demo that is open in a browser."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(address)

    def find(self, path):
        """Returns what is shown at a path of XML."""
        end = time.monotonic() + 60
        while True:
            shown = [element for element in self.browser.find_elements("xpath", path) if element.is_displayed()]
            if shown:
                return shown[0]
            assert time.monotonic() < end, path
            time.sleep(0.1)

    def click(self, path):
        """Clicks what is at a path of XML, once nothing covers it."""
        from selenium.common.exceptions import ElementClickInterceptedException

        for _ in range(600):
            try:
                return self.find(path).click()
            except ElementClickInterceptedException:
                time.sleep(0.1)
        raise AssertionError(f"{path} is covered")

    def open(self, tab):
        self.click(f"//button[@role='tab'][normalize-space()={tab!r}]")

    def fill(self, label, value):
        from selenium.webdriver import Keys

        field = self.find(f"//input[@aria-label={label!r} or @aria-label='number input for {label}']")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(value, Keys.TAB)

    def upload(self, path):
        end = time.monotonic() + 60
        while not (
            fields := [f for f in self.browser.find_elements("css selector", "input[type=file]") if self.near(f)]
        ):
            assert time.monotonic() < end
            time.sleep(0.1)
        fields[0].send_keys(str(path))
        self.find("//img[contains(@src, '/file=')]")

    def near(self, field):
        script = "return arguments[0].closest(\"[role='tabpanel']\")?.checkVisibility()"
        return self.browser.execute_script(script, field)

    def press(self, tab, count):
        """Presses the button of a tab and returns its images, (N, H, W, 3) in [0, 1], as small as they were made."""
        self.click(f"//button[not(@role='tab')][normalize-space()={tab!r}]")
        end = time.monotonic() + 120
        while len(sources := list(dict.fromkeys(self.browser.execute_script(SOURCES)))) != count:
            assert time.monotonic() < end, sources
            time.sleep(0.1)
        images = [Image.open(io.BytesIO(urllib.request.urlopen(source).read())).convert("RGB") for source in sources]
        small = [image.resize((image.width // app.SCALE, image.height // app.SCALE), 0) for image in images]
        return np.stack([np.asarray(image) for image in small]) / 255

    def check_quiet(self):
        """The console has no error, and every request was one to this machine."""
        assert [entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"] == []
        assert [url for url in requests_of(self.browser) if not url.startswith((self.address, "data:", "blob:"))] == []


@pytest.fixture
def show(browser):
    pytest.importorskip("gradio", reason="needs gradio")
    running = []

    def start(name):
        pipeline = genhub.AutoPipeline.from_pretrained(str(PUBLISHED / name))
        built = app.build(pipeline, name, [Image.fromarray(image.numpy()) for image in examples()])
        _, address, _ = built.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
        running.append(built)
        return pipeline, Demo(browser, address)

    yield start
    for built in running:
        built.close()


@pytest.fixture
def test_image(tmp_path):
    Image.fromarray(examples()[0].numpy()).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_a_plane_and_a_reconstruction_of_a_vae_are_shown(show, test_image):
    pipeline, demo = show("conv-vae")

    demo.open("Plane")
    demo.fill("x", "1.5")
    shown = demo.press("Plane", 1)
    assert_shown(shown, pipeline.decode(torch.tensor([[1.5, 0.0]]), output_type="np").images)

    demo.open("Reconstruct")
    demo.upload(test_image)
    image, rebuilt = demo.press("Reconstruct", 2)
    assert_shown(image[None, ..., :1], examples()[:1, ..., None].numpy() / 255)
    assert_shown(rebuilt[None], pipeline.reconstruct(Image.open(test_image), output_type="np").images)
    demo.check_quiet()


def test_images_are_searched_by_their_hashes(show, test_image):
    pipeline, demo = show("hashing-ae")

    demo.open("Search")
    demo.upload(test_image)
    shown = demo.press("Search", app.FOUND)

    images = examples()[:, None] / 255
    pipeline.index(images)
    found = pipeline.search(images[:1], num_images=app.FOUND).indices[0]
    assert_shown(shown, images[found].permute(0, 2, 3, 1).numpy())
    demo.check_quiet()
