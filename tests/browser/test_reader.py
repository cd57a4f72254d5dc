"""Who reads a page: without a mouse, on a phone, in the dark, with an old browser, without a network."""

import numpy as np
import pages
import pytest
import torch
from pages import PUBLISHED, assert_shown

import genhub
from genhub.browser.write import write_models
from genhub.repository.format import RepositoryError

pytestmark = pytest.mark.slow
TAB, ENTER, SPACE, LEFT, RIGHT, DOWN = "\ue004", "\ue007", " ", "\ue012", "\ue014", "\ue015"
AUDIT = """
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [[r, 0.2126], [g, 0.7152], [b, 0.0722]].reduce((sum, [v, weight]) =>
  sum + weight * (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4), 0);
const backOf = (node) => {
  for (; node; node = node.parentElement) {
    const color = parse(getComputedStyle(node).backgroundColor);
    if ((color[3] ?? 1) > 0) return color;
  }
};
const contrast = (node) => {
  const [low, high] = [light(parse(getComputedStyle(node).color)), light(backOf(node))].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const isShown = (node) => node.checkVisibility();
const texts = [...document.querySelectorAll("body *")].filter((node) => isShown(node)
  && [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
const named = (node) => (node.ariaLabel ?? node.textContent).trim().length > 2;
return {
  width: document.documentElement.scrollWidth,
  back: backOf(document.body),
  faint: texts.filter((node) => contrast(node) < 4.5).map((node) => [node.outerHTML.slice(0, 90), contrast(node)]),
  unnamed: [...document.querySelectorAll("canvas, input, button, a")].filter((node) => !named(node))
    .map((node) => node.outerHTML),
};
"""


def tab_to(page, selector, limit=60):
    """Presses the tab key until what has the focus matches, and returns it; every stop shows that it has the focus."""
    from selenium.webdriver import ActionChains

    for _ in range(limit):
        ActionChains(page.browser).send_keys(TAB).perform()
        focused = page.browser.switch_to.active_element
        if focused.tag_name != "body":
            assert page.run("return getComputedStyle(arguments[0]).outlineStyle", focused) != "none"
        if page.run("return arguments[0].matches(arguments[1])", focused, selector):
            return focused
    raise AssertionError(f"{selector} cannot be reached")


def press(page, element, *keys):
    element.send_keys(*keys)
    page.wait_until_done()


def test_everything_can_be_done_with_the_keyboard_alone(build, serve):
    page = serve(build("conditional-dcgan", "conv-vae", "ddpm-few-step"))
    page.wait("document.querySelector('.card')")

    tab_to(page, "[data-model=conditional-dcgan]").send_keys(ENTER)
    page.wait_for("conditional-dcgan")
    press(page, tab_to(page, "[aria-label=Class] button:nth-child(2)"), SPACE)
    press(page, tab_to(page, "input[aria-label^=Truncation]"), *[LEFT] * 10)
    pipeline = genhub.AutoPipeline.from_pretrained(str(PUBLISHED / "conditional-dcgan"))
    latents = page.state("latents").view(-1, pipeline.generator.config["latent_channels"])
    expected = pipeline(latents=latents, class_labels=1, truncation=0.5, output_type="np")
    assert_shown(page.images(), expected.images)

    page.run("document.activeElement.blur()")
    tab_to(page, ".back").send_keys(ENTER)
    page.wait("document.activeElement.dataset.model === 'conditional-dcgan'")

    tab_to(page, "[data-model=conv-vae]").send_keys(ENTER)
    page.wait_for("conv-vae")
    press(page, tab_to(page, ".pad"), RIGHT, RIGHT, DOWN)
    assert page.state("latents").tolist() == [0.5, 0.25]
    before = page.state("input")
    press(page, tab_to(page, ".brush"), DOWN, SPACE)
    drawn = page.state("input")
    assert not torch.equal(drawn, before)
    pipeline = genhub.AutoPipeline.from_pretrained(str(PUBLISHED / "conv-vae"))
    rebuilt = pipeline.reconstruct((drawn.view(1, 1, 28, 28) + 1) / 2, output_type="np").images
    assert_shown(page.images(".row canvas.shown"), rebuilt)

    page.run("location.hash = 'ddpm-few-step'")
    page.wait_for("ddpm-few-step")
    before = page.images()
    press(page, tab_to(page, ".brush"), SPACE, *[RIGHT] * 3, SPACE)
    press(page, tab_to(page, "button.primary"), ENTER)
    mask = page.state("mask").view(28, 28).numpy().astype(bool)
    changed = np.abs(page.images() - before)[0].max(-1) > 1.5 * pages.LEVELS
    assert mask.any()
    assert changed[mask].any()
    assert not changed[~mask].any()
    page.check_quiet()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_all_is_named_legible_and_no_wider_than_the_window(width, theme, build, serve):
    names = ("conditional-dcgan", "ddpm-few-step", "conv-vae", "hashing-ae")
    page = serve(build(*names))
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.wait("document.querySelector('.card')")
        audits = [page.run(AUDIT)]
        for name in names:
            page.open(name)
            audits.append(page.run(AUDIT))
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for audit in audits:
        assert audit["width"] <= width
        assert audit["faint"] == []
        assert audit["unnamed"] == []
        assert (sum(audit["back"]) > 3 * 128) == (theme == "light")


def test_a_browser_without_webassembly_is_told_so(build, browser):
    folder, old = build("gan"), pages.start_browser("--js-flags=--jitless")
    try:
        with pages.served(folder) as address:
            old.get(address)
            assert old.find_element("id", "status").text == "This page needs a browser with WebAssembly."
            assert [entry for entry in old.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        old.quit()


def test_a_model_that_has_arrived_needs_no_network_and_another_one_says_that_it_does(build, serve):
    page = serve(build("gan", "conv-vae"))
    page.open("gan")
    before = page.images()
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.execute_cdp_cmd("Network.enable", {})
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", network | {"offline": True})
    try:
        page.press("New")
        assert np.abs(page.images() - before).max() > 0.5
        page.run("location.hash = 'conv-vae'")
        page.wait("document.querySelector('#status button')", is_failure=True)
        said = "graphs/conv-vae-encoder.onnx could not be fetched. Is the network there, and the server? Try again"
        assert page.find("#status").text == said
    finally:
        page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", network | {"offline": False})
    page.find("#status button").click()
    page.wait_for("conv-vae")


def test_two_models_of_other_sizes_and_colours_are_on_one_page(build, serve, tmp_path):
    torch.manual_seed(0)
    vae = genhub.ConvVAE(sample_size=(32, 24), in_channels=3, latent_channels=4, block_out_channels=(8, 8))
    with torch.no_grad():
        vae.to_pixels.weight.mul_(4)
    genhub.VAEPipeline(vae).save_pretrained(tmp_path / "colour")
    page = serve(build("gan", tmp_path / "colour"))
    for name, shape in (("gan", (28, 28)), ("colour", (32, 24)), ("gan", (28, 28))):
        page.open(name)
        assert page.images(".view canvas").shape[1:3] == shape
    page.open("colour")
    page.keys(".pad", RIGHT)
    latents = page.state("latents")[None]
    pipeline = genhub.AutoPipeline.from_pretrained(str(tmp_path / "colour"))
    assert_shown(page.images(".view canvas"), pipeline.decode(latents, output_type="np").images)
    page.check_quiet()


class Eigenvalues(genhub.DenseGenerator):
    """A generator with an operator that ONNX does not have."""

    def forward(self, latents, **arguments):
        square = latents[:, :, None] * latents[:, None]
        return super().forward(latents + torch.linalg.eigvalsh(square), **arguments)


def test_a_network_that_onnx_cannot_hold_is_refused_by_its_operator(tmp_path):
    pipeline = genhub.GANPipeline(Eigenvalues(latent_channels=4))
    with pytest.raises(RepositoryError, match="its operator aten._linalg_eigh has no graph"):
        write_models(tmp_path, {"odd": pipeline})
