"""Writes a page with models of each family, opens each in Chromium, and writes the table of docs/page.md: the bytes of
its graphs, and how soon after they have arrived the first image is there.

    python scripts/studies/page.py FOLDER
"""

import argparse
import os
import re
import statistics
import sys
from pathlib import Path

import torch

from genhub.utils.environment import device_name

ROOT = Path(__file__).parents[2]
GALLERY = ("gan", "gan-best", "progressive-gan", "stylegan", "ddpm-best", "ddpm-few-step", "latent-ddpm", "vae")
GALLERY += ("conditional-vae", "conv-vae", "conv-vae-mnist", "vae-best", "stacked-ae", "conv-ae", "denoising-ae")
GALLERY += ("sparse-kl-ae", "hashing-ae")
OPENINGS = 5  # of each model, on a page that was loaded anew


def main():
    """Writes the page into a new folder, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the page, empty or new")
    sys.path.append(str(ROOT / "tests"))
    import pages

    folder = pages.build(GALLERY, parser.parse_args().folder, pages.RUNTIME)
    browser = pages.start_browser()
    try:
        with pages.served(folder) as address:
            rows = [measure(pages.Page(browser, address), name) for name in GALLERY]
    finally:
        browser.quit()
    cores = len(os.sched_getaffinity(0))
    document = ROOT / "docs/page.md"
    text = re.sub(
        r"(?s)(<!-- times -->\n).*(<!-- /times -->)",
        lambda found: found[1] + table(rows, f"{device_name(torch.device('cpu'))}, {cores} core(s)") + found[2],
        document.read_text(encoding="utf-8"),
    )
    document.write_text(text, encoding="utf-8")


def measure(page, name: str) -> tuple[str, int, list[float]]:
    """Returns a model's name, the bytes of its graphs, and for each opening the milliseconds to the first image."""
    times = []
    for _ in range(OPENINGS):
        page.browser.get(page.address)
        page.open(name)
        times.append(page.state("milliseconds"))
    models = page.run("return fetch('models.json').then((response) => response.json())")
    (size,) = (model["bytes"] for model in models if model["name"] == name)
    return name, size, times


def table(rows: list[tuple[str, int, list[float]]], machine: str) -> str:
    """Returns the table, and the sentence that says how it was measured."""
    lines = ["| model | graphs, MB | first image, s | slowest, s |", "|---|---:|---:|---:|"]
    for name, size, times in rows:
        median, worst = statistics.median(times) / 1000, max(times) / 1000
        lines.append(f"| `{name}` | {size / 1e6:.1f} | {median:.2f} | {worst:.2f} |")
    total = sum(size for _, size, _ in rows) / 1e6
    said = f"{len(rows)} models, {total:.1f} MB. Median and slowest of {OPENINGS} openings, from the moment when the "
    said += "graphs have\narrived to the first image, in one thread of headless Chromium\n"
    return "\n".join([*lines, "", f"{said}({machine}).", ""])


if __name__ == "__main__":
    main()
