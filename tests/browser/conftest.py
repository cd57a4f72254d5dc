"""A browser and the runtime of a page, for the tests of this folder."""

from contextlib import ExitStack

import pages
import pytest
from huggingface_hub import constants

from genhub.browser.runtime import runtime as fetch_runtime


@pytest.fixture(scope="session")
def browser():
    pytest.importorskip("selenium", reason="needs selenium")
    if not (pages.CHROMIUM and pages.DRIVER):
        pytest.skip("needs Chromium and its driver")
    driver = pages.start_browser()
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def runtime():
    """The folder of ONNX Runtime Web, fetched once into this clone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENHUB_CACHE", str(pages.CACHE))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        try:
            fetch_runtime()
        except ValueError as error:
            pytest.skip(f"needs the npm registry once: {error}")
    return pages.RUNTIME


@pytest.fixture
def serve(browser):
    """Serves a folder and returns its page, open in the browser."""
    with ExitStack() as stack:
        yield lambda folder: pages.Page(browser, stack.enter_context(pages.served(folder)))


@pytest.fixture
def build(runtime, tmp_path):
    """Writes the page of published repositories, whose names it takes, and returns its folder."""
    return lambda *names: pages.build(names, tmp_path / "site", runtime)
