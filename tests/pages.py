"""A page in a real Chromium, and what its canvases show; graphs are made once for each source and weights."""

import base64
import functools
import hashlib
import http.server
import json
import shutil
import threading
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from safetensors.torch import save

import genhub
from genhub.browser import write
from genhub.browser.runtime import VERSION
from genhub.commands.page import page
from genhub.graphs.write import to_files

ROOT = Path(genhub.__file__).parents[1]
PUBLISHED = ROOT / "model_cards"
CACHE = ROOT / ".cache"
RUNTIME = CACHE / f"onnxruntime-web-{VERSION}"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
LEVELS = 1 / 255  # a pixel may round otherwise
READ = """
const context = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
const toText = (data) => btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""));
return Array.from(document.querySelectorAll(arguments[0]), (c) => [c.height, c.width, toText(context(c))]);
"""


def start_browser(*arguments):
    """Returns a driver of headless Chromium that logs its console and its requests."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    usual = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900")
    for argument in (*usual, *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextmanager
def served(folder):
    """Serves a folder to this machine, and yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def _sources():
    """Returns the hash of all that decides what graph a network becomes, but its weights."""
    package = ROOT / "genhub"
    files = [package / "browser/models.py"]
    files += [path for room in ("graphs", "models", "pipelines") for path in sorted((package / room).glob("*.py"))]
    names = ("torch", "diffusers", "onnx", "onnxscript")
    return "".join(path.read_text(encoding="utf-8") for path in files) + "".join(version(name) for name in names)


def _to_files_once(name, graph, pipeline):
    """Does what `to_files` does, once."""
    digest = hashlib.sha256((name + _sources()).encode())
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            digest.update(str(part.config).encode() + save(dict(part.state_dict())))
    kept = CACHE / f"graphs/{digest.hexdigest()[:32]}.onnx"
    told = kept.with_suffix(".json")
    if not told.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        ((content, difference),) = to_files(name, graph, pipeline).values()
        kept.write_bytes(content)
        told.write_text(str(difference), encoding="utf-8")
    return {kept.name: (kept.read_bytes(), float(told.read_text(encoding="utf-8")))}


def build(names, folder, runtime):
    """Writes the page of published repositories, or of folders."""
    with mock.patch.object(write, "to_files", _to_files_once):
        return page([str(PUBLISHED / name) for name in names], folder, runtime)  # an absolute path stays itself


class Page:
    """A page that is open in a browser, and the panel of its model."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(address)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition, seconds=120, is_failure=False):
        end = time.monotonic() + seconds
        while not self.run(f"return {condition}"):
            problem = self.run("const s = document.getElementById('status'); return s?.className && s.textContent")
            assert is_failure or not problem, problem
            assert time.monotonic() < end, condition
            time.sleep(0.05)

    def wait_for(self, model):
        self.wait(f"document.querySelector('#panel').dataset.ready === {model!r}")
        self.wait_until_done()

    def wait_until_done(self):
        self.wait("document.querySelector('#panel').getAttribute('aria-busy') === 'false'")

    def open(self, model):
        """Opens a model from the gallery."""
        self.run("location.hash = ''")
        self.wait("document.body.dataset.view === 'gallery'")
        self.wait(f"""document.querySelector("[data-model='{model}']")""")
        self.find(f"[data-model='{model}']").click()
        self.wait_for(model)

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

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

        target = self.find(selector)
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
        self.find(selector).send_keys(*keys)
        self.wait_until_done()

    def check_quiet(self):
        """The console has no error, and every request was one to this page."""
        assert [entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"] == []
        sent = requests_of(self.browser)
        assert sent
        assert [url for url in sent if not url.startswith((self.address, "data:", "blob:"))] == []


def requests_of(browser):
    """Returns the addresses that were asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def assert_shown(shown, images):
    """Canvases show images (N, H, W, C) in [0, 1]."""
    images = np.broadcast_to(images, shown.shape)  # grey -> red, green and blue
    assert np.abs(shown - images).max() <= 1.5 * LEVELS
